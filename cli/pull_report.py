"""What `zoo pull` says: what it would do, and what to do next."""

from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import Output

if TYPE_CHECKING:
    from zoo.dry_run import Offer
    from zoo.remote import BranchCost
    from zoo.resolve import Located

_MOST_NAMES = 6


def show_offers(
    out: Output,
    place: "Located",
    offers: "list[Offer]",
    needed: int | None,
    cost: "BranchCost | None",
) -> None:
    """Print how much would be fetched of a file, and where from."""
    from cli.model_facts import shown_size

    part = f" of {shown_size(cost.full_size)}, for the branch {cost.branch}," if cost else ""
    out.text(f"{place.file.name}: {shown_size(needed)}{part} would be fetched")
    rows = [[offer.label, offer.problem or shown_size(offer.size), offer.url] for offer in offers]
    if rows:
        out.plain_table(("source", "says", "address"), rows)
    if place.file.sha256 is None:
        out.text("its hash was not published: the first download is trusted and held fast")


def say_next(out: Output, reference: str, file: Path, place: "Located") -> None:
    """Print the command that comes next, with the user's own names."""
    from schemas.checkpoint.header import read_header
    from schemas.errors import CheckpointError
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
