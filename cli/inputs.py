"""`zoo explain`, `zoo diff` and `zoo lsp`: what inputs mean and how they differ."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli.output import DocumentOutput, JsonOutput, Output
from schemas.base.errors import ConfigError, ZooError

if TYPE_CHECKING:
    from schemas.explain import Entry, Key
    from schemas.input.differences import Change, Meaning


def explain(
    *,
    topic: Annotated[
        str | None,
        Argument(
            metavar="[CODE|KEY]", help="ZOO102, or a key such as model.descriptor.repformer.nsel."
        ),
    ] = None,
    out: JsonOutput,
) -> None:
    """Explain a diagnostic's code or a key of an input; without either, list the sections.

    Example: zoo explain model.descriptor.repformer.nsel
    """
    from schemas.explain import entries, explain_path

    entry = entries().get(topic.strip().upper()) if topic else None
    if entry is not None:
        out.result(entry.document())
        _print_entry(out, entry)
        return
    key = explain_path(topic or "")
    if key is None:
        raise _unknown(topic or "")
    out.result(key.document())
    _print_key(out, key)


def _unknown(topic: str) -> Exception:
    from schemas.explain import nearest_code, suggestions

    is_code = topic[:3].upper() == "ZOO"
    near = [nearest_code(topic)] if is_code else suggestions(topic)
    shown = " or ".join(f"`{item}`" for item in near if item)
    hint = f"did you mean {shown}?" if shown else "`zoo explain` lists the sections"
    return ConfigError(f"there is no code or key `{topic}`", hint=hint)


def _print_entry(out: Output, entry: "Entry") -> None:
    out.text(f"{entry.code}: {entry.meaning}")
    for title, text in (("Why", entry.why), ("Example", entry.example()), ("Fix", entry.fix)):
        out.text(f"\n{title}")
        for line in text.splitlines():
            out.text(f"  {line}")


def _print_key(out: Output, key: "Key") -> None:
    out.text(f"{key.path or 'input'}: {key.effect}")
    rows = {
        "type": key.type if not key.keys else None,
        "default": key.default or ("none: the key is required" if key.required else None),
        "unit": key.unit,
        "only for": f"type {key.only_for}" if key.only_for else None,
        "also called": ", ".join(key.aliases) or None,
    }
    for title, value in rows.items():
        if value is not None and key.path:
            out.text(f"  {title:<12} {value}")
    if key.keys:
        out.text()
    width = max((len(item.path.rpartition(".")[2]) for item in key.keys), default=0)
    for item in key.keys:
        name = item.path.rpartition(".")[2]
        default = "required" if item.required else item.default or ""
        out.text(f"  {name:<{width}}  {default:<16}  {item.effect}")


_CHECKPOINTS = (".pt", ".pth")
_ZIP = b"PK\x03\x04"
_LONGEST = 60
_MARKS = {"weights": "*", "function": "!"}
_MEANING = {
    "weights": "another architecture: weights of one do not fit the other",
    "function": "another function of the same weights",
}


def diff(
    *,
    first: Annotated[str, Argument(metavar="A", help="Input file or checkpoint.")],
    second: Annotated[str, Argument(metavar="B", help="Input file or checkpoint.")],
    branch: Annotated[
        str | None,
        Option("--branch", metavar="NAME", help="Compare this branch of files with several."),
    ] = None,
    out: DocumentOutput,
) -> None:
    """Compare what two files mean. Exit code: 0 the same, 1 different, 2 could not try."""
    from schemas.input.differences import branch_of, differences

    meanings = [_read(name, out) for name in (first, second)]
    try:
        if branch is not None:
            meanings = [branch_of(item, branch) if item.has_branches else item for item in meanings]
        found = differences(*meanings)
    except ConfigError as error:
        raise ZooError(error.message, hint=error.hint) from error
    _show(found, meanings, out)
    out.result(_document(found, meanings))
    if found:
        raise typer.Exit(1)


def _read(name: str, out: Output) -> "Meaning":
    """Return what a file says; its faults end the command."""
    from cli.render import refuse
    from schemas.check.input_file import check_file
    from schemas.input.differences import meaning_of_checkpoint, meaning_of_input

    if _is_checkpoint(name):
        from schemas.checkpoint.header import read_header

        try:
            header = read_header(name)
            return meaning_of_checkpoint(name, header.model_params, header.settings)
        except ConfigError as error:
            raise ZooError(f"{name}: {error.message}", hint=error.hint) from error
    report = check_file(name)
    if report.config is None or not report.ok:
        refuse(report, out, code=2)
    return meaning_of_input(name, report.config)


def _is_checkpoint(name: str) -> bool:
    from schemas.base.foreign_files import special_kind

    if name.endswith(_CHECKPOINTS):
        return True
    if special_kind(name) is not None:
        return False  # a text from a pipe, `<(...)`, can be read once only
    with Path(name).open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


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


def lsp() -> None:
    """Serve an editor over standard input and output (Language Server Protocol)."""
    if importlib.util.find_spec("pygls") is None:
        raise ConfigError(
            "the language server needs the package pygls, which is not installed",
            hint="install it: pip install 'dpa-zoo[lsp]'",
        )
    from cli.language_server import create_server

    create_server().start_io()
