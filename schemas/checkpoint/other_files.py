"""What a file is when it is not the checkpoint that was asked for."""

import pickle
import re
from pathlib import Path

from schemas.base.errors import CheckpointError
from schemas.base.foreign_files import refuse_special
from schemas.checkpoint.header import check_numbers

_GIVE_CHECKPOINT = "give a model.ckpt-N.pt written by zoo train or by dp --pt train"
_HEAD_BYTES = 512


def missing_file(path: Path) -> CheckpointError:
    """Return the error for a path that leads nowhere, naming checkpoints that are near."""
    if path.is_symlink():
        return CheckpointError(
            f"{path} is a link to {path.readlink()}, which does not exist",
            hint="the checkpoint it pointed to was moved or deleted; name another one",
        )
    folder = path.parent
    near = sorted(item.name for item in folder.glob("*.pt"))[-5:] if folder.is_dir() else []
    hint = f"{folder} has: {', '.join(near)}" if near else "check the path"
    return CheckpointError(f"{path} does not exist", hint=hint)


def refuse_other_formats(path: Path) -> None:
    """Raise if this is not a checkpoint, or one that no program writes; torch is not asked.

    Torch refuses what would run code, but believes the sizes that a file claims.

    Raises:
        CheckpointError: Folder, empty file, web page, Git LFS pointer, HDF5, JSON, TorchScript,
            damaged or malicious archive ...
    """
    refuse_special(path, CheckpointError)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, not a checkpoint",
            hint=f"name the file in it, for example {path / 'model.ckpt.pt'}",
        )
    head = _head(path)
    if not head:
        raise CheckpointError(
            f"{path} is empty", hint="the download or the copy failed; fetch it again"
        )
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint",
            hint="the server answered with a page (a 404 or a login); download the raw file",
        )
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself",
            hint="fetch the content with `git lfs pull`",
        )
    if head.startswith(b"\x89HDF"):
        raise CheckpointError(f"{path} is an HDF5 file, not a checkpoint", hint=_GIVE_CHECKPOINT)
    if text.startswith((b"{", b"[")):
        raise CheckpointError(f"{path} is a JSON text, not a checkpoint", hint=_GIVE_CHECKPOINT)
    if not head.startswith(b"PK"):  # before PyTorch 1.6; without a directory nothing is bounded
        raise unreadable(path, ValueError())
    check_numbers(path)


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that torch refused to load."""
    reason = str(error)
    refused = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|global)[: ]+([\w.]+)", reason)
    if refused:
        name = refused.group(1) or refused.group(2)
        return CheckpointError(
            f"{path} would run code when loaded: it contains `{name}`",
            hint="a checkpoint holds only tensors, numbers and text; do not trust this file, or "
            "save it again as a plain dictionary of tensors",
        )
    if _head(path).startswith(b"PK"):
        return CheckpointError(
            f"{path} is damaged: {reason.splitlines()[0]}",
            hint="the download or the copy was cut short; fetch it again",
        )
    if _looks_like_pickle(path):
        return CheckpointError(
            f"{path} is not a checkpoint: the file is a pickle that cannot be read",
            hint="if PyTorch before 1.6 wrote it, save it again with a newer one",
        )
    return CheckpointError(
        f"{path} is not a checkpoint: the file is of unknown format", hint=_GIVE_CHECKPOINT
    )


def _looks_like_pickle(path: Path) -> bool:
    return _head(path).startswith(pickle.PROTO)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)
