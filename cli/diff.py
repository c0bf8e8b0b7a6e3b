"""`zoo diff`: what two inputs, or an input and a checkpoint, mean differently."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.output import Output

if TYPE_CHECKING:
    from schemas.semantic_diff import Change, Meaning

_CHECKPOINTS = (".pt", ".pth")
_ZIP = b"PK\x03\x04"
_LONGEST = 60
_MARKS = {"weights": "*", "function": "!"}
_MEANING = {
    "weights": "another architecture: weights of one do not fit the other",
    "function": "another function of the same weights",
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="diff")(diff)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Input file or checkpoint.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Input file or checkpoint.")],
    branch: Annotated[
        str | None,
        typer.Option("--branch", metavar="NAME", help="Compare this branch of files with several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare what two files mean. Exit code: 0 the same, 1 different, 2 could not try."""
    from schemas.errors import ConfigError
    from schemas.semantic_diff import branch_of, differences

    out = Output(json_mode=as_json)
    meanings = [_read(name, out) for name in (first, second)]
    try:
        if branch is not None:
            meanings = [branch_of(item, branch) if item.has_branches else item for item in meanings]
        found = differences(*meanings)
    except ConfigError as error:
        _give_up(error.message, error.hint)
    _show(found, meanings, out)
    out.result(_document(found, meanings))
    if found:
        raise typer.Exit(1)


def _read(name: str, out: Output) -> "Meaning":
    """Return what a file says; its faults end the command."""
    from cli.render import render
    from schemas.check import check_file
    from schemas.errors import ConfigError
    from schemas.semantic_diff import meaning_of_checkpoint, meaning_of_input

    if _is_checkpoint(name):
        from zoo.checkpoint_file import read_header

        try:
            header = read_header(name)
            return meaning_of_checkpoint(name, header.model_params, header.settings)
        except ConfigError as error:
            _give_up(f"{name}: {error.message}", error.hint)
    report = check_file(name)
    if report.config is not None and report.ok:
        return meaning_of_input(name, report.config)
    for line in render(report, "full"):
        out.info(line)
    faults = [item.document() for item in report.diagnostics]
    out.result({"ok": False, "file": name, "diagnostics": faults})
    raise typer.Exit(2)


def _is_checkpoint(name: str) -> bool:
    from schemas.special_files import special_kind

    if name.endswith(_CHECKPOINTS):
        return True
    if special_kind(name) is not None:
        return False  # a text from a pipe, `<(...)`, can be read once only
    with Path(name).open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _give_up(message: str, hint: str | None) -> NoReturn:
    """Say why there is no answer; the exit code becomes 2."""
    from schemas.errors import ZooError

    raise ZooError(message, hint=hint)


def _show(found: "list[Change]", meanings: "list[Meaning]", out: Output) -> None:
    if not found:
        out.text("no difference")
        return
    groups: dict[str, list[Change]] = {}
    for item in found:
        groups.setdefault(item.section, []).append(item)
    for section, changes in groups.items():
        out.text(section or "at the top")
        for item in changes:
            mark = _MARKS.get(item.effect, " ")
            out.text(f"  {mark} {item.path[-1]}: {_value(item.ours)} -> {_value(item.theirs)}")
    out.text(f"{len(found)} differences between {meanings[0].name} and {meanings[1].name}")
    for effect, mark in _MARKS.items():
        if any(item.effect == effect for item in found):
            out.text(f"{mark} {_MEANING[effect]}")


def _value(value: Any) -> str:
    """Return a value on one line, shortened."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _document(found: "list[Change]", meanings: "list[Meaning]") -> dict[str, Any]:
    with_checkpoint = any(item.is_checkpoint for item in meanings)
    return {
        "ok": True,
        "files": [item.name for item in meanings],
        "same": not found,
        "differences": [
            {
                "path": list(item.path),
                "first": item.ours,
                "second": item.theirs,
                "architecture": item.is_architecture,
            }
            | ({"effect": item.effect} if with_checkpoint else {})
            for item in found
        ],
    }
