"""What the folders of training data contain, without reading the numbers in them."""

import ast
import dataclasses
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.base.diagnostics import Finding
from schemas.base.diagnostics import Path as DataPath
from schemas.base.foreign_files import special_kind
from schemas.base.system_folders import find_systems
from schemas.input.root import Input
from schemas.input.training import DataSection


@dataclass(frozen=True, slots=True)
class Root:
    """One entry of `systems`: its path in the input, what is written, and the systems below."""

    path: DataPath
    written: str
    systems: tuple[Path, ...]

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


def sections(config: Input) -> Iterator[tuple[str, DataSection]]:
    """Yield the data sections that are there, with their keys."""
    yield "training_data", config.training.training_data
    if config.training.validation_data is not None:
        yield "validation_data", config.training.validation_data


def roots(name: str, section: DataSection) -> list[Root]:
    """Return the entries of a section's `systems` with the systems found below each."""
    patterns = tuple(section.rglob_patterns or ())
    path = ("training", name, "systems")
    if isinstance(section.systems, str):
        return [Root(path, section.systems, systems_below(section.systems, patterns))]
    return [
        Root((*path, index), written, systems_below(written, patterns))
        for index, written in enumerate(section.systems)
        if isinstance(written, str)
    ]


@cache
def systems_below(written: str, patterns: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Return the folders below a path (itself included) that hold `type.raw`, sorted."""
    if is_container(written):
        return ()
    try:
        return find_systems(Path(written), patterns or None).folders
    except (OSError, ValueError, NotImplementedError):  # an empty or an absolute pattern
        return ()


def names_of_types(system: Path) -> list[str] | None:
    """Return the names in `type_map.raw`, None if there is no such file."""
    text = read_text(system / "type_map.raw")
    return None if text is None else text.split()


def type_indices(system: Path) -> list[int] | None:
    """Return the indices in `type.raw`, None if they are not whole numbers."""
    text = read_text(system / "type.raw")
    try:
        return None if text is None else [int(word) for word in text.split()]
    except ValueError:
        return None


def sets_of(system: Path) -> list[Path]:
    """Return the sets of a system, sorted."""
    return sorted(path for path in system.glob("set.*") if path.is_dir())


def has_label(system: Path, name: str) -> bool:
    """Return whether the first set of a system has an array of this name."""
    sets = sets_of(system)
    return bool(sets) and (sets[0] / f"{name}.npy").is_file()


def read_text(path: Path) -> str | None:
    """Return the text of a small file, None if it cannot be read."""
    if special_kind(path) is not None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """Shape and type of an array file."""

    shape: tuple[int, ...]
    dtype: str


def array_header(path: Path) -> ArrayHeader | None:
    """Return the header of a `.npy` file, None if it is not one."""
    if special_kind(path) is not None:
        return None
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
            if magic[:6] != b"\x93NUMPY":
                return None
            layout = "<H" if magic[6] == 1 else "<I"
            (length,) = struct.unpack(layout, stream.read(struct.calcsize(layout)))
            header = ast.literal_eval(stream.read(min(length, 65536)).decode("latin-1"))
            return ArrayHeader(tuple(header["shape"]), str(header["descr"]))
    except (
        OSError,
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
        struct.error,
        RecursionError,
        MemoryError,
    ):
        return None


def missing_elements(config: Input) -> set[str]:
    """Return the elements that some system has and the model has not."""
    known = set(config.model.type_map)
    missing: set[str] = set()
    for name, section in sections(config):
        for root in roots(name, section):
            for system in root.systems:
                missing |= set(names_of_types(system) or ()) - known
    return missing


def elements_of(system: Path) -> set[str] | None:
    """Return the elements of the atoms of a system, None if its files do not tell without arrays.

    In the mixed layout all names of `type_map.raw` may occur.
    """
    names, indices = names_of_types(system), type_indices(system)
    if not names or not indices:
        return None
    if has_label(system, "real_atom_types"):
        return set(names)
    return {names[index] for index in indices if 0 <= index < len(names)} or None


MISSING = "ZOO401"


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
    written = list(_systems(data.get("training")))
    missing = [item for item in findings if item.code == MISSING]
    if not missing:
        return list(findings)
    if not elsewhere and any(exists(Path(text.partition("#")[0])) for text in written):
        return list(findings)
    first, rest = missing[0], [item for item in findings if item.code != MISSING]
    if elsewhere:
        message = f"{len(missing)} of {len(written)} paths of data do not exist below {Path.cwd()}"
        return [*rest, dataclasses.replace(first, message=message, hint=None, severity="warning")]
    number = "the path" if len(written) == 1 else f"none of the {len(written)} paths"
    verb = "does not exist" if len(written) == 1 else "exists"
    message = f"{number} of data {verb} below {Path.cwd()}: the data are not checked"
    hint = "validate and train in the folder that the paths are relative to"
    warning = dataclasses.replace(first, message=message, hint=hint, severity="warning")
    return [*rest, warning]


def _systems(section: Any) -> Iterator[str]:
    """Yield every path under a key `systems`, at any depth."""
    if not isinstance(section, dict):
        return
    for key, value in section.items():
        if key == "systems":
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item
        else:
            yield from _systems(value)
