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
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.structures.deepmd_files import is_deepmd
from dpa2.data.structures.elements import short_reason
from dpa2.data.structures.structure import (
    NONE,
    Dropped,
    FileReport,
    ReadOptions,
    RefusedFile,
    Structure,
)
from schemas.base.errors import DataError

# Names of dpdata's and ASE's that one reader of ours reads.
ALIASES = {
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
}  # fmt: skip

# What ASE reads better than dpdata: every frame, constraints, elements of its own.
_OF_ASE = {
    "ase/traj": "traj", "ase/structure": "",
    # dpdata's takes another energy than that of the forces, and no molecules.
    "fhi_aims/md": "aims-output", "fhi_aims/scf": "aims-output",
}  # fmt: skip

_BY_NAME = (
    (r".*\.(ext)?xyz", "extxyz"),
    (r".*OUTCAR.*", "vasp/outcar"),
    (r"(.*[._-])?vasprun.*\.xml", "vasp/xml"),
    (r".*(POSCAR|CONTCAR|CENTCAR).*|.*\.(vasp|poscar)", "vasp/poscar"),
    (r".*\.traj", "ase:traj"),
    (r".*\.(dump|lammpstrj)|dump\..*", "lammps/dump"),
    (r".*\.(lmp|lammps-data)", "lammps/lmp"),
)  # fmt: skip

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
    for content, name in _BY_CONTENT:
        if re.match(content, head):
            return name
    return "ase:"


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

    if name in ALIASES:
        return ALIASES[name]
    if name in _OF_ASE:
        return f"ase:{_OF_ASE[name]}"
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
    close = get_close_matches(name, [*formats, *ioformats, *ALIASES], n=3)
    raise DataError(
        f"dpdata has no format {name}, nor has ASE",
        hint=f"did you mean {' or '.join(close)}?" if close else "see docs/structures.md",
    )


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
Items = Iterator[Structure | Dropped]


def read_structures(file: str, options: ReadOptions, report: FileReport) -> Iterator[Structure]:
    """Yield the sound structures of a file, one at a time; `report` says what became of the rest.

    Frames without atoms, without a cell where they are periodic, those that the format's reader
    gave up, and where labels are read those with numbers that are not finite are left out and named
    in `report.dropped`.

    Args:
        file: A file, packed or not, a folder, `FILE.h5#/group`, a prefix where the format has one;
            `@INDEX` behind it takes frames as in Python: `@-1`, `@:10`, `@::5`.
        options: How to read.
        report: Filled while reading.

    Raises:
        DataError: If there is no such file, it cannot be read, its labels are not clear, or none
            of its frames is sound; the message begins with the file.
    """
    path, index = split_index(file)
    try:
        with ExitStack() as stack:
            items = _selected(enumerate(_items(path, options, report, stack)), index)
            yield from _sound(items, options, report)
    except DataError as error:
        if error.message.startswith((file, path)):
            raise
        raise DataError(
            f"{file} cannot be read{_as(report)}: {error.message}", hint=error.hint
        ) from error
    except _UNREADABLE as error:
        raise DataError(f"{file} cannot be read{_as(report)}: {short_reason(error)}") from error


def readable(
    file: str, options: ReadOptions, report: FileReport, refused: list[RefusedFile]
) -> Iterator[Structure]:
    """Yield the same, and where a file cannot be read what could be: it goes into `refused`."""
    try:
        yield from read_structures(file, options, report)
    except DataError as error:
        refused.append(RefusedFile(file, error.message, error.hint))


def _as(report: FileReport) -> str:
    return f" as {report.format_name}" if report.format_name else ""


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


def _items(file: str, options: ReadOptions, report: FileReport, stack: ExitStack) -> Items:
    from dpa2.data.structures import ase_files, deepmd_files, dpdata_files

    kind = None if options.format_name is None else known_format(options.format_name)
    path = Path(file)
    if kind in dpdata_files.PREFIXES or kind in dpdata_files.PAIRS:
        assert kind is not None
        given = dpdata_files.describe_prefix(path, kind)
        if given is None:
            what = "a prefix of its files" if kind in dpdata_files.PREFIXES else "two files"
            raise DataError(f"{file}: {kind} needs {what}", hint="see docs/structures.md")
        report.format_name = kind
        return dpdata_files.read(given, kind, options, report)
    if not path.exists() and not deepmd_files.is_group(path):
        raise DataError(f"{file}: no such file or folder", hint="check the spelling")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{file} is neither a file nor a folder", hint="save what it gives first")
    if path.suffix.lower() in _PACKED and path.is_file():
        path = stack.enter_context(_unpacked(path))
    kind = kind or guess_format(path)
    report.format_name = kind.removeprefix("ase:")
    if kind == "deepmd":
        return deepmd_files.read(file, options, report)
    if kind.startswith("ase:"):
        return ase_files.read(path, kind.removeprefix("ase:") or None, options, report)
    if kind in {"vasp/outcar", "vasp/xml"} and path.is_dir():
        return _below(path, kind, options, report)
    return _own(path, kind, options, report) or dpdata_files.read(str(path), kind, options, report)


