"""The systems that the paths of an input file name, opened."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from dpa2.data.store import NpyFolder
from dpa2.data.stored_system import StoredSystem
from dpa2.data.system import System
from schemas.base.errors import DataError
from schemas.check.data_folders import SystemFolders, find_systems

_HDF5_SUFFIXES = (".h5", ".hdf5")
_CONVERT_HINT = "convert other formats first: zoo data convert FILE -o DIRECTORY --from FORMAT"


def open_systems(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    type_map: Sequence[str] | None = None,
    rglob_patterns: Sequence[str] | None = None,
    *,
    keep_bad_frames: bool = False,
) -> list[System]:
    """Open every system below the given roots.

    A root is a folder (searched recursively for `type.raw`), `file.h5#/group`, a whole `.h5` or
    `.hdf5` file, or an LMDB data base. Systems below one root come in sorted order; deepmd-kit
    takes them in the order of the file system (docs/deepmd-format.md, 2.5).

    Args:
        paths: One root or several.
        type_map: Elements of the model; atom types are translated to it. None keeps each system's
            own numbers.
        rglob_patterns: Look only in folders that match one of these patterns below a root.
        keep_bad_frames: Open systems in which some frames have a cell without volume; evaluation
            says which and goes on with the others.

    Raises:
        DataError: If a root is missing or holds no system, or a system is faulty.
    """
    roots = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    if not roots:
        raise DataError("the list of systems is empty", hint="name at least one folder with data")
    systems: list[System] = []
    for root in roots:
        systems += _open_root(str(root), type_map, rglob_patterns, keep_bad=keep_bad_frames)
    _note_duplicates(systems)
    return systems


def _open_root(
    root: str,
    type_map: Sequence[str] | None,
    patterns: Sequence[str] | None,
    *,
    keep_bad: bool,
) -> Sequence[System]:
    file, hash_sign, group = root.partition("#")
    path = Path(file)
    if hash_sign:
        from dpa2.data.hdf5 import Hdf5Group

        return [StoredSystem(Hdf5Group(path, group), type_map, keep_bad_frames=keep_bad)]
    if not path.exists():
        hint = "check the spelling; paths are relative to the folder where zoo was started"
        if any(sign in root for sign in "*?["):
            hint = "patterns are not expanded here; name the folder and use rglob_patterns"
        raise DataError(f"no such file or folder: {root}", hint=hint)
    if path.suffix == ".lmdb" or (path / "data.mdb").is_file():
        from dpa2.data.lmdb import open_lmdb

        return open_lmdb(path, type_map, keep_bad_frames=keep_bad)
    if path.is_file() and path.suffix in _HDF5_SUFFIXES:
        from dpa2.data.hdf5 import Hdf5Group, find_groups

        groups = find_groups(path)
        if not groups:
            raise DataError(f"{root} holds no system", hint="no group of it has a type.raw")
        return [
            StoredSystem(Hdf5Group(path, name), type_map, keep_bad_frames=keep_bad)
            for name in groups
        ]
    if path.is_file():
        raise DataError(f"{root} is a file, not a folder with a system", hint=_CONVERT_HINT)
    found = _find_folders(path, patterns)
    systems = [
        StoredSystem(NpyFolder(folder), type_map, keep_bad_frames=keep_bad)
        for folder in found.folders
    ]
    systems[0].warnings += found.notes
    return systems


def _find_folders(root: Path, patterns: Sequence[str] | None) -> SystemFolders:
    """Return the folders with a `type.raw`, or say why there is none."""
    found = find_systems(root, patterns)
    if found.folders:
        return found
    if root.name.startswith("set.") and (root.parent / "type.raw").is_file():
        raise DataError(
            f"{root} is one set of a system", hint=f"give the system itself: {root.parent}"
        )
    if patterns is not None:
        raise DataError(f"{root} has no system that matches {', '.join(patterns)}")
    if any(root.glob("set.*")):
        raise DataError(
            f"{root} has sets but no type.raw", hint="type.raw lists the type number of each atom"
        )
    raise DataError(
        f"{root} holds no system: there is no type.raw in it or below",
        hint="; ".join(found.notes) or _CONVERT_HINT,
    )


def _note_duplicates(systems: Sequence[System]) -> None:
    """Warn on systems given more than once, links resolved: their frames weigh double."""
    seen: dict[tuple[Path, str], str] = {}
    for system in systems:
        place = (system.path.resolve(), system.name.removeprefix(str(system.path)))
        if place not in seen:
            seen[place] = system.name
            continue
        other = "" if seen[place] == system.name else f" (also as {seen[place]})"
        system.warnings.append(f"{system.name} is listed more than once{other} and weighs double")
