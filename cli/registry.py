"""`zoo registry`: registries of your own, beside the one that comes with the program."""

from typing import Annotated

import typer

from cli.options import Json, complete_registry
from cli.output import Output

_app = typer.Typer(
    no_args_is_help=True,
    help="Registries of your own: files or addresses that name more models. They are asked first, "
    "in the order in which they were added; the built-in one is asked last.",
)
_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A registry.", autocompletion=complete_registry)
]


@_app.command()
def add(
    location: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A registry.yaml, its folder or its address.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; else after folder or host.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Allow plain http to another machine, for it and its files (`zoo serve`).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a registry behind those added before.

    Example: zoo registry add https://models.example.org/registry.yaml --name group
    """
    from zoo.known_models import known_models
    from zoo.registry import add as add_registry

    out = Output(json_mode=as_json)
    added = add_registry(location, name=name, insecure=insecure)
    models = known_models().models
    own = [known for known in models if known.registry == added.name]
    hides = [known for known in models if known.shadowed_by == added.name]
    out.result(
        {
            "ok": True,
            "name": added.name,
            "location": added.location,
            "models": [known.model.reference for known in own],
            "shadows": [f"{known.registry}: {known.model.reference}" for known in hides],
        }
    )
    out.text(f"{added.name}: {_count(len(own), 'model')} of {added.location}")
    for known in hides:
        out.warning(
            f"`{known.model.reference}` now means the model of {added.name}, not the one of "
            f"{known.registry}"
        )
    out.info("see them: zoo list")


@_app.command(name="list")
def list_registries(as_json: Json = False) -> None:
    """List the registries in the order in which they are asked."""
    from zoo.known_models import known_models
    from zoo.registry import BUILT_IN, built_in_path, user_registries

    out = Output(json_mode=as_json)
    everything = known_models()
    for fault in everything.faults:
        out.warning(fault.message)
    places = [(registry.name, registry.location) for registry in user_registries()]
    places.append((BUILT_IN, str(built_in_path())))
    entries, rows = [], []
    for name, location in places:
        models = [known for known in everything.models if known.registry == name]
        shadowed = [known.model.reference for known in models if known.shadowed_by]
        entries.append(
            {"name": name, "location": location, "models": len(models), "shadowed": shadowed}
        )
        rows.append([name, str(len(models)), ", ".join(shadowed), location])
    out.result({"ok": True, "registries": entries})
    out.plain_table(("registry", "models", "shadowed", "location"), rows)


@_app.command()
def remove(name: _Name, as_json: Json = False) -> None:
    """Forget a registry; files of its models stay where they are."""
    from zoo.registry import remove as remove_registry

    out = Output(json_mode=as_json)
    removed = remove_registry(name)
    out.result({"ok": True, "name": removed.name, "location": removed.location})
    out.text(f"{removed.name} is forgotten ({removed.location})")


@_app.command()
def update(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only this one.", autocompletion=complete_registry),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch registries at addresses again; a copy is replaced only by one without faults."""
    from zoo.registry import update as update_registries

    out = Output(json_mode=as_json)
    done = []
    for registry, changed in update_registries(name):
        done.append({"name": registry.name, "changed": changed})
        if registry.is_remote:
            out.text(f"{registry.name}: {'changed' if changed else 'as before'}")
        else:
            out.text(f"{registry.name}: a file, read whenever it is needed")
    out.result({"ok": True, "registries": done})
    if not done:
        out.text("you have no registries; the built-in one comes with the program")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def register_registry(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(_app, name="registry")