def _own(path: Path, kind: str, options: ReadOptions, report: FileReport) -> Items | None:
    """Return what one of our readers reads; None where the format is dpdata's."""
    from dpa2.data.structures import lammps_files, vasp_files, xyz_files

    readers = {
        "extxyz": xyz_files.read,
        "lammps/dump": lammps_files.read_dump,
        "lammps/lmp": lammps_files.read_data,
        "vasp/outcar": vasp_files.read_outcar,
        "vasp/xml": vasp_files.read_vasprun,
        "vasp/poscar": vasp_files.read_poscar,
    }
    if kind in readers and path.is_dir():
        raise DataError(f"{path} is a folder", hint=f"name a file in the format {kind}")
    return readers[kind](path, options, report) if kind in readers else None


def _below(folder: Path, kind: str, options: ReadOptions, report: FileReport) -> Items:
    """Yield the frames of every file of VASP's below a folder, numbered through."""
    pattern = "OUTCAR*" if kind == "vasp/outcar" else "vasprun*.xml*"
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not files:
        raise DataError(f"{folder} has no {pattern} in it or below")
    number = 0
    for path in files:
        with ExitStack() as stack:
            packed = path.suffix.lower() in _PACKED
            place = stack.enter_context(_unpacked(path)) if packed else path
            try:
                for item in _own(place, kind, options, report) or ():
                    if isinstance(item, Dropped):
                        yield Dropped(number, f"{path} frame {item.frame}: {item.reason}")
                    else:
                        yield item
                    number += 1
            except DataError as error:
                yield Dropped(number, f"{path} cannot be read: {error.message}")
                number += 1


def _sound(
    items: Iterator[tuple[int, Structure | Dropped]], options: ReadOptions, report: FileReport
) -> Iterator[Structure]:
    """Yield those of the wanted frames that a model can be given; drop the others."""
    for number, item in items:
        if isinstance(item, Dropped):
            report.dropped.append(item)
            continue
        reason = _fault(item, options)
        if reason is not None:
            report.dropped.append(Dropped(number, reason, source=item.source))
            continue
        report.num_frames += 1
        if options.keys is not None and _collapsed(item):
            report.note(f"atoms are closer than {_TOO_CLOSE} Å: are these positions, in Å?")
        yield replace(item, frame=number)
    if report.num_frames:
        _check_demands(options, report)
        return
    if not report.dropped:
        raise DataError("it has no frames", hint="check --from, and the index behind @")
    first = report.dropped[0]
    raise DataError(f"frame {first.frame}: {first.reason}", hint=first.hint)


def _collapsed(structure: Structure) -> bool:
    """Tell whether two atoms all but coincide, as in files of forces read for positions."""
    if len(structure.symbols) < 2:
        return False
    from scipy.spatial import KDTree  # comes with ASE

    distances, _ = KDTree(structure.coord).query(structure.coord, k=2)
    return bool(distances[:, 1].min() < _TOO_CLOSE)


def _check_demands(options: ReadOptions, report: FileReport) -> None:
    """Refuse a file of which no frame has a key that the user named."""
    keys = options.keys
    if keys is None:
        return
    for label, key in (("energy", keys.energy), ("force", keys.forces), ("virial", keys.stress)):
        if key not in {None, NONE} and key not in report.taken.get(label, ()):
            found = "; ".join(text for text in report.sentences() if f"no {label}:" in text)
            raise DataError(
                found or f"no frame of it has the key {key}",
                hint=f"name a key that holds the {label}, or none",
            )


def _selected(
    items: Iterator[tuple[int, Structure | Dropped]], index: slice
) -> Iterator[tuple[int, Structure | Dropped]]:
    if index == slice(None):
        return items
    if index.step == 0:
        raise DataError("a step of 0 takes no frames")
    if min(index.start or 0, index.stop or 0, index.step or 1) >= 0:
        return islice(items, index.start, index.stop, index.step)
    return iter(list(items)[index])


def _fault(structure: Structure, options: ReadOptions) -> str | None:
    """Return why a structure is of no use, None if it is sound."""
    count = len(structure.symbols)
    if count == 0:
        return "it has no atoms"
    if structure.coord.shape != (count, 3):
        return f"it has {count} atoms and coordinates of the shape {structure.coord.shape}"
    values = {"coord": structure.coord, "box": structure.box, **structure.labels}
    for name, value in values.items() if options.keys is not None else ():
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
    """Unpack a file beside nothing of the user's, under its name without the ending."""
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
