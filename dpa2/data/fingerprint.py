"""A fingerprint of the content of data sets, so that statistics of other data are noticed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dpa2.data.system import System
from schemas.digest import file_sha256


def fingerprint(systems: Sequence[System]) -> str:
    """Return a SHA-256 (hexadecimal) over names, sizes and contents of the systems' files.

    Folders above a system do not count, so that moved data keep their fingerprint; the order of the
    systems does not count either, since statistics do not depend on it. Arrays that are not read
    (`hessian.npy`) count, which only errs on the safe side.
    """
    digests: dict[Path, str] = {}
    lines = []
    for system in systems:
        group = system.name.partition("#")[2]
        parts = [f"system {group} {system.num_frames}x{system.num_atoms}"]
        for file in system.files:
            if file not in digests:
                digests[file] = _digest(file)
            name = file.relative_to(system.path) if system.path.is_dir() else file.name
            parts.append(f"{name} {digests[file]}")
        lines.append("\n".join(parts))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _digest(path: Path) -> str:
    return f"{path.stat().st_size} {file_sha256(path)}"
