"""`zoo search`: models that fit words, of the registries and of the hubs' catalogues."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json
from cli.output import Output

if TYPE_CHECKING:
    from zoo.hubs.catalogue import Found
    from zoo.search import Hit


def search(
    text: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT", help="Names, elements, domains, functionals: models that fit all words."
        ),
    ],
    online: Annotated[
        bool,
        typer.Option("--online", help="Look through Hugging Face and AIS Square as well."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find pretrained models by name, element, domain, functional or branch.

    Example: zoo search water SCAN
    """
    from cli.model_facts import document
    from zoo.known_models import known_models
    from zoo.local_copies import local_copy
    from zoo.search import search as search_registries

    out = Output(json_mode=as_json)
    everything = known_models()
    for fault in everything.faults:
        out.warning(fault.message)
    words = " ".join(text)
    hits = search_registries(everything.models, words)
    online_found = _ask_catalogues(out, words) if online else []
    result = [
        document(hit.known, local_copy(hit.known))
        | {"score": hit.score, "matches": [list(match) for match in hit.matches]}
        for hit in hits
    ]
    out.result(
        {"ok": True, "models": result}
        | ({"online": [_online_document(found) for found in online_found]} if online else {})
    )
    if hits:
        out.plain_table(("model", "family", "found in"), [_row(hit) for hit in hits])
        out.info(f"more about it: zoo show {hits[0].known.model.reference}")
    if online_found:
        _show_online(out, online_found)
    if not hits and not online_found:
        out.text(f"no model fits `{words}`")
        if not online:
            out.info(f"more may be on the hubs: zoo search --online {words}")


def _ask_catalogues(out: Output, words: str) -> "list[Found]":
    """Return what the hubs have; one that fails is a warning, all of them an error."""
    from schemas import environment
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
    from cli.model_facts import shown_size

    out.text()
    rows = []
    for item in found:
        licence = item.licence or "?"
        rows += [[file.url or item.url, shown_size(file.size), licence] for file in item.files]
        if not item.files:
            rows.append([item.url, "no model file listed", licence])
    out.plain_table(("on the hubs", "size", "licence"), rows)


def _online_document(found: "Found") -> dict[str, Any]:
    from dataclasses import asdict

    updated = found.updated.isoformat() if found.updated else None
    return asdict(found) | {"updated": updated}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(search)
