"""Which folders are systems, and what they contain, without reading the numbers in them."""

import ast
import dataclasses
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from schemas.base.diagnostics import Finding
from schemas.base.diagnostics import Path as DataPath
from schemas.base.foreign_files import special_kind
from schemas.input.root import Input
from schemas.input.training import DataSection


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


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """Shape and type of an array file."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Folder:
    """A system, as far as its small files and the headers of its arrays tell."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def names(self) -> list[str] | None:
        """The names in `type_map.raw`, None if there is no such file."""
        text = _read_text(self.path / "type_map.raw")
        return None if text is None else text.split()

    @cached_property
    def indices(self) -> list[int] | None:
        """The indices in `type.raw`, None if they are not whole numbers."""
        text = _read_text(self.path / "type.raw")
        try:
            return None if text is None else [int(word) for word in text.split()]
        except ValueError:
            return None

    @cached_property
    def sets(self) -> list[Path]:
        """The sets, sorted."""
        return sorted(path for path in self.path.glob("set.*") if path.is_dir())

    @cached_property
    def frames(self) -> int:
        """Number of frames, 0 if unknown."""
        headers = [array_header(folder / "coord.npy") for folder in self.sets]
        return sum(item.shape[0] for item in headers if item is not None and item.shape)

    def has(self, label: str) -> bool:
        """Return whether the first set has an array of this name."""
        return bool(self.sets) and (self.sets[0] / f"{label}.npy").is_file()

    @cached_property
    def elements(self) -> set[str] | None:
        """The elements of the atoms, None if the files do not tell without arrays.

        In the mixed layout all names of `type_map.raw` may occur.
        """
        if not self.names or not self.indices:
            return None
        if self.has("real_atom_types"):
            return set(self.names)
        return {self.names[i] for i in self.indices if 0 <= i < len(self.names)} or None


@dataclass(frozen=True, slots=True)
class Root:
    """An entry of `systems`: its section, its path, what is written, and the systems below."""

    section: str
    path: DataPath
    written: str
    systems: tuple[Folder, ...]

    @property
    def is_folder(self) -> bool:
        """Whether it is an ordinary folder, not HDF5 or LMDB."""
        return not is_container(self.written)


def is_container(written: str) -> bool:
    """Return whether an entry names an HDF5 or LMDB file instead of a folder."""
    name = written.partition("#")[0].rstrip("/")
    if name.endswith((".h5", ".hdf5", ".lmdb")) or "#" in written:
        return True
    return exists(Path(name, "data.mdb"))


def exists(path: Path) -> bool:
    """Return whether a path exists; one that cannot be looked at (too long a name) does not."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def sections(config: Input, only: str | None = None) -> Iterator[tuple[str, DataSection]]:
    """Yield the data sections that are there, or only one of them, with their keys."""
    for name in ("training_data", "validation_data") if only is None else (only,):
        section = getattr(config.training, name)
        if section is not None:
            yield name, section


def roots(config: Input, only: str | None = None) -> Iterator[Root]:
    """Yield the entries of `systems` of all data sections, or of one, with what is below each."""
    for name, section in sections(config, only):
        patterns = tuple(section.rglob_patterns or ())
        path = ("training", name, "systems")
        if isinstance(section.systems, str):
            yield Root(name, path, section.systems, systems_below(section.systems, patterns))
            continue
        for index, written in enumerate(section.systems):
            if isinstance(written, str):
                yield Root(name, (*path, index), written, systems_below(written, patterns))


def systems(config: Input, only: str | None = None) -> Iterator[tuple[Root, Folder]]:
    """Yield the systems in folders with the entries below which they are."""
    for root in roots(config, only):
        for system in root.systems:
            yield root, system


@cache
def systems_below(written: str, patterns: tuple[str, ...] = ()) -> tuple[Folder, ...]:
    """Return the folders below a path (itself included) that hold `type.raw`, sorted."""
    if is_container(written):
        return ()
    with suppress(OSError, ValueError, NotImplementedError):  # an empty or an absolute pattern
        return tuple(map(Folder, find_systems(Path(written), patterns or None).folders))
    return ()


def _read_text(path: Path) -> str | None:
    """Return the text of a small file, None if it cannot be read."""
    if special_kind(path) is None:
        with suppress(OSError, UnicodeDecodeError):
            return path.read_text(encoding="utf-8")
    return None


_DAMAGED = (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error, RecursionError)


@cache
def array_header(path: Path) -> ArrayHeader | None:
    """Return the header of a `.npy` file, None if it is not one."""
    if special_kind(path) is not None:
        return None
    with suppress(*_DAMAGED, MemoryError), path.open("rb") as stream:
        magic = stream.read(8)
        if magic[:6] == b"\x93NUMPY":
            layout = "<H" if magic[6] == 1 else "<I"
            (length,) = struct.unpack(layout, stream.read(struct.calcsize(layout)))
            header = ast.literal_eval(stream.read(min(length, 65536)).decode("latin-1"))
            return ArrayHeader(tuple(header["shape"]), str(header["descr"]))
    return None


def forget() -> None:
    """Forget what was seen of folders: they may have changed since the last check."""
    systems_below.cache_clear()
    array_header.cache_clear()


def without_absent_data(
    data: dict[str, Any], findings: Sequence[Finding], *, elsewhere: bool = False
) -> list[Finding]:
    """Return the findings, with one warning where no path of the input's data exists here.

    A path that is missing beside others that exist is a fault of the input. Where all are missing,
    the input may be right where its data are, and everything else in it can still be checked.

    Args:
        data: The data of the file.
        findings: What was found.
        elsewhere: Whether the data are known to be on another machine, whatever exists here.
    """
    written = list(_written(data.get("training")))
    missing = [item for item in findings if item.code == "ZOO401"]
    here = not elsewhere and any(exists(Path(text.partition("#")[0])) for text in written)
    if not missing or here:
        return list(findings)
    hint = "validate and train in the folder that the paths are relative to"
    if elsewhere:
        message = f"{len(missing)} of {len(written)} paths of data do not exist below {Path.cwd()}"
    else:
        number = "the path" if len(written) == 1 else f"none of the {len(written)} paths"
        verb = "does not exist" if len(written) == 1 else "exists"
        message = f"{number} of data {verb} below {Path.cwd()}: the data are not checked"
    warning = dataclasses.replace(
        missing[0], message=message, hint=None if elsewhere else hint, severity="warning"
    )
    return [*(item for item in findings if item.code != "ZOO401"), warning]


def _written(section: Any) -> Iterator[str]:
    """Yield every path under a key `systems`, at any depth."""
    for key, value in section.items() if isinstance(section, dict) else ():
        if key == "systems":
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item
        else:
            yield from _written(value)
