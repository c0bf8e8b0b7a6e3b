"""A file of a cache in a folder of the user: a link where that is safe, else a copy."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.atomic import atomic_write
from schemas.digest import file_sha256
from schemas.errors import WriteError


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that is where the user wanted it.

    Args:
        path: Where.
        how: `linked` to the cache (a hard link: it stays when the cache is emptied), `copied`, or
            `there already`.
    """

    path: Path
    how: Literal["linked", "copied", "there already"]


def place(
    file: Path, folder: Path, name: str, *, sha256: str, link: bool = True, replace: bool = False
) -> Placed:
    """Put a file of a cache into a folder.

    Args:
        file: The file, perhaps a symbolic link as the hubs' caches have them.
        folder: Made if it is not there.
        name: Of the new file.
        sha256: Of the file.
        link: A hard link will do; no for files of the program, which an editor must not reach.
        replace: Put it in the place of another file.

    Raises:
        WriteError: When another file has the name, or the folder cannot be written.
    """
    target, origin = folder / name, file.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if target.samefile(origin) or file_sha256(target) == sha256:
                return Placed(target, "there already")
            if not replace:
                raise WriteError(
                    f"{target} is another file", hint="move it away, or allow it with --force"
                )
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error.strerror or error}") from error
    if link and not target.exists():
        try:
            os.link(origin, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return Placed(target, "linked")
    with atomic_write(target) as stream, origin.open("rb") as content:
        shutil.copyfileobj(content, stream, 4 * 2**20)
    return Placed(target, "copied")
