"""Which folders are systems, found below a path as deepmd-kit finds them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SystemFolders:
    """What is below a path.

    Attributes:
        folders: Folders with a `type.raw`, sorted, the path itself included.
        notes: Which symbolic links are not followed and why, one sentence each.
    """

    folders: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def find_systems(root: Path, patterns: Sequence[str] | None = None) -> SystemFolders:
    """Look for systems in a folder and below.

    A symbolic link to a system counts, as in deepmd-kit; one to a folder of systems is not entered,
    as deepmd-kit does not either, and a note says so. A link back to a folder that it lies in is
    left out: deepmd-kit takes that system twice.

    Args:
        root: The folder.
        patterns: Only folders that match one of these below it; links in them are followed.

    Raises:
        ValueError: If a pattern is empty.
        NotImplementedError: If one is an absolute path.
    """
    if patterns is not None:
        matches = {match for pattern in patterns for match in root.rglob(pattern)}
        return SystemFolders(tuple(sorted(folder for folder in matches if _is_system(folder))))
    found: list[Path] = []
    notes: list[str] = []
    for path, names, files in os.walk(root):
        folder = Path(path)
        if "type.raw" in files and _is_system(folder):
            found.append(folder)
        links = sorted(name for name in names if (folder / name).is_symlink())
        for link in (folder / name for name in links):
            target = link.resolve()
            if folder.resolve().is_relative_to(target):
                notes.append(f"{link} leads back to {target}, in which it lies: not followed")
            elif _is_system(link):
                found.append(link)
            elif _has_systems(target):
                notes.append(
                    f"{link} is a symbolic link to a folder of systems, which are not looked at, "
                    f"here or in deepmd-kit; list {target} itself"
                )
    return SystemFolders(tuple(sorted(found)), tuple(notes))


def _is_system(folder: Path) -> bool:
    return (folder / "type.raw").is_file()


def _has_systems(folder: Path) -> bool:
    """Return whether a folder has systems in it or one level down: a look, not a search."""
    try:
        return any(_is_system(item) or any(item.glob("*/type.raw")) for item in folder.iterdir())
    except OSError:
        return False
