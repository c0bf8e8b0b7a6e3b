"""`zoo registry`: registries of your own, beside the one that comes with the program."""

from typing import Annotated

from typer import Argument, Option

from cli.catalog import models_of_all_registries
from cli.command import Document
from cli.options import complete_registry
from cli.output import JsonOutput


def add(
    *,
    location: Annotated[
        str, Argument(metavar="FILE|URL", help="A registry.yaml, its folder or its address.")
    ],
    name: Annotated[
        str | None, Option("--name", help="What to call it; else after folder or host.")
    ] = None,
    insecure: Annotated[
        bool,
        Option(
            "--insecure",
            help="Allow plain http to another machine, for it and its files (`zoo serve`).",
        ),
    ] = False,
    out: JsonOutput,
) -> Document:
    """Add a registry behind those added before.

    Example: zoo registry add https://models.example.org/registry.yaml --name group
    """
    from zoo.known_models import known_models
    from zoo.registry import add as add_registry

    added = add_registry(location, name=name, insecure=insecure)
    models = known_models().models
    own = [known for known in models if known.registry == added.name]
    hides = [known for known in models if known.shadowed_by == added.name]
    out.text(f"{added.name}: {len(own)} model{'s' * (len(own) != 1)} of {added.location}")
    for known in hides:
        out.warning(
            f"`{known.model.reference}` now means the model of {added.name}, not the one of "
            f"{known.registry}"
        )
    out.info("see them: zoo list")
    return {
        "ok": True,
        "name": added.name,
        "location": added.location,
        "models": [known.model.reference for known in own],
        "shadows": [f"{known.registry}: {known.model.reference}" for known in hides],
    }


def list_registries(out: JsonOutput) -> Document:
    """List the registries in the order in which they are asked."""
    from zoo.registry import BUILT_IN, built_in_path, user_registries

    known_models = models_of_all_registries(out).models
    places = [(registry.name, registry.location) for registry in user_registries()]
    places.append((BUILT_IN, str(built_in_path())))
    entries, rows = [], []
    for name, location in places:
        models = [known for known in known_models if known.registry == name]
        shadowed = [known.model.reference for known in models if known.shadowed_by]
        entries.append(
            {"name": name, "location": location, "models": len(models), "shadowed": shadowed}
        )
        rows.append([name, str(len(models)), ", ".join(shadowed), location])
    out.plain_table(("registry", "models", "shadowed", "location"), rows)
    return {"ok": True, "registries": entries}


def remove(
    *,
    name: Annotated[
        str, Argument(metavar="NAME", help="A registry.", autocompletion=complete_registry)
    ],
    out: JsonOutput,
) -> Document:
    """Forget a registry; files of its models stay where they are."""
    from zoo.registry import remove as remove_registry

    removed = remove_registry(name)
    out.text(f"{removed.name} is forgotten ({removed.location})")
    return {"ok": True, "name": removed.name, "location": removed.location}


def update(
    *,
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="Only this one.", autocompletion=complete_registry),
    ] = None,
    out: JsonOutput,
) -> Document:
    """Fetch registries at addresses again; a copy is replaced only by one without faults."""
    from zoo.registry import update as update_registries

    done = []
    for registry, changed in update_registries(name):
        done.append({"name": registry.name, "changed": changed})
        if registry.is_remote:
            out.text(f"{registry.name}: {'changed' if changed else 'as before'}")
        else:
            out.text(f"{registry.name}: a file, read whenever it is needed")
    if not done:
        out.text("you have no registries; the built-in one comes with the program")
    return {"ok": True, "registries": done}
