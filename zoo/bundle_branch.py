"""One branch of a model, to be bundled instead of the whole."""

from pathlib import Path

from schemas.checkpoint.branch_names import resolve_branch
from schemas.checkpoint.header import read_header
from schemas.checkpoint.random_access import LocalFile
from zoo.branch_file import write_branch
from zoo.bundle import BundledModel, plain_name


def one_branch(whole: BundledModel, branch: str, folder: Path) -> BundledModel:
    """Write a branch as a model of its own, called `<model>-<branch>`.

    Args:
        whole: A multi-task model.
        branch: Name or alias of the branch.
        folder: Where the branch's file goes.

    Raises:
        CheckpointError: When there is no such branch.
        WriteError: When the folder cannot be written.
    """
    header = read_header(whole.path)
    found = resolve_branch(whole.path, header.model_params, branch)
    known = whole.known
    name = plain_name(f"{known.name if known else whole.path.stem}-{found}")
    target = folder / f"{name}.pt"
    with LocalFile(whole.path) as source:
        write_branch(source, header, found, target)
    if known is None:
        return BundledModel(target, origin=f"{whole.origin or whole.path.name}, branch {found}")
    described = [one for one in known.branches if one.name == found]
    text = f"{found}: {described[0].domain}" if described else found
    changes = {
        "name": name,
        "aliases": [],
        "description": f"The branch {text}. {known.description}",
        "elements": [],
        "branches": [],
        "file": known.file.model_copy(
            update={"name": target.name, "size": None, "sha256": None, "superseded": []}
        ),
    }
    return BundledModel(target, known.model_copy(update=changes))
