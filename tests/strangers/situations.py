"""Situations that other people's files bring, each told beside the test that holds its answer.

`python -m tests.strangers.situations` writes the table of all of them, README.md in this folder.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOLDER = Path(__file__).parent
TABLE = FOLDER / "README.md"
_HEAD = """# What other people's files bring

Written by `python -m tests.strangers.situations` from the tests of this folder.

| source | situation | right answer | test |
|---|---|---|---|
"""


class Situation(NamedTuple):
    """A row of the table."""

    source: str
    happened: str
    answer: str
    test: str


def situation(row: str) -> pytest.MarkDecorator:
    """Mark a test as the answer to a situation.

    Args:
        row: A literal, as the table is read from the text: where such files or states come from (a
            program, a tracker, a format's definition) | what is in the file or what the user did |
            what is right.
    """
    return pytest.mark.situation(*_cells(row))


def _cells(row: str) -> list[str]:
    """Return source, situation and answer of a row; its lines may be broken anywhere."""
    return " ".join(row.split()).rsplit(" | ", 2)


def case(row: str, *values: object, id: str | None = None) -> Any:  # noqa: A002
    """Return the values of a test that is parametrised, as the answer to a situation."""
    return pytest.param(*values, id=id, marks=situation(row))


def situations() -> Iterator[Situation]:
    """Yield the situations of every test of this folder, in the order of the text."""
    for path in sorted(FOLDER.glob("test_*.py")):
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            for node in ast.walk(item):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in {situation.__name__, case.__name__}
                ):
                    name = getattr(item, "name", path.stem)
                    yield Situation(*_cells(ast.literal_eval(node.args[0])), name)


def table() -> str:
    """Return the text of README.md."""
    rows = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in situations())
    return _HEAD + "".join(f"| {row} |\n" for row in rows)


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
