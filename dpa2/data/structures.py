"""Structures read from any format, one frame each, on their way into a data set."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.frames import PADDING, FloatArray
from dpa2.data.labels import LABELS
from dpa2.data.system import System
from schemas.errors import DataError

# What dpdata and the readers it calls raise on files they do not understand.
_READER_ERRORS = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    NotImplementedError,
    ArithmeticError,
)
_GUESSES = (
    (r".*\.(ext)?xyz", "extxyz"),
    (r"OUTCAR.*", "vasp/outcar"),
    (r".*\.xml", "vasp/xml"),
    (r"(POSCAR|CONTCAR).*", "vasp/poscar"),
    (r".*\.traj", "ase/traj"),
    (r".*\.(dump|lammpstrj)", "lammps/dump"),
)
_DPDATA_LABELS = {"energies": "energy", "forces": "force", "virials": "virial"}


@dataclass(frozen=True, slots=True)
class Structure:
    """One frame with its element names.

    Attributes:
        source: File and frame, for messages.
        symbols: Element of each atom, in the order of the file.
        coord: (N, 3) Å.
        box: (3, 3) Å, rows are cell vectors; None without periodic boundaries.
        labels: Labels by their name in `Frames`, without the frame axis.
    """

    source: str
    symbols: tuple[str, ...]
    coord: FloatArray
    box: FloatArray | None
    labels: dict[str, FloatArray] = field(default_factory=dict)


def guess_format(path: Path) -> str:
    """Guess a dpdata format from a file name.

    Raises:
        DataError: If the name says nothing.
    """
    if path.suffix in {".h5", ".hdf5", ".lmdb"} or path.is_dir():
        return "deepmd"
    for pattern, name in _GUESSES:
        if re.fullmatch(pattern, path.name, flags=re.IGNORECASE):
            return name
    raise DataError(
        f"cannot tell the format of {path} from its name",
        hint="give it: --from extxyz, vasp/outcar, cp2k/output, qe/pw/scf, abacus/scf, lammps/dump",
    )


def read_structures(
    path: Path, format_name: str, type_names: Sequence[str] | None = None
) -> Iterator[Structure]:
    """Read all frames of a file in a format of dpdata, or of `deepmd` data in any form.

    Args:
        path: The file or folder.
        format_name: A name of dpdata's, or `deepmd`.
        type_names: Element of each numbered type, for formats without names (LAMMPS dumps).

    Raises:
        DataError: If the file is missing or cannot be read as this format.
    """
    if not Path(str(path).partition("#")[0]).exists():
        raise DataError(f"no such file or folder: {path}", hint="check the spelling")
    if format_name == "deepmd" or format_name.startswith("deepmd/"):
        yield from _read_deepmd(path)
        return
    count = 0
    for data in _read_dpdata(path, format_name):
        for structure in _unpack(data, f"{path}", count, type_names):
            yield structure
            count += 1
    if count == 0:
        raise DataError(f"{path} has no frames as {format_name}", hint="check --from")


def _read_deepmd(path: Path) -> Iterator[Structure]:
    from dpa2.data.systems import open_systems

    for system in open_systems(str(path)):
        names = _element_names(system)
        for frames in system.chunks(256):
            for i in range(frames.num_frames):
                real = frames.atom_types[i] != PADDING
                labels = {}
                for name in system.labels:
                    value = getattr(frames, name)[i]
                    labels[name] = value[real] if LABELS[name].per_atom else value
                yield Structure(
                    source=f"{system.name} frame {frames.indices[i]}",
                    symbols=tuple(names[t] for t in frames.atom_types[i][real]),
                    coord=frames.coord[i][real],
                    box=None if frames.box is None else frames.box[i],
                    labels=labels,
                )


def _element_names(system: System) -> Sequence[str]:
    if not system.type_map:
        raise DataError(
            f"{system.name} has no type_map.raw",
            hint="write one: the element of type 0, 1, ..., one a line",
        )
    return system.type_map


def _read_dpdata(path: Path, format_name: str) -> Iterator[dict[str, Any]]:
    """Yield dpdata's dictionaries, one per group of frames."""
    import dpdata
    from dpdata.format import Format

    formats = Format.get_formats()  # type: ignore[no-untyped-call]
    if format_name not in formats:
        from difflib import get_close_matches

        close = get_close_matches(format_name, formats, n=3)
        raise DataError(
            f"dpdata has no format {format_name}",
            hint=f"did you mean {' or '.join(close)}?" if close else "see the list of dpdata",
        )
    kind = formats[format_name]
    has_labels = kind.from_labeled_system is not Format.from_labeled_system
    system = dpdata.LabeledSystem if has_labels else dpdata.System
    try:
        if kind.from_multi_systems is Format.from_multi_systems:
            yield system(str(path), fmt=format_name).data
            return
        for item in kind().from_multi_systems(str(path)):
            yield system(item, fmt=format_name).data
    except _READER_ERRORS as error:
        raise DataError(
            f"{path} cannot be read as {format_name}: {error or type(error).__name__}",
            hint="check --from, and that the calculation is complete",
        ) from error


def _unpack(
    data: dict[str, Any], source: str, first: int, type_names: Sequence[str] | None
) -> Iterator[Structure]:
    names = _resolve_names([str(name) for name in data["atom_names"]], source, type_names)
    symbols = tuple(names[t] for t in data["atom_types"])
    periodic = not data.get("nopbc", False)
    labels = {ours: data[theirs] for theirs, ours in _DPDATA_LABELS.items() if theirs in data}
    for i, coord in enumerate(np.asarray(data["coords"], dtype=np.float64)):
        yield Structure(
            source=f"{source} frame {first + i}",
            symbols=symbols,
            coord=coord,
            box=np.asarray(data["cells"][i], dtype=np.float64) if periodic else None,
            labels={
                name: np.asarray(values[i], dtype=np.float64) for name, values in labels.items()
            },
        )


def _resolve_names(
    names: list[str], source: str, type_names: Sequence[str] | None
) -> Sequence[str]:
    """Replace the TYPE_0, TYPE_1, ... that dpdata makes up for files without element names."""
    numbers = [re.fullmatch(r"(?:TYPE|Type)_([0-9]+)", name) for name in names]
    if not any(numbers):
        return names
    if type_names is None or len(type_names) < len(names):
        raise DataError(
            f"{source} numbers its {len(names)} atom types and does not name them",
            hint="name the element of each: --type-map O H",
        )
    return [type_names[int(m[1])] if m else name for m, name in zip(numbers, names, strict=True)]
