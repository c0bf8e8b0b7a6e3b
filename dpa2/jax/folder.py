"""Folders that are either complete or not there, whatever interrupts their writing."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.atomic import destination
from schemas.errors import WriteError

MARK = "saved_model.pb"
"""File that makes a folder a SavedModel."""


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield the name of a new folder that takes the place of `target` when the block succeeds.

    Only a SavedModel or an empty folder is replaced; anything else there is an error.

    Raises:
        WriteError: If something else is in the way, or the disk refuses.
    """
    target = destination(target, folder=True)
    if target.exists() and not _replaceable(target):
        raise WriteError(
            f"{target} exists and is not a SavedModel", hint="choose another name, or remove it"
        )
    if not target.parent.is_dir():
        raise WriteError(f"there is no folder {target.parent}", hint="create it first")
    tail = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    fresh = target.with_name(f".{target.name}.new-{tail}")
    old = target.with_name(f".{target.name}.old-{tail}")
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise WriteError(
            f"{target} cannot be written: {error.strerror or error}",
            hint="check that its folder is writable and has space left; what was there before is "
            "untouched",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / MARK).is_file() or not any(target.iterdir()))
