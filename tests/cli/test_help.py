"""The surface of the program: every command, its options and their texts.

`python -m tests.cli.test_help` writes `help.txt` anew; a change of it is a change users see. It is
taken from the commands themselves and not from a printed page, whose form is Typer's.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli.main import app

RECORDED = Path(__file__).with_name("help.txt")


def _commands(command: Any, words: tuple[str, ...] = ("zoo",)) -> Iterator[tuple[str, Any]]:
    yield " ".join(words), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


def _parameter(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    facts = [parameter.metavar] if parameter.metavar else []
    facts += ["required"] if parameter.required else []
    facts += ["several"] if parameter.multiple or parameter.nargs == -1 else []
    facts += [f"flag {parameter.default}"] if getattr(parameter, "is_flag", False) else []
    if isinstance(parameter.default, str | int | float) and parameter.default is not False:
        facts.append(f"default {getattr(parameter.default, 'value', parameter.default)}")
    return (
        f"  {names}  {'; '.join(facts)}".rstrip()
        + f"\n      {getattr(parameter, 'help', None) or ''}"
    )


def surface() -> str:
    """Return commands, parameters, defaults and texts, in the order in which they are shown."""
    parts = []
    for words, command in _commands(typer.main.get_command(app)):
        ours = [one for one in command.params if not one.name.endswith("_completion")]
        lines = [f"$ {words}", inspect.cleandoc(command.help or "")]
        parts.append("\n".join([*lines, *map(_parameter, ours)]))
    return "\n\n".join(parts) + "\n"


def test_every_command_has_the_options_and_texts_that_were_recorded():
    assert surface() == RECORDED.read_text()


if __name__ == "__main__":
    RECORDED.write_text(surface())
