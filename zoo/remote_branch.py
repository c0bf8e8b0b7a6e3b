"""One branch of a model as a file: from the file that is here, or the parts of one that is not."""

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.base import environment
from schemas.base.errors import RegistryError, WriteError
from schemas.checkpoint.branch_names import resolve_branch
from schemas.checkpoint.header import CheckpointHeader
from zoo.checkpoint_writer import BranchFile, extract_branch, tensors_of, write_branch
from zoo.hubs.fetch import remotes_of
from zoo.known_models import Located
from zoo.local_copies import local_file
from zoo.remote_description import RemoteDescription
from zoo.resolve import fetch
from zoo.transfer.download import download
from zoo.transfer.pieces import RangeFile, Span
from zoo.transfer.remote import (
    PATIENT,
    Counted,
    NoRangeError,
    Progress,
    Remote,
    RetryPolicy,
)
from zoo.transfer.sources import by_latency

# Of a header in place: the name's length is known, that of the padding is not.
_LONGEST_HEADER = 30 + 64 + 32


@dataclass(frozen=True, slots=True)
class PulledBranch(BranchFile):
    """A branch that was written.

    Attributes:
        received: Bytes that came over the network, without headers.
        whole_size: Bytes of the file that it comes from.
        source: Where that is.
        whole_file: Whether all of it was needed: it is here, or the server sends no parts.
    """

    received: int
    whole_size: int
    source: str
    whole_file: bool


@dataclass(frozen=True, slots=True)
class BranchCost:
    """What pulling a branch would take.

    Attributes:
        branch: Its exact name in the file on the network.
        num_bytes: Bytes that would come over the network, without headers.
        full_size: Bytes of the file on the network.
    """

    branch: str
    num_bytes: int
    full_size: int


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
    if offline or local_file(place) is not None:
        whole = fetch(place, progress=progress, offline=offline)
        written = extract_branch(whole.path, branch, target)
        return _pulled(written, whole.received, whole.size, whole.source, whole_file=True)
    remotes = quickest_remotes(place)
    return fetch_branch(remotes, branch, target, progress=progress, sha256=place.file.sha256)


def quickest_remotes(place: Located, *, offline: bool = False) -> list[Remote]:
    """Return the addresses of a file, the quickest first.

    Raises:
        RegistryError: When it has none.
        TransferError: When the network must not be used.
    """
    environment.demand_network(f"{place.file.name} cannot be read where it is", offline=offline)
    remotes = [remote for _, remote in remotes_of(place)]
    if not remotes:
        raise RegistryError(
            f"{place.file.name} is not on the network", hint="leave out --remote: it is here"
        )
    return by_latency(remotes)


def remote_header(
    remotes: Sequence[Remote], *, progress: Progress | None = None, policy: RetryPolicy = PATIENT
) -> CheckpointHeader:
    """Read what a checkpoint on the network says about itself, without its numbers.

    Of a file with many branches only the model section is read, not the list of tensors; then
    `complete` is False, and counts of parameters are unknown.

    Raises:
        CheckpointError: It is no checkpoint, or one that no program writes.
        NoRangeError: The server sends whole files only.
        TransferError: It cannot be read.
    """
    with RangeFile(remotes, progress=progress, policy=policy) as source:
        return RemoteDescription(source).header()


def branch_cost(
    remotes: Sequence[Remote], branch: str | None, *, policy: RetryPolicy = PATIENT
) -> BranchCost | None:
    """Return what `fetch_branch` would fetch; only the file's description is fetched.

    None where the server sends whole files only.

    Raises:
        CheckpointError: The file or the branch cannot be used.
        TransferError: The file cannot be read.
    """
    try:
        with RangeFile(remotes, policy=policy) as source:
            header, name = _described(source, branch)
            rest = sum(end - start for start, end in source.requests_for(_spans(header, name)))
            return BranchCost(name, source.received + rest, source.size)
    except NoRangeError:
        return None


def fetch_branch(
    remotes: Sequence[Remote],
    branch: str | None,
    target: Path,
    *,
    progress: Progress | None = None,
    policy: RetryPolicy = PATIENT,
    sha256: str | None = None,
) -> PulledBranch:
    """Write one branch of a checkpoint on the network as a single-task checkpoint.

    Each entry's CRC-32 is verified. It tells whether numbers arrived as they were written; who
    wrote them is known from the server's certificate alone, since only a whole file has a hash.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        branch: Name or alias; may be None where there is only one.
        target: The file to write; one that is there is replaced once the new one is complete.
        progress: Who watches.
        policy: Waits and limits.
        sha256: Of the whole file, where all of it must be fetched; None where nobody knows it.

    Raises:
        CheckpointError: The file or the branch cannot be used, or numbers arrived damaged.
        TransferError: The file cannot be had.
        WriteError: The target cannot be written; what was there is untouched.
    """
    watcher = progress or Counted()
    if not target.parent.is_dir():
        raise WriteError(f"{target.parent} is not a folder", hint="make it, or name another")
    label = remotes[0].label
    try:
        with RangeFile(remotes, folder=target.parent, progress=watcher, policy=policy) as source:
            header, name = _described(source, branch)
            try:
                source.fetch(_spans(header, name), watcher)
            finally:
                watcher.finish()
            written = write_branch(source, header, name, target)
            return _pulled(written, source.received, source.size, label, whole_file=False)
    except NoRangeError as error:
        watcher.say(f"{error.message}; the whole file is fetched")
    with tempfile.TemporaryDirectory(prefix=".branch-", dir=target.parent) as folder:
        copy = Path(folder) / "checkpoint.pt"
        arrived = download(remotes, copy, sha256=sha256, size=None, progress=watcher, policy=policy)
        written = extract_branch(copy, branch, target, label=label)
        return _pulled(written, arrived.received, arrived.size, label, whole_file=True)


def _described(source: RangeFile, branch: str | None) -> tuple[CheckpointHeader, str]:
    """Return what a file says of a branch at least, and the branch's exact name."""
    description = RemoteDescription(source)
    name = resolve_branch(source.name, description.header().model_params, branch)
    return description.with_tensors_of(name), name


def _spans(header: CheckpointHeader, branch: str) -> Iterable[Span]:
    """Yield where a branch's numbers with their headers stand; the next entry bounds padding."""
    ordered = sorted(header.storages.values(), key=lambda entry: entry.header_offset)
    following = {entry.name: after.header_offset for entry, after in itertools.pairwise(ordered)}
    for key in {entry.storage for entry in tensors_of(header, branch).values()}:
        entry = header.storages[key]
        longest = _LONGEST_HEADER + len(entry.name.encode()) + 64 + entry.num_bytes
        end = entry.header_offset + longest
        yield entry.header_offset, min(end, following.get(entry.name, end))


def _pulled(
    written: BranchFile, received: int, size: int, source: str, *, whole_file: bool
) -> PulledBranch:
    return PulledBranch(
        **asdict(written), received=received, whole_size=size, source=source, whole_file=whole_file
    )
