"""`zoo list`, `search` and `registry`: models that are known by name, and who names them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from cli.options import Document, complete_registry
from cli.output import JsonOutput, Output, shown_size
from schemas.base import environment
from schemas.base.errors import RegistryError

if TYPE_CHECKING:
    from schemas.checkpoint.header import CheckpointHeader
    from schemas.registry import RegisteredModel, Source
    from zoo.hubs.catalogue import Found
    from zoo.known_models import Hit, KnownModel, KnownModels, Located
    from zoo.local_copies import LocalCopy


def models_of_all_registries(out: Output) -> "KnownModels":
    """Return the models that are known by name; tell what is wrong with a registry."""
    from zoo.known_models import known_models

    everything = known_models()
    for fault in everything.faults:
        out.warning(fault.message)
    return everything


def description(place: "Located | Path", *, offline: bool) -> "CheckpointHeader":
    """Return what a checkpoint says about itself, here or on the network; no weight is read."""
    if isinstance(place, Path):
        from schemas.checkpoint.header import read_header

        return read_header(place)
    from zoo.remote_branch import quickest_remotes, remote_header

    return remote_header(quickest_remotes(place, offline=offline))


def num_branches(model: "RegisteredModel") -> int | None:
    """Return how many branches a model is known to have; None where only its file says it."""
    return model.num_branches or len(model.branches) or None


def known_size(known: "KnownModel", local: "LocalCopy | None") -> int | None:
    """Return the bytes of a model's file, as registered or as it lies here."""
    if known.model.file.size is not None or local is None:
        return known.model.file.size
    return local.path.stat().st_size


def document(known: "KnownModel", local: "LocalCopy | None") -> dict[str, Any]:
    """Return what `--json` says about a model in a list."""
    model = known.model
    own = ("name", "aliases", "revision", "description", "family", "trainable", "elements")
    return model.model_dump(include=set(own)) | {
        "reference": model.reference,
        "num_branches": num_branches(model),
        "branches": [branch.name for branch in model.branches],
        "size": known_size(known, local),
        "sha256": model.file.sha256,
        "where": local.where if local else "remote",
        "path": local.path if local else None,
        "registry": known.registry,
        "shadowed_by": known.shadowed_by,
    }


def shown_source(source: "Source") -> str:
    """Return a source in a line, in the words that a person could give as a reference."""
    match source.kind:
        case "bundled":
            return "comes with the program"
        case "huggingface":
            at = "" if source.revision == "main" else f"@{source.revision}"
            via = f" (through {source.endpoint})" if source.endpoint else ""
            return f"hf://{source.repo}{at}/{source.path}{via}"
        case "modelscope":
            at = "" if source.revision == "master" else f"@{source.revision}"
            return f"ms://{source.repo}{at}/{source.path}"
        case "file":
            return f"{source.path}, beside the registry"
        case _:
            return source.url


def list_models(
    *,
    family: Annotated[
        str | None, Option("--family", help="Only models of this family, such as DPA-2.")
    ] = None,
    out: JsonOutput,
) -> Document:
    """List the pretrained models of all registries; nothing is asked over the network.

    Example: zoo list --family DPA-2
    """
    from schemas.base.names import did_you_mean
    from zoo.local_copies import local_file

    everything = models_of_all_registries(out)
    shown = [known for known in everything.models if family is None or known.model.is_of(family)]
    if family is not None and not shown:
        families = sorted({known.model.family for known in everything.models})
        raise RegistryError(
            f"no model is of the family `{family}`", hint=did_you_mean(family, families)
        )
    found = [(known, local_file(known.place)) for known in shown]
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
    if not out.json_mode:
        out.info("more about one: zoo show MODEL; get it: zoo pull MODEL")
    return {"ok": True, "models": [document(known, local) for known, local in found]}


