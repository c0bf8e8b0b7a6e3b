"""The one reader of structures: which format a file has, and its sound frames."""

import bz2
import gzip
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.structures.structure import (
    NONE,
    Dropped,
    FrameFaultError,
    Items,
    Reading,
    RefusedFile,
    Structure,
    short_reason,
)
from schemas.base.errors import DataError

_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_UNREADABLE = (
    OSError,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    UnicodeError,
    MemoryError,
    RecursionError,
)
# Text packs ten times smaller; a thousand times smaller is a trap.
_LARGEST_RATIO = 200
_SMALL = 1 << 28
# Å³ an atom; hydrogen at the centre of Jupiter has more than 1.
_LEAST_ROOM = 0.5
# Å; no two nuclei of any matter are so near.
_TOO_CLOSE = 0.3
_INDEX = re.compile(r"(?P<path>.+)@(?P<index>-?\d+|(?:-?\d+)?:(?:-?\d+)?(?::(?:-?\d+)?)?)")

# Formats with a reader of ours, and the names that dpdata and ASE have for them.
_OURS = {
    "extxyz": ("ase_files", "read_xyz_file"),
    "lammps/dump": ("lammps_files", "read_dump"),
    "lammps/lmp": ("lammps_files", "read_data"),
    "vasp/outcar": ("vasp_files", "read_outcar"),
    "vasp/xml": ("vasp_files", "read_vasprun"),
    "vasp/poscar": ("vasp_files", "read_poscar"),
}
_ALIASES = {
    **dict.fromkeys(
        ("extxyz", "xyz", "mace/xyz", "nequip/xyz", "gpumd/xyz", "quip/gap/xyz",
         "quip/gap/xyz_file"), "extxyz"),
    **dict.fromkeys(("lammps/dump", "dump", "lammps-dump-text"), "lammps/dump"),
    **dict.fromkeys(("lammps/lmp", "lmp", "lammps-data", "lammps/data"), "lammps/lmp"),
    **dict.fromkeys(("vasp/outcar", "outcar", "vasp-out"), "vasp/outcar"),
    **dict.fromkeys(
        ("vasp/poscar", "vasp/contcar", "poscar", "contcar", "vasp"), "vasp/poscar"),
    **dict.fromkeys(("vasp/xml", "xml", "vasp-xml"), "vasp/xml"),
    **dict.fromkeys(
        ("deepmd", "deepmd/npy", "deepmd/comp", "deepmd/npy/mixed", "deepmd/hdf5",
         "deepmd/hdf5/mixed", "deepmd/lmdb", "lmdb"), "deepmd"),
    # What ASE reads better than dpdata: every frame, constraints, elements of its own.
    "ase/traj": "ase:traj", "ase/structure": "ase:",
    # dpdata's takes another energy than that of the forces, and no molecules.
    "fhi_aims/md": "ase:aims-output", "fhi_aims/scf": "ase:aims-output",
}  # fmt: skip

_BY_NAME = (
    (r".*\.(ext)?xyz", "extxyz"),
    (r".*OUTCAR.*", "vasp/outcar"),
    (r"(.*[._-])?vasprun.*\.xml", "vasp/xml"),
    (r".*(POSCAR|CONTCAR|CENTCAR).*|.*\.(vasp|poscar)", "vasp/poscar"),
    (r".*\.traj", "ase:traj"),
    (r".*\.(dump|lammpstrj)|dump\..*", "lammps/dump"),
    (r".*\.(lmp|lammps-data)", "lammps/lmp"),
)
_BY_CONTENT = (
    (rb"\s*ITEM: (TIMESTEP|UNITS|TIME)\b", "lammps/dump"),
    (rb"\s*vasp\.\d[\s\S]*(POTCAR:|INCAR:)", "vasp/outcar"),
    (rb"<\?xml[\s\S]{0,200}<modeling>", "vasp/xml"),
    (rb"[\s\S]*\* *CP2K\||[\s\S]*CP2K\| version string", "cp2k/output"),
    (rb"[\s\S]*Entering Gaussian System", "gaussian/log"),
    (rb"[\s\S]*\* O   R   C   A \*", "orca/spout"),
    (rb"[\s\S]*Psi4: An Open-Source", "psi4/out"),
    (rb"\s*#?[^\n]*\n(?:[^\n]*\n){0,8}?\s*\d+\s+atoms\s*\n[\s\S]*atom types", "lammps/lmp"),
    (rb"\s*\d+\s*\r?\n[^\n]*\n\s*[A-Z][a-z]?\d*[+-]?\s+(-?\d+\.\d*\S*\s+){3}", "extxyz"),
)
_LOOKED_AT = 65536


