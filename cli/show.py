"""`zoo show`: the card of a model."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from cli.catalog import (
    description,
    document,
    known_size,
    models_of_all_registries,
    num_branches,
    shown_source,
)
from cli.options import Document, Offline, model_argument
from cli.output import JsonOutput, Output, shown_size

if TYPE_CHECKING:
    from schemas.checkpoint.header import CheckpointHeader
    from schemas.registry import RegisteredModel
    from zoo.known_models import KnownModel, Located
    from zoo.local_copies import LocalCopy

_Lines = Iterator[tuple[str, str]]
_MOST_ELEMENTS = 20


def show(
    *,
    model: Annotated[
        str, model_argument("Name, name@revision, path, hf://, ms:// or https:// address.")
    ],
    remote: Annotated[
        bool,
        Option(
            "--remote", help="Read what the file itself says where it is, without downloading it."
        ),
    ] = False,
    offline: Offline = False,
    out: JsonOutput,
) -> Document:
    """Show the card of a model: what it is, where it is, and what its file says about itself.

    Example: zoo show DPA2_medium --remote
    """
    from zoo.local_copies import local_file
    from zoo.resolve import LocalPath, ModelName, located, parse_reference

    reference = parse_reference(model)
    known: KnownModel | None = None
    local: LocalCopy | None = None
    if isinstance(reference, LocalPath):
        place: Path | Located = reference.path
    else:
        if isinstance(reference, ModelName):
            known = models_of_all_registries(out).find(reference.name, reference.revision)
        registered = located(reference) if known is None else known.place
        local = local_file(registered)
        place = local.path if local else registered
    is_here = isinstance(place, Path)
    header = None
    if is_here or remote or known is None:
        header = description(place, offline=offline)
    card = {} if known is None else _card(known, local)
    card["file"] = None if header is None else _document(header)
    if not out.json_mode:
        _print(out, known, local, header)
        _say_next(out, model, known, header, is_here=is_here)
    return {"ok": True, "reference": model, "path": place if is_here else None} | card


def _card(known: "KnownModel", local: "LocalCopy | None") -> dict[str, Any]:
    own = {"branches", "licence", "citation", "training_input", "known_bad"}
    file = known.model.file.model_dump(include={"sources", "superseded"})
    return document(known, local) | known.model.model_dump(include=own) | file


def _document(header: "CheckpointHeader") -> dict[str, Any]:
    from zoo.branches import num_parameters, summarize

    return {
        "steps": header.steps,
        "num_parameters": num_parameters(header) if header.complete else None,
        "has_optimizer": header.has_optimizer,
        "branches": [asdict(branch) for branch in summarize(header)],
    }


def _print(
    out: Output,
    known: "KnownModel | None",
    local: "LocalCopy | None",
    header: "CheckpointHeader | None",
) -> None:
    lines = list(_registered(known, local)) if known is not None else []
    lines += list(_of_file(header)) if header is not None else []
    lines = [(label, text) for label, text in lines if text]
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        out.text(f"{label.ljust(width)}  {text}".rstrip())
    if header is not None:
        _print_branches(out, header, known.model if known else None)
    elif known is not None and known.model.branches:
        out.text()
        rows = [
            [branch.name, branch.domain, branch.functional or "", branch.code or ""]
            for branch in known.model.branches
        ]
        out.plain_table(("documented branch", "domain", "functional", "code"), rows)


def _registered(known: "KnownModel", local: "LocalCopy | None") -> _Lines:
    model, file = known.model, known.model.file
    yield "model", ", ".join([model.reference, *model.aliases])
    yield "", model.description
    yield "family", f"{model.family}, {'trained' if model.trainable else 'not trained'} here"
    yield "elements", _elements(model.elements)
    yield "branches", str(num_branches(model) or "only the file says it: --remote")
    yield "file", f"{file.name}, {shown_size(known_size(known, local))}"
    yield "SHA-256", file.sha256 or "not published; the first download is trusted"
    for old in file.superseded:
        yield "superseded", f"{old.sha256 or 'hash not published'}: {old.reason}"
    yield "here", f"{local.path} ({local.where})" if local else "no"
    for index, source in enumerate(file.sources):
        yield "from" if index == 0 else "", shown_source(source)
    yield "licence", model.licence or ""
    yield "cite", model.citation or ""
    yield "trained with", model.training_input or ""
    for bad in model.known_bad:
        yield "not for", f"deepmd-kit {bad.deepmd_kit}: {bad.reason}"
    yield "registry", known.registry if known.registry != "built-in" else ""
    yield "shadowed by", known.shadowed_by or ""


def _of_file(header: "CheckpointHeader") -> _Lines:
    from zoo.branches import not_ours, num_parameters, summarize

    branches = summarize(header)
    yield "the file", header.name
    kinds = sorted({branch.descriptor for branch in branches})
    yield "descriptor", ", ".join(kinds)
    for text in not_ours(branches):
        yield "not for", text
    if header.complete:
        yield "parameters", f"{num_parameters(header):,}"
    if header.steps is not None:
        yield "steps", f"{header.steps:,}"
    if header.has_optimizer:
        yield "optimizer", "its state is in the file; `zoo pull --branch` leaves it out"
    elements = list(dict.fromkeys(name for branch in branches for name in branch.type_map))
    yield "elements", _elements(elements)


def _print_branches(
    out: Output, header: "CheckpointHeader", model: "RegisteredModel | None"
) -> None:
    from zoo.branches import summarize

    documented = {branch.name: branch for branch in model.branches} if model else {}
    out.text()
    rows = []
    for branch in summarize(header):
        known = documented.get(branch.name)
        facts = (known.domain, known.functional, known.code) if known else ()
        rows.append(
            [
                ", ".join([branch.name, *branch.aliases]),
                _elements(branch.observed or branch.type_map),
                f"{branch.num_parameters:,}" if header.complete else "",
                " ".join(filter(None, facts)),
            ]
        )
    out.plain_table(("branch", "elements", "parameters", "what"), rows)


def _elements(names: list[str]) -> str:
    shown = " ".join(names[:_MOST_ELEMENTS])
    more = len(names) - _MOST_ELEMENTS
    return f"{shown} and {more} more" if more > 0 else shown


def _say_next(
    out: Output,
    model: str,
    known: "KnownModel | None",
    header: "CheckpointHeader | None",
    *,
    is_here: bool,
) -> None:
    from schemas.input.model import other_kind

    if header is None:
        out.info(f"read the file's own words: zoo show {model} --remote; get it: zoo pull {model}")
        return
    several = "model_dict" in header.model_params
    ours = any(not other_kind(section) for section in header.branches.values())
    if not is_here and several:
        out.info(f"get one branch: zoo pull {model} --branch BRANCH; all: zoo pull {model}")
    elif not is_here:
        out.info(f"get it: zoo pull {model}")
    elif ours and (known is None or known.model.trainable):
        branch = " --branch BRANCH" if several else ""
        out.info(f"start from it: zoo finetune input.json --model {model}{branch}")
