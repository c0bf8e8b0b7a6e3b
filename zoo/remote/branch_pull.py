"""One branch of a checkpoint on the network: its tensors are fetched, the rest is not."""

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.base.errors import WriteError
from schemas.checkpoint.branch_names import resolve_branch
from schemas.checkpoint.header import CheckpointHeader
from zoo.branch_file import BranchFile, extract_branch, tensors_of, write_branch
from zoo.remote.description import RemoteDescription
from zoo.remote.remote_file import NoRangeError, RangeFile, Span, open_remote
from zoo.transfer.download import download
from zoo.transfer.remote import PATIENT, Progress, Remote, RetryPolicy, Silent

# Of a header in place: the name's length is known, that of the padding is not.
_LONGEST_HEADER = 30 + 64 + 32


@dataclass(frozen=True, slots=True)
class BranchPull:
    """What came of it.

    Attributes:
        path: The single-task checkpoint.
        branch: The branch's exact name in the file on the network.
        type_map: Element of each type.
        tensors: How many tensors it has; names of one tensor count each.
        tensor_bytes: Bytes of their numbers; a tensor with several names counts once.
        received: Bytes that came over the network, without headers.
        full_size: Bytes of the file on the network.
        whole_file: Whether all of it had to be fetched, since the server sends no parts.
    """

    path: Path
    branch: str
    type_map: list[str]
    tensors: int
    tensor_bytes: int
    received: int
    full_size: int
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


def read_remote_header(
    remotes: Sequence[Remote],
    *,
    progress: Progress | None = None,
    patience: RetryPolicy = PATIENT,
) -> CheckpointHeader:
    """Read what a checkpoint on the network says about itself, without its numbers.

    Of a file with many branches only the model section is read, not the list of tensors; then
    `complete` is False, and counts of parameters are unknown.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        progress: Who hears of retries.
        patience: Waits and limits.

    Raises:
        CheckpointError: It is no checkpoint, or one that no program writes.
        NoRangeError: The server sends whole files only.
        TransferError: It cannot be read.
    """
    with open_remote(remotes, progress=progress, patience=patience) as source:
        return RemoteDescription(source).header()


def branch_cost(
    remotes: Sequence[Remote],
    branch: str | None,
    *,
    progress: Progress | None = None,
    patience: RetryPolicy = PATIENT,
) -> BranchCost:
    """Return what `pull_branch` would fetch; only the file's description is fetched.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        branch: Name or alias; may be None where there is only one.
        progress: Who hears of retries.
        patience: Waits and limits.

    Raises:
        CheckpointError: The file or the branch cannot be used.
        NoRangeError: The server sends whole files only.
        TransferError: The file cannot be read.
    """
    with open_remote(remotes, progress=progress, patience=patience) as source:
        header, name = _described(source, branch)
        missing = source.requests_for(_spans(header, name))
        rest = sum(end - start for start, end in missing)
        return BranchCost(name, source.received + rest, source.size)


def pull_branch(
    remotes: Sequence[Remote],
    branch: str | None,
    target: Path,
    *,
    progress: Progress | None = None,
    patience: RetryPolicy = PATIENT,
    sha256: str | None = None,
) -> BranchPull:
    """Write one branch of a checkpoint on the network as a single-task checkpoint.

    Each entry's CRC-32 is verified. It tells whether numbers arrived as they were written; who
    wrote them is known from the server's certificate alone, since only a whole file has a hash.

    Args:
        remotes: Where the file can be had; the same content everywhere.
        branch: Name or alias; may be None where there is only one.
        target: The file to write; one that is there is replaced once the new one is complete.
        progress: Who watches.
        patience: Waits and limits.
        sha256: Of the whole file, where all of it must be fetched; None where nobody knows it.

    Raises:
        CheckpointError: The file or the branch cannot be used, or numbers arrived damaged.
        TransferError: The file cannot be had.
        WriteError: The target cannot be written; what was there is untouched.
    """
    watcher = progress or Silent()
    if not target.parent.is_dir():
        raise WriteError(f"{target.parent} is not a folder", hint="make it, or name another")
    try:
        with open_remote(
            remotes, folder=target.parent, progress=watcher, patience=patience
        ) as source:
            return _pull(source, branch, target, watcher)
    except NoRangeError as error:
        watcher.say(f"{error.message}; the whole file is fetched")
    with tempfile.TemporaryDirectory(prefix=".branch-", dir=target.parent) as folder:
        copy = Path(folder) / "checkpoint.pt"
        arrived = download(
            remotes, copy, sha256=sha256, size=None, progress=watcher, patience=patience
        )
        written = extract_branch(copy, branch, target, label=remotes[0].label)
        return _result(written, arrived.received, arrived.size, whole_file=True)


def _pull(source: RangeFile, branch: str | None, target: Path, progress: Progress) -> BranchPull:
    header, name = _described(source, branch)
    try:
        source.fetch(_spans(header, name), progress)
    finally:
        progress.finish()
    written = write_branch(source, header, name, target)
    return _result(written, source.received, source.size, whole_file=False)


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


def _result(written: BranchFile, received: int, size: int, *, whole_file: bool) -> BranchPull:
    return BranchPull(
        path=written.path,
        branch=written.branch,
        type_map=written.type_map,
        tensors=written.tensors,
        tensor_bytes=written.tensor_bytes,
        received=received,
        full_size=size,
        whole_file=whole_file,
    )
