"""`zoo list`: the pretrained models that are known by name."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json
from cli.output import Output

if TYPE_CHECKING:
    from zoo.known_models import KnownModel
    from zoo.local_copies import LocalCopy


def list_models(
    family: Annotated[
        str | None, typer.Option("--family", help="Only models of this family, such as DPA-2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the pretrained models of all registries; nothing is asked over the network.

    Example: zoo list --family DPA-2
    """
    from cli.model_facts import document
    from zoo.known_models import known_models
    from zoo.local_copies import local_copy

    out = Output(json_mode=as_json)
    everything = known_models()
    for fault in everything.faults:
        out.warning(fault.message)
    shown = [known for known in everything.models if family is None or known.model.is_of(family)]
    if family is not None and not shown:
        raise _unknown_family(family, [known.model.family for known in everything.models])
    found = [(known, local_copy(known)) for known in shown]
    out.result({"ok": True, "models": [document(known, local) for known, local in found]})
    if not as_json:
        _show(out, found)


def _show(out: Output, found: "list[tuple[KnownModel, LocalCopy | None]]") -> None:
    from cli.model_facts import known_size, num_branches, shown_size

    several = len({known.registry for known, _ in found}) > 1
    columns = ["name", "family", "trained here", "branches", "size", "where"]
    rows = []
    for known, local in found:
        model = known.model
        row = [
            ", ".join([model.reference, *([] if model.revision else model.aliases[:1])]),
            model.family,
            "yes" if model.trainable else "no",
            str(num_branches(model) or "?"),
            shown_size(known_size(known, local)),
            local.where if local else "remote",
        ]
        if several:
            by = f" (shadowed by {known.shadowed_by})" if known.shadowed_by else ""
            row.append(known.registry + by)
        rows.append(row)
    out.plain_table([*columns, "registry"] if several else columns, rows)
    out.info("more about one: zoo show MODEL; get it: zoo pull MODEL")


def _unknown_family(family: str, families: list[str]) -> Exception:
    from schemas.errors import RegistryError
    from schemas.suggest import did_you_mean

    known = sorted(set(families))
    return RegistryError(f"no model is of the family `{family}`", hint=did_you_mean(family, known))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="list")(list_models)