def search(
    *,
    text: Annotated[
        list[str],
        Argument(
            metavar="TEXT", help="Names, elements, domains, functionals: models that fit all words."
        ),
    ],
    online: Annotated[
        bool,
        Option("--online", help="Look through Hugging Face and AIS Square as well."),
    ] = False,
    out: JsonOutput,
) -> Document:
    """Find pretrained models by name, element, domain, functional or branch.

    Example: zoo search water SCAN
    """
    from zoo.known_models import search as search_registries
    from zoo.local_copies import local_file

    everything = models_of_all_registries(out)
    words = " ".join(text)
    hits = search_registries(everything.models, words)
    online_found = _ask_catalogues(out, words) if online else []
    result = [
        document(hit.known, local_file(hit.known.place))
        | {"score": hit.score, "matches": [list(match) for match in hit.matches]}
        for hit in hits
    ]
    if hits:
        out.plain_table(("model", "family", "found in"), [_row(hit) for hit in hits])
        out.info(f"more about it: zoo show {hits[0].known.model.reference}")
    if online_found:
        _show_online(out, online_found)
    if not hits and not online_found:
        out.text(f"no model fits `{words}`")
        if not online:
            out.info(f"more may be on the hubs: zoo search --online {words}")
    told = {"ok": True, "models": result}
    return told | ({"online": list(map(_online_document, online_found))} if online else {})


def _ask_catalogues(out: Output, words: str) -> "list[Found]":
    """Return what the hubs have; one that fails is a warning, all of them an error."""
    from zoo.hubs.catalogue import search_online

    environment.demand_network("the catalogues of --online cannot be asked")
    with out.status("asking the catalogues"):
        answer = search_online(words)
    for hub, error in answer.failures.items():
        out.warning(f"{hub}: {error.message}")
    return answer.found


def _row(hit: "Hit") -> list[str]:
    model = hit.known.model
    matches = [
        text if kind in {"description", "domain"} else f"{kind} {text}"
        for kind, text in hit.matches
        if (kind, text) != ("name", model.name)
    ]
    return [model.reference, model.family, "; ".join(matches) or model.description]


def _show_online(out: Output, found: "list[Found]") -> None:

    out.text()
    rows = []
    for item in found:
        licence = item.licence or "?"
        rows += [[file.url or item.url, shown_size(file.size), licence] for file in item.files]
        if not item.files:
            rows.append([item.url, "no model file listed", licence])
    out.plain_table(("on the hubs", "size", "licence"), rows)


def _online_document(found: "Found") -> dict[str, Any]:
    updated = found.updated.isoformat() if found.updated else None
    return asdict(found) | {"updated": updated}


def add_registry(
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
    from zoo.registry import add

    added = add(location, name=name, insecure=insecure)
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
        rows.append([name, len(models), ", ".join(shadowed), location])
    out.plain_table(("registry", "models", "shadowed", "location"), rows)
    return {"ok": True, "registries": entries}


def remove_registry(
    *,
    name: Annotated[
        str, Argument(metavar="NAME", help="A registry.", autocompletion=complete_registry)
    ],
    out: JsonOutput,
) -> Document:
    """Forget a registry; files of its models stay where they are."""
    from zoo.registry import remove

    removed = remove(name)
    out.text(f"{removed.name} is forgotten ({removed.location})")
    return {"ok": True, "name": removed.name, "location": removed.location}


def update_registries(
    *,
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="Only this one.", autocompletion=complete_registry),
    ] = None,
    out: JsonOutput,
) -> Document:
    """Fetch registries at addresses again; a copy is replaced only by one without faults."""
    from zoo.registry import update

    done = []
    for registry, changed in update(name):
        done.append({"name": registry.name, "changed": changed})
        if registry.is_remote:
            out.text(f"{registry.name}: {'changed' if changed else 'as before'}")
        else:
            out.text(f"{registry.name}: a file, read whenever it is needed")
    if not done:
        out.text("you have no registries; the built-in one comes with the program")
    return {"ok": True, "registries": done}
