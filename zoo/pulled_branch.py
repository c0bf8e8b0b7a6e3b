"""One branch of a model as a file: from the file that is here, or else from its sources."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.base import environment
from schemas.base.errors import RegistryError
from schemas.checkpoint.header import CheckpointHeader
from zoo.local_copies import local_file
from zoo.resolve import Located, fetch
from zoo.transfer.remote import Progress, Remote

if TYPE_CHECKING:
    from zoo.remote import BranchCost


@dataclass(frozen=True, slots=True)
class PulledBranch:
    """A branch that was written.

    Args:
        path: The single-task checkpoint.
        branch: The exact name.
        type_map: Element of each type.
        received: Bytes that came over the network.
        whole_size: Bytes of the file that it comes from.
        source: Where that is.
    """

    path: Path
    branch: str
    type_map: list[str]
    received: int
    whole_size: int
    source: str


def pull_branch(
    place: Located,
    branch: str,
    target: Path,
    *,
    progress: Progress | None = None,
    offline: bool = False,
) -> PulledBranch:
    """Write one branch of a model as a single-task checkpoint.

    Of a file on the network only what the branch needs is fetched. What arrived is compared with
    the checksums within the file; the hash of the registry can be compared only where the whole
    file is here, or must be fetched.

    Args:
        place: The file.
        branch: A name or an alias.
        target: The file to write; its folder is made.
        progress: Who watches.
        offline: Use only what is on this machine.

    Raises:
        CheckpointError: When the file has no such branch; says which it has.
        TransferError: When the file cannot be had.
        WriteError: When the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if offline or local_file(place.file, place.base) is not None:
        return _of_whole_file(place, branch, target, progress=progress, offline=offline)
    from zoo import remote

    remotes = remotes_of_file(place)
    pulled = remote.pull_branch(
        remotes, branch, target, progress=progress, sha256=place.file.sha256
    )
    return PulledBranch(
        pulled.path,
        pulled.branch,
        pulled.type_map,
        pulled.received,
        pulled.full_size,
        remotes[0].label,
    )


def remote_header(
    place: Located, *, progress: Progress | None = None, offline: bool = False
) -> CheckpointHeader:
    """Read what a file on the network says about itself; a small part of it is fetched.

    Args:
        place: The file.
        progress: Who watches.
        offline: Whether the network must not be used, whatever the environment says.

    Raises:
        CheckpointError: When it is no checkpoint.
        RegistryError: When it is not on the network.
        TransferError: When it cannot be read.
    """
    from zoo.remote import read_remote_header

    return read_remote_header(remotes_of_file(place, offline=offline), progress=progress)


def branch_cost(place: Located, branch: str) -> "BranchCost | None":
    """Return what pulling a branch of a file on the network would take.

    None where the server sends whole files only. A small part of the file is fetched.

    Raises:
        CheckpointError: When the file has no such branch; says which it has.
        RegistryError: When it is not on the network.
        TransferError: When it cannot be read.
    """
    from zoo import remote

    try:
        return remote.branch_cost(remotes_of_file(place), branch)
    except remote.NoRangeError:
        return None


def remotes_of_file(place: Located, *, offline: bool = False) -> list[Remote]:
    """Return the addresses of a file, the quickest first.

    Args:
        place: The file.
        offline: Whether the network must not be used, whatever the environment says.

    Raises:
        RegistryError: When it has none.
        TransferError: When the network must not be used.
    """
    from zoo.hubs.addresses import remotes_of
    from zoo.transfer.mirror_order import by_latency

    environment.demand_network(f"{place.file.name} cannot be read where it is", offline=offline)
    remotes = [
        remote
        for source in place.file.sources
        for remote in remotes_of(source, base=place.base, insecure=place.insecure)
    ]
    if not remotes:
        raise RegistryError(
            f"{place.file.name} is not on the network", hint="leave out --remote: it is here"
        )
    return by_latency(remotes)


def _of_whole_file(
    place: Located, branch: str, target: Path, *, progress: Progress | None, offline: bool
) -> PulledBranch:
    from zoo.branch_file import extract_branch  # needs numpy, which reading a header does not

    whole = fetch(place, progress=progress, offline=offline)
    written = extract_branch(whole.path, branch, target)
    return PulledBranch(
        target, written.branch, written.type_map, whole.received, whole.size, whole.source
    )
