"""`zoo pull`: fetch a pretrained model, or one of its branches."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from cli.options import Document, Offline, keep, model_argument
from cli.output import Output, shown_size
from schemas.base import environment
from schemas.base.errors import CheckpointError, RegistryError, WriteError

if TYPE_CHECKING:
    from zoo.known_models import Located


_MOST_NAMES = 6


def pull(
    *,
    model: Annotated[
        str, model_argument("Name, name@revision, or hf://, ms:// or https:// address.")
    ],
    branch: Annotated[
        str | None,
        Option(
            "--branch",
            "--head",
            help="Only this branch, as a single-task checkpoint; no more than it needs is fetched.",
        ),
    ] = None,
    all_branches: Annotated[
        bool, Option("--all-branches", help="The whole file, which is the default.")
    ] = False,
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="DIR", help="Folder for the file (a link or a copy)."),
    ] = None,
    force: Annotated[
        bool, Option("--force", help="Replace another file of that name in the folder.")
    ] = False,
    offline: Offline = False,
    dry_run: Annotated[
        bool,
        Option("--dry-run", help="Say what would be fetched, from where, how many bytes."),
    ] = False,
    out: Output,
) -> Document:
    """Fetch a pretrained model, verified; what is here already is not fetched again.

    A whole file goes to the cache, where its name finds it; a branch goes to a file of its own in
    the current folder, or in DIR.

    Example: zoo pull DPA2_medium --branch H2O_H2O-PD
    """
    from zoo.resolve import LocalPath, located, parse_reference

    if branch is not None and all_branches:
        raise typer.BadParameter("--branch and --all-branches exclude each other")
    offline = offline or environment.is_offline()
    reference = parse_reference(model)
    if isinstance(reference, LocalPath):
        path = reference.path
        hint = f"zoo extract {path} --branch {branch}" if branch else f"it is here: zoo show {path}"
        if not path.exists():
            hint = "`zoo list` shows the names of models"
        raise RegistryError(f"{path} is a path, not the name of a model to fetch", hint=hint)
    place = located(reference)
    if dry_run:
        document = _dry_run(out, place, branch, offline=offline)
    elif branch is not None:
        document = _pull_branch(out, place, branch, output, force=force, offline=offline)
    else:
        document = _pull_file(out, model, place, output, force=force, offline=offline)
    return {"ok": True, "reference": model} | document


def _pull_file(
    out: Output, model: str, place: "Located", folder: Path | None, *, force: bool, offline: bool
) -> Document:
    from cli.output import transfer_progress
    from zoo.registry import PACKAGE
    from zoo.resolve import fetch
    from zoo.resolve import place as place_file

    with transfer_progress(out) as progress:
        found = fetch(place, progress=progress, offline=offline)
    document: Document = {"branch": None, **asdict(found)}
    path = found.path
    if folder is not None:
        placed = place_file(
            found.path,
            folder,
            place.file.name,
            sha256=found.sha256,
            link=not found.path.is_relative_to(PACKAGE),
            replace=force,
        )
        path = placed.path
        document |= {"path": path, "placed": placed.how, "cached": found.path}
    came = f"{shown_size(found.received)} fetched from {found.source}"
    how = came if found.received else f"{shown_size(found.size)}, here already"
    out.text(f"{path} ({how})")
    if place.file.sha256 is None:
        out.info(f"its hash was not published; this one is trusted from now on: {found.sha256}")
    _say_next(out, model if folder is None else str(path), path, place)
    return document


def _pull_branch(
    out: Output, place: "Located", branch: str, folder: Path | None, *, force: bool, offline: bool
) -> Document:
    from cli.output import transfer_progress
    from zoo.remote_branch import pull_branch

    target = (folder or Path()) / _branch_file_name(place, branch)
    keep(target, force=force, error=WriteError)
    with transfer_progress(out) as progress:
        pulled = pull_branch(place, branch, target, progress=progress, offline=offline)
    of = f" of {shown_size(pulled.whole_size)}" if pulled.whole_size else ""
    came = f"{shown_size(pulled.received)}{of} fetched from {pulled.source}"
    out.text(f"{pulled.path} ({came if pulled.received else 'taken from the file that is here'})")
    _say_next(out, str(pulled.path), pulled.path, place)
    return asdict(pulled) | {"size": pulled.path.stat().st_size}


def _branch_file_name(place: "Located", branch: str) -> str:
    """Return a file's name for a branch: as documented, with nothing in it that a path has."""
    name, documented = Path(place.file.name).stem, []
    if place.known is not None:
        name = place.known.model.name
        documented = [known.name for known in place.known.model.branches]
    exact = next((known for known in documented if known.lower() == branch.lower()), branch)
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in exact)
    return f"{name}-{kept}.pt"


def _dry_run(out: Output, place: "Located", branch: str | None, *, offline: bool) -> Document:
    from zoo.hubs.fetch import offers
    from zoo.local_copies import local_file
    from zoo.remote_branch import branch_cost, quickest_remotes

    local = local_file(place)
    if local is None:
        what = f"{place.file.name} is not on this machine, and cannot be fetched"
        environment.demand_network(what, offline=offline)
    found = [] if local is not None else offers(place)
    usable = any(offer.problem is None for offer in found)
    cost = None
    if branch is not None and usable:
        cost = branch_cost(quickest_remotes(place), branch)
    whole = next((offer.size for offer in found if offer.size), place.file.size)
    needed = 0 if local is not None else cost.num_bytes if cost else whole
    if local is not None:
        out.text(f"{local.path}: here already, nothing would be fetched")
    else:
        of = f" of {shown_size(cost.full_size)}, for the branch {cost.branch}," if cost else ""
        out.text(f"{place.file.name}: {shown_size(needed)}{of} would be fetched")
        rows = [[item.label, item.problem or shown_size(item.size), item.url] for item in found]
        if rows:
            out.plain_table(("source", "says", "address"), rows)
        if place.file.sha256 is None:
            out.text("its hash was not published: the first download is trusted from then on")
        if branch is not None and usable and cost is None:
            out.text("the server sends no pieces of it: this is the whole file")
    return {
        "ok": local is not None or usable,
        "branch": cost.branch if cost else branch,
        "here": local.path if local else None,
        "file": place.file.name,
        "size": place.file.size,
        "to_fetch": needed,
        "sha256": place.file.sha256,
        "sources": [asdict(offer) for offer in found],
    }


def _say_next(out: Output, reference: str, file: Path, place: "Located") -> None:
    """Print the command that comes next, with the user's own names."""
    from schemas.checkpoint.header import read_header
    from zoo.branches import not_ours, summarize

    if place.known is not None and not place.known.model.trainable:
        family = place.known.model.family
        out.info(f"this engine does not train {family}; deepmd-kit does, with {file}")
        return
    if file.suffix != ".pt":
        return
    try:
        header = read_header(file)
    except CheckpointError as error:  # a frozen model, say; its bytes are right
        out.warning(error.message)
        return
    found = summarize(header)
    for text in not_ours(found):
        out.warning(text)
    names = [branch.name for branch in found if branch.other_kind is None]
    if not names:
        return
    command = f"zoo finetune input.json --model {reference}"
    if "model_dict" not in header.model_params:
        out.info(f"next: {command}")
        return
    out.info(f"next: {command} --branch {names[0] if len(names) == 1 else 'BRANCH'}")
    if len(names) > 1:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        out.info(f"  branches: {', '.join(names[:_MOST_NAMES])}{more} (zoo branches {reference})")
        out.info(f"  which one fits your data: zoo recommend DATA --model {reference}")