def read_structures(reading: Reading) -> Iterator[Structure]:
    """Yield the sound structures of a file, one at a time; `reading` says what became of the rest.

    The file may be packed, a folder, `FILE.h5#/group`, a prefix where the format has one; `@INDEX`
    behind it takes frames as in Python: `@-1`, `@:10`, `@::5`.

    Frames without atoms, without a cell where they are periodic, those that the format's reader
    gave up, and where labels are read those with numbers that are not finite are left out and named
    in `reading.dropped`.

    Raises:
        DataError: If there is no such file, it cannot be read, its labels are not clear, or none
            of its frames is sound; the message begins with the file.
    """
    path, index = split_index(reading.file)
    try:
        with ExitStack() as stack:
            items = _numbered(_items(path, reading, stack), reading)
            yield from _sound(_selected(items, index), reading)
    except DataError as error:
        if error.message.startswith((reading.file, path)):
            raise
        message = f"{reading.file} cannot be read{_as(reading)}: {error.message}"
        raise DataError(message, hint=error.hint) from error
    except _UNREADABLE as error:
        message = f"{reading.file} cannot be read{_as(reading)}: {short_reason(error)}"
        raise DataError(message) from error


def readable(reading: Reading, refused: list[RefusedFile]) -> Iterator[Structure]:
    """Yield the same, and where a file cannot be read what could be: it goes into `refused`."""
    try:
        yield from read_structures(reading)
    except DataError as error:
        refused.append(RefusedFile(reading.file, error.message, error.hint))


def _as(reading: Reading) -> str:
    return f" as {reading.format_name}" if reading.format_name else ""


def split_index(file: str) -> tuple[str, slice]:
    """Return the path and the frames of `PATH@INDEX`; a path that exists is taken as it is."""
    found = None if Path(file).exists() else _INDEX.fullmatch(file)
    if found is None:
        return file, slice(None)
    words = found["index"].split(":")
    if len(words) == 1:
        number = int(words[0])
        return found["path"], slice(number, number + 1 if number != -1 else None)
    return found["path"], slice(*(int(word) if word else None for word in words))


def guess_format(path: Path) -> str:
    """Return the format of a file by its name, else by what it begins with, else `ase:`.

    `ase:NAME` is a format of ASE's, `ase:` any that ASE finds.
    """
    if is_deepmd(path):
        return "deepmd"
    if path.is_dir():
        return _guess_folder(path)
    for pattern, name in _BY_NAME:
        if re.fullmatch(pattern, path.name, flags=re.IGNORECASE):
            return name
    with path.open("rb") as stream:
        head = stream.read(_LOOKED_AT)
    return next((name for content, name in _BY_CONTENT if re.match(content, head)), "ase:")


def is_deepmd(path: Path) -> bool:
    """Return whether a path looks like deepmd data by its name, or is a group in a file."""
    return _is_group(path) or path.suffix in {".h5", ".hdf5", ".lmdb"}


def _is_group(path: Path) -> bool:
    """Return whether a path is that of a group in a file that is there: `FILE.h5#/group`."""
    file, sign, _ = str(path).partition("#")
    return bool(sign) and not path.exists() and Path(file).is_file()


def _guess_folder(path: Path) -> str:
    if (path / "type.raw").is_file() and (path / "coord.raw").is_file():
        return "deepmd" if any(path.glob("set.*")) else "deepmd/raw"
    if (path / "INPUT").is_file() and (path / "STRU").is_file():
        text = (path / "INPUT").read_text(encoding="utf-8", errors="replace").lower()
        found = re.search(r"^\s*calculation\s+(\S+)", text, flags=re.MULTILINE)
        kinds = {"md": "abacus/md", "relax": "abacus/relax", "cell-relax": "abacus/relax"}
        return kinds.get(found[1], "abacus/scf") if found else "abacus/scf"
    has_systems = any(path.rglob("type.raw"))
    return "vasp/outcar" if not has_systems and any(path.rglob("OUTCAR*")) else "deepmd"


