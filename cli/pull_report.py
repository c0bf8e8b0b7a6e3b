"""What `zoo pull` says: what it would do, and what to do next."""

from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import Output

if TYPE_CHECKING:
    from zoo.dry_run import Offer
    from zoo.local_copies import LocalCopy
    from zoo.resolve import Located

_MOST_NAMES = 6


def show_offers(
    out: Output,
    model: str,
    place: "Located",
    branch: str | None,
    local: "LocalCopy | None",
    offers: "list[Offer]",
) -> None:
    """Print where a file would come from."""
    from cli.model_facts import shown_size

    if local is not None:
        out.text(f"{local.path}: here already, nothing would be fetched")
        return
    known = next((offer.size for offer in offers if offer.size), place.file.size)
    out.text(f"{place.file.name}: {shown_size(known)} would be fetched")
    rows = [[offer.label, offer.problem or shown_size(offer.size), offer.url] for offer in offers]
    if rows:
        out.plain_table(("source", "says", "address"), rows)
    if branch is not None and any(offer.in_pieces for offer in offers):
        out.text(f"of it only what {branch} needs; see its parameters: zoo show {model} --remote")
    elif branch is not None:
        out.text("no source delivers pieces of it: the whole file would be fetched")
    if place.file.sha256 is None:
        out.text("its hash was not published: the first download is trusted and held fast")


def say_next(out: Output, reference: str, file: Path, place: "Located") -> None:
    """Print the command that comes next, with the user's own names."""
    from schemas.checkpoint.header import read_header
    from schemas.errors import CheckpointError
    from zoo.branches import summarize

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
    names = [branch.name for branch in summarize(header)]
    command = f"zoo finetune input.json --model {reference}"
    if "model_dict" not in header.model_params:
        out.info(f"next: {command}")
        return
    out.info(f"next: {command} --branch {names[0] if len(names) == 1 else 'BRANCH'}")
    if len(names) > 1:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        out.info(f"  branches: {', '.join(names[:_MOST_NAMES])}{more} (zoo branches {reference})")
        out.info(f"  which one fits your data: zoo recommend DATA --model {reference}")
