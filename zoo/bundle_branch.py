"""One branch of a model, to be bundled instead of the whole."""

from pathlib import Path

from schemas.registry import RegisteredModel
from zoo.branch_file import extract_branch
from zoo.bundle import BundledModel, plain_name
from zoo.pulled_branch import pull_branch
from zoo.resolve import Located
from zoo.transfer.remote import Progress


def branch_of_file(path: Path, branch: str, folder: Path) -> BundledModel:
    """Write a branch of a file as a model of its own, called `<file>-<branch>`.

    Args:
        path: A multi-task checkpoint.
        branch: Name or alias of the branch.
        folder: Where the branch's file goes.

    Raises:
        CheckpointError: When there is no such branch.
        WriteError: When the folder cannot be written.
    """
    written = extract_branch(path, branch, folder / "branch.pt")
    target = _named(written.path, path.stem, written.branch)
    return BundledModel(target, origin=f"{path.name}, branch {written.branch}")


def branch_of_place(
    place: Located,
    reference: str,
    branch: str,
    folder: Path,
    *,
    progress: Progress | None = None,
    offline: bool = False,
) -> BundledModel:
    """Write a branch of a registered model, or of an address, as a model of its own.

    Of a file that is not here only what the branch needs is fetched, as by `zoo pull --branch`.

    Args:
        place: The file.
        reference: What messages and the branch's description call it.
        branch: Name or alias of the branch.
        folder: Where the branch's file goes.
        progress: Who watches.
        offline: Use only what is on this machine.

    Raises:
        CheckpointError: When there is no such branch.
        TransferError: When the file cannot be had.
        WriteError: When the folder cannot be written.
    """
    pulled = pull_branch(place, branch, folder / "branch.pt", progress=progress, offline=offline)
    known = place.known.model if place.known else None
    whole = known.name if known else Path(place.file.name).stem
    target = _named(pulled.path, whole, pulled.branch)
    if known is None:
        return BundledModel(target, origin=f"{reference}, branch {pulled.branch}")
    return BundledModel(target, _described(known, pulled.branch, target))


def _named(path: Path, whole: str, branch: str) -> Path:
    """Give a branch's file its name."""
    return path.replace(path.with_name(f"{plain_name(f'{whole}-{branch}')}.pt"))


def _described(known: RegisteredModel, branch: str, path: Path) -> RegisteredModel:
    """Return the entry of a branch, made from that of the whole model."""
    described = [one for one in known.branches if one.name == branch]
    text = f"{branch}: {described[0].domain}" if described else branch
    changes = {
        "name": path.stem,
        "aliases": [],
        "description": f"The branch {text}. {known.description}",
        "elements": [],
        "branches": [],
        "file": known.file.model_copy(
            update={"name": path.name, "size": None, "sha256": None, "superseded": []}
        ),
    }
    return known.model_copy(update=changes)