def known_format(name: str) -> str:
    """Return what reads a format that a person names: one of ours, dpdata's, or `ase:NAME`.

    Raises:
        DataError: If nobody reads it.
    """
    from ase.io.formats import ioformats
    from dpdata.format import Format

    if name in _ALIASES:
        return _ALIASES[name]
    formats = Format.get_formats()  # type: ignore[no-untyped-call]
    kind = formats.get(name)
    writes_only = {Format.from_labeled_system, Format.from_system}
    if kind is not None and {kind.from_labeled_system, kind.from_system} != writes_only:
        return name
    plain = name.removeprefix("ase:").removeprefix("ase/")
    if plain in ioformats:
        return f"ase:{plain}"
    if kind is not None:
        raise DataError(f"dpdata writes {name} and does not read it")
    close = get_close_matches(name, [*formats, *ioformats, *_ALIASES], n=3)
    raise DataError(
        f"dpdata has no format {name}, nor has ASE",
        hint=f"did you mean {' or '.join(close)}?" if close else "see docs/structures.md",
    )


def _items(file: str, reading: Reading, stack: ExitStack) -> Items:
    """Return the frames of a file as the reader of its format yields them."""
    kind = None if reading.format_name is None else known_format(reading.format_name)
    path = Path(file)
    if kind is not None and kind not in _OURS and not kind.startswith(("ase:", "deepmd")):
        from dpa2.data.structures import dpdata_files

        if kind in dpdata_files.PREFIXES or kind in dpdata_files.PAIRS:
            given = dpdata_files.describe_prefix(path, kind)
            if given is None:
                what = "a prefix of its files" if kind in dpdata_files.PREFIXES else "two files"
                raise DataError(f"{file}: {kind} needs {what}", hint="see docs/structures.md")
            return dpdata_files.read(given, kind, reading)
    if not path.exists() and not _is_group(path):
        raise DataError(f"{file}: no such file or folder", hint="check the spelling")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{file} is neither a file nor a folder", hint="save what it gives first")
    path = stack.enter_context(_unpacked(path))
    kind = kind or guess_format(path)
    reading.format_name = kind.removeprefix("ase:")
    if kind == "deepmd":
        from dpa2.data.structures import systems

        return systems.read(file, reading)
    if kind.startswith("ase:"):
        from dpa2.data.structures import ase_files

        return ase_files.read(path, kind.removeprefix("ase:") or None, reading)
    if kind in {"vasp/outcar", "vasp/xml"} and path.is_dir():
        return _below(path, kind, reading)
    if kind in _OURS:
        return _own(path, kind, reading)
    from dpa2.data.structures import dpdata_files

    return dpdata_files.read(str(path), kind, reading)


def _own(path: Path, kind: str, reading: Reading) -> Items:
    """Return what one of our readers reads."""
    if path.is_dir():
        raise DataError(f"{path} is a folder", hint=f"name a file in the format {kind}")
    module, name = _OURS[kind]
    read: Callable[[Path, Reading], Items] = getattr(
        import_module(f"dpa2.data.structures.{module}"), name
    )
    return read(path, reading)


def _below(folder: Path, kind: str, reading: Reading) -> Items:
    """Yield the frames of every file of VASP's below a folder."""
    pattern = "OUTCAR*" if kind == "vasp/outcar" else "vasprun*.xml*"
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not files:
        raise DataError(f"{folder} has no {pattern} in it or below")
    for path in files:
        with _unpacked(path) as place:
            try:
                for number, item in enumerate(_own(place, kind, reading)):
                    if isinstance(item, FrameFaultError):
                        yield FrameFaultError(f"{path} frame {number}: {item.message}")
                    else:
                        yield item
            except DataError as error:
                yield FrameFaultError(f"{path} cannot be read: {error.message}")


def _numbered(items: Items, reading: Reading) -> Iterator[tuple[int, Structure | FrameFaultError]]:
    """Yield frames with their numbers in the file, which readers find in `reading`."""
    for number in count():
        reading.frame = number
        item = next(items, None)
        if item is None:
            return
        yield number, item


