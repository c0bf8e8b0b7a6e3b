"""`zoo explain`: what a code or a key of an input means."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json
from cli.output import Output

if TYPE_CHECKING:
    from schemas.manual.codes import Entry
    from schemas.manual.keys import Key


def explain(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE|KEY]", help="ZOO102, or a key such as model.descriptor.repformer.nsel."
        ),
    ] = None,
    json_mode: Json = False,
) -> None:
    """Explain a diagnostic's code or a key of an input; without either, list the sections.

    Example: zoo explain model.descriptor.repformer.nsel
    """
    from schemas.manual.codes import entries
    from schemas.manual.keys import explain_path

    output = Output(json_mode=json_mode)
    entry = entries().get(topic.strip().upper()) if topic else None
    if entry is not None:
        output.result(entry.document())
        _print_entry(output, entry)
        return
    key = explain_path(topic or "")
    if key is None:
        raise _unknown(topic or "")
    output.result(key.document())
    _print_key(output, key)


def _unknown(topic: str) -> Exception:
    from schemas.errors import ConfigError
    from schemas.manual.codes import nearest_code
    from schemas.manual.keys import suggestions

    if topic[:3].upper() == "ZOO":
        best = nearest_code(topic)
        near = [best] if best else []
    else:
        near = suggestions(topic)
    shown = " or ".join(f"`{item}`" for item in near)
    hint = f"did you mean {shown}?" if near else "`zoo explain` lists the sections"
    return ConfigError(f"there is no code or key `{topic}`", hint=hint)


def _print_entry(output: Output, entry: "Entry") -> None:
    output.text(f"{entry.code}: {entry.meaning}")
    for title, text in (("Why", entry.why), ("Example", entry.example()), ("Fix", entry.fix)):
        output.text(f"\n{title}")
        for line in text.splitlines():
            output.text(f"  {line}")


def _print_key(output: Output, key: "Key") -> None:
    output.text(f"{key.path or 'input'}: {key.effect}")
    rows = {
        "type": key.type if not key.keys else None,
        "default": key.default or ("none: the key is required" if key.required else None),
        "unit": key.unit,
        "only for": f"type {key.only_for}" if key.only_for else None,
        "also called": ", ".join(key.aliases) or None,
    }
    for title, value in rows.items():
        if value is not None and key.path:
            output.text(f"  {title:<12} {value}")
    if key.keys:
        output.text()
    width = max((len(item.path.rpartition(".")[2]) for item in key.keys), default=0)
    for item in key.keys:
        name = item.path.rpartition(".")[2]
        default = "required" if item.required else item.default or ""
        output.text(f"  {name:<{width}}  {default:<16}  {item.effect}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("explain")(explain)