def _selected(
    items: Iterator[tuple[int, Structure | FrameFaultError]], index: slice
) -> Iterator[tuple[int, Structure | FrameFaultError]]:
    if index == slice(None):
        return items
    if index.step == 0:
        raise DataError("a step of 0 takes no frames")
    if min(index.start or 0, index.stop or 0, index.step or 1) >= 0:
        return islice(items, index.start, index.stop, index.step)
    return iter(list(items)[index])


def _sound(
    items: Iterator[tuple[int, Structure | FrameFaultError]], reading: Reading
) -> Iterator[Structure]:
    """Yield those of the wanted frames that a model can be given; drop the others."""
    for number, item in items:
        if isinstance(item, FrameFaultError):
            reading.dropped.append(Dropped(number, item.message, item.hint))
        elif (reason := _fault(item, reading)) is not None:
            reading.dropped.append(Dropped(number, reason, source=item.source))
        else:
            reading.num_frames += 1
            if reading.keys is not None and _collapsed(item):
                reading.note(f"atoms are closer than {_TOO_CLOSE} Å: are these positions, in Å?")
            yield replace(item, frame=number)
    if reading.num_frames:
        _check_demands(reading)
        return
    if not reading.dropped:
        raise DataError("it has no frames", hint="check --from, and the index behind @")
    first = reading.dropped[0]
    raise DataError(f"frame {first.frame}: {first.reason}", hint=first.hint)


def _collapsed(structure: Structure) -> bool:
    """Tell whether two atoms all but coincide, as in files of forces read for positions."""
    if len(structure.symbols) < 2:
        return False
    from scipy.spatial import KDTree  # comes with ASE

    distances, _ = KDTree(structure.coord).query(structure.coord, k=2)
    return bool(distances[:, 1].min() < _TOO_CLOSE)


def _check_demands(reading: Reading) -> None:
    """Refuse a file of which no frame has a key that the user named."""
    for label in ("energy", "force", "virial") if reading.keys is not None else ():
        key = reading.keys.of(label) if reading.keys is not None else None
        if key not in {None, NONE} and key not in reading.taken.get(label, ()):
            found = "; ".join(text for text in reading.sentences() if f"no {label}:" in text)
            raise DataError(
                found or f"no frame of it has the key {key}",
                hint=f"name a key that holds the {label}, or none",
            )


def _fault(structure: Structure, reading: Reading) -> str | None:
    """Return why a structure is of no use, None if it is sound."""
    count = len(structure.symbols)
    if count == 0:
        return "it has no atoms"
    if structure.coord.shape != (count, 3):
        return f"it has {count} atoms and coordinates of the shape {structure.coord.shape}"
    values = {"coord": structure.coord, "box": structure.box, **structure.labels}
    for name, value in values.items() if reading.keys is not None else ():
        if value is not None and not np.isfinite(value).all():
            return f"{name} has NaN or infinity"
    if structure.box is not None and np.isfinite(structure.box).all():
        periodic = structure.box[list(structure.pbc)]
        lengths = np.linalg.svd(periodic, compute_uv=False)
        if not lengths.min() > 1e-6 * max(float(lengths.max()), 1.0):
            return "it is periodic in directions that have no cell vector, or parallel ones"
        room = float(lengths.prod()) / count
        if all(structure.pbc) and room < _LEAST_ROOM:
            return (
                f"its cell has {room:.3g} Å³ an atom, less than any matter: is it the cell, in Å?"
            )
    return None


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack a packed file beside nothing of the user's, under its name without the ending."""
    if path.suffix.lower() not in _PACKED or not path.is_file():
        yield path
        return
    limit = max(_SMALL, _LARGEST_RATIO * path.stat().st_size)
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        target = Path(folder) / path.stem
        with _PACKED[path.suffix.lower()](path, "rb") as packed, target.open("wb") as stream:
            while block := packed.read(1 << 20):
                stream.write(block)
                if stream.tell() > limit:
                    raise DataError(
                        f"it unpacks to more than {limit >> 20} MiB, {_LARGEST_RATIO} times that",
                        hint="unpack it yourself if that is right",
                    )
        yield target
