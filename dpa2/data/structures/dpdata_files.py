"""Formats that dpdata reads; what it found is checked before it is believed."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from dpdata.format import Format

from dpa2.data.structures.structure import (
    Floats,
    FrameFaultError,
    Items,
    Periodic,
    Reading,
    Structure,
    element_of,
    foreign,
    numbered,
    open_text,
    symbols_of,
)
from schemas.base.errors import DataError

_LABELS = {"energy": "energies", "force": "forces", "virial": "virials"}
_NUMBERED = re.compile(r"(?:TYPE|Type)_([0-9]+)")

PREFIXES = {"qe/cp/traj", "openmx/md", "amber/md"}
"""Formats that read the files whose names begin with the path."""
PAIRS = {"dftbplus": ("dftb_in.hsd", "detailed.out")}
"""Formats that read two files, and their usual names."""

# Without it, the last step of an optimisation is all that is read.
_ARGUMENTS: dict[str, dict[str, Any]] = {"gaussian/log": {"md": True}}
# dpdata multiplies their stress with the volume; in them tension is positive, in a virial not.
_TENSION_POSITIVE = {"siesta/output", "siesta/aimd_output"}

_ORCA_STEP = "CARTESIAN COORDINATES (ANGSTROEM)"
_CP2K_ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL \( *(\w+) *\)")
_MOVED = re.compile(r"(?m)^(?:Geometry optimization|MD|Difference derivative) step: *([1-9]\d*)")


class _Mixture(NamedTuple):
    """What an output has where dpdata would join what does not belong together."""

    sign: re.Pattern[str]
    at_most: int
    said: str
    hint: str


_MIXTURES = {
    "qe/pw/scf": _Mixture(
        re.compile(r"!    total energy"), 1,
        "it has {count} energies, and the coordinates would be those of the input",
        "read every step with --from espresso-out",
    ),
    "siesta/output": _Mixture(
        re.compile(r"outcoor: Atomic coordinates"), 1,
        "it has {count} steps", "read them with --from siesta/aimd_output",
    ),
    # Energies whose derivatives the printed forces are, where there is one of these.
    "gaussian/log": _Mixture(
        re.compile(
            r"\bEUMP[2-5] *=|\bE\(C(?:ORR|orr)\) *=|\bCCSD\(T\) *=|\bE2\([\w-]+\) *=|"
            r"ONIOM: extrapolated energy|Total Energy, E\([^)]*\)"
        ), 0,
        "its forces belong to another energy than SCF Done, which dpdata takes: there is {first}",
        "if ASE's energy is the right one: --from gaussian-out",
    ),
}  # fmt: skip


def read(path: str, format_name: str, reading: Reading) -> Items:
    """Yield the frames of a file, folder, prefix or pair of files in a format of dpdata.

    Args:
        path: What dpdata is given; a pair is two paths with a comma between them.
        format_name: dpdata's name.
        reading: How to read, and where remarks go.

    Raises:
        DataError: If dpdata cannot read it, or what it read does not fit together.
    """
    _refuse_mixtures(path, format_name)
    unconverged = _unconverged(path) if format_name == "openmx/md" else set()
    of_cp2k = periodicity_of_cp2k(path) if format_name.startswith("cp2k/") else None
    count = 0
    for data in _steps(path, format_name, reading):
        for structure in _unpack(data, reading) if isinstance(data, dict) else [data]:
            count += 1
            if isinstance(structure, FrameFaultError):
                yield structure
                continue
            if format_name == "cp2k/aimd_output" and count == 1:
                compare_with_positions(path, structure.symbols)
            if count - 1 in unconverged:
                yield FrameFaultError("its electrons are not converged")
            elif of_cp2k is not None:
                yield replace(structure, box=structure.box if any(of_cp2k) else None, pbc=of_cp2k)
            else:
                yield structure
    if count == 0:
        raise DataError(
            "it has no frames",
            hint="check --from, and that the calculation is complete and converged",
        )
    if reading.wants("virial") and "virial" not in reading.taken and _prints_stress(path):
        reading.note("it prints a stress that is not read: there is no virial")


def describe_prefix(path: Path, format_name: str) -> str | None:
    """Return what dpdata is to be given for a format of several files; None if they are not there.

    Args:
        path: The prefix; the folder of a pair, or two paths with a comma between them.
        format_name: dpdata's name.
    """
    if format_name in PREFIXES:
        there = any(path.parent.glob(f"{path.name.replace('[', '[[]')}.*"))
        return str(path) if there else None
    if path.is_dir():
        path = Path(",".join(str(path / name) for name in PAIRS[format_name]))
    parts = str(path).split(",")
    return str(path) if len(parts) == 2 and all(Path(part).is_file() for part in parts) else None


def _refuse_mixtures(path: str, format_name: str) -> None:
    """Refuse an output whose labels would not be those of its coordinates.

    Raises:
        DataError: If coordinates, energies and forces would be of different steps or methods.
    """
    mixture = _MIXTURES.get(format_name)
    if mixture is not None:
        found = mixture.sign.findall(_text(path))
        if len(found) > mixture.at_most:
            said = mixture.said.format(count=len(found), first=found[0].rstrip(" ="))
            raise DataError(said, hint=mixture.hint)
    elif format_name == "cp2k/output":
        names = _CP2K_ENERGY.findall(_text(path).rpartition("Multiplication driver")[2])
        if len(set(names)) < len(names):  # in the last run, which dpdata reads
            raise DataError(
                f"it has {len(names)} energies and prints coordinates once: a run of several steps",
                hint="give the folder with its -pos-1.xyz and -frc-1.xyz: --from cp2k/aimd_output",
            )
    elif format_name == "dftbplus":
        _refuse_mixtures_of_dftb(*map(_text, path.split(",")))


def _refuse_mixtures_of_dftb(geometry: str, output: str) -> None:
    if found := _MOVED.search(output):
        raise DataError(
            f"its forces are those of step {found[1]}, its coordinates those of the beginning",
            hint="run a static calculation of each geometry",
        )
    if found := re.search(r"(?m)^Geometry.*\n\s*\d+\s+([SsFf])\b", geometry):
        raise DataError(
            f"its geometry is periodic ({found[1]}), and dpdata would read it as a molecule",
            hint="read the .gen file with ASE; its labels are in results.tag",
        )


def _unconverged(prefix: str) -> set[int]:
    """Return which frames of OpenMX's are not converged: dpdata says that there are some."""
    with open_text(Path(f"{prefix}.md")) as stream:
        heads = (line for line in stream if "Cell_Vectors=" in line)
        return {number for number, line in enumerate(heads) if "scf_conv=0" in line.split()}


def periodicity_of_cp2k(path: str) -> Periodic:
    """Return in which directions a run of CP2K is periodic: all, unless its output says less."""
    files = sorted(Path(path).glob("*.log")) if Path(path).is_dir() else [Path(path)]
    for file in files:
        if found := re.search(r"CELL\| Periodicity\s+(NONE|[XYZ]{1,3})\b", _text(str(file))):
            x, y, z = (found[1] != "NONE" and axis in found[1] for axis in "XYZ")
            return x, y, z
    return True, True, True


def compare_with_positions(folder: str, symbols: tuple[str, ...]) -> None:
    """Refuse a run of CP2K whose kinds, as dpdata counts them, are not the elements of its xyz.

    Raises:
        DataError: If an atom would be another element.
    """
    for path in sorted(Path(folder).glob("*pos*.xyz"))[:1]:
        lines = _text(str(path)).splitlines()[2 : len(symbols) + 2]
        named = [element_of(line.split()[0]) if line.split() else None for line in lines]
        for atom, (name, symbol) in enumerate(zip(named, symbols, strict=False)):
            if name is not None and name != symbol:
                raise DataError(
                    f"atom {atom} is {name} in {path.name} and would be {symbol}, as its kinds are "
                    "listed in another order",
                    hint="number the kinds in the order of the atoms",
                )


def _prints_stress(path: str) -> bool:
    """Return whether a file of a program holds a stress, in whatever form."""
    return (
        Path(path).is_file() and re.search(r"(?i)\bstress(\||\s+tensor)", _text(path)) is not None
    )


def _text(path: str) -> str:
    with open_text(Path(path)) as stream:
        return stream.read()


def _steps(
    path: str, format_name: str, reading: Reading
) -> Iterator[dict[str, Any] | FrameFaultError]:
    """Yield dpdata's dictionaries, one per group of frames, or why there is none of a step."""
    if format_name != "orca/spout":
        yield from _systems(path, format_name, reading)
        return
    for step in _steps_of_orca(path):
        # The geometry at which an optimisation ends is one without a gradient.
        if "\nCARTESIAN GRADIENT" not in step or "\nFINAL SINGLE POINT ENERGY" not in step:
            yield FrameFaultError("it has no gradient, or no energy")
            continue
        try:
            yield from _systems(io.StringIO(step), format_name, reading)
        except DataError as error:
            yield FrameFaultError(error.message)


def _steps_of_orca(path: str) -> Iterator[str]:
    """Yield the text of each geometry of an output of ORCA."""
    lines: list[str] = []
    with open_text(Path(path)) as stream:
        for line in stream:
            if line.startswith(_ORCA_STEP):
                if lines:
                    yield "".join(lines)
                lines = [line]
            elif lines:
                lines.append(line)
    if lines:
        yield "".join(lines)


def _systems(path: str | TextIO, format_name: str, reading: Reading) -> list[dict[str, Any]]:
    """Return dpdata's dictionaries, one per group of frames, not turned as its systems are."""
    kind = Format.get_formats()[format_name]  # type: ignore[no-untyped-call]
    has_labels = kind.from_labeled_system is not Format.from_labeled_system
    given = tuple(str(path).split(",")) if format_name in PAIRS else path
    arguments = dict(_ARGUMENTS.get(format_name, {}))
    if format_name == "amber/md":  # its types, such as ca and ho, are no elements
        arguments["use_element_symbols"] = range(_atoms_of_amber(str(path)))
    with foreign(DataError, "", "check --from, and that the calculation is complete") as caught:
        reader = kind()
        read_one = reader.from_labeled_system if has_labels else reader.from_system
        if kind.from_multi_systems is Format.from_multi_systems:
            found = [read_one(given, **arguments)]
        else:
            found = [read_one(item) for item in reader.from_multi_systems(given)]
    for warning in caught:
        passing = issubclass(warning.category, DeprecationWarning | ResourceWarning)
        sentence = str(warning.message).split(". ")[0].rstrip(".")
        if not passing and "SCF not converged" not in sentence:
            reading.note(f"frames or labels may be missing: {sentence}")
    flat = [part for item in found for part in (item if isinstance(item, tuple | list) else [item])]
    kept = [part for part in flat if part and len(part.get("coords", ())) > 0]
    for part in kept if format_name in _TENSION_POSITIVE else ():
        part["virials"] = -np.asarray(part["virials"])
    return kept


def _atoms_of_amber(prefix: str) -> int:
    """Return how many atoms a topology of AMBER has; 0 where that is not found."""
    found = re.search(r"%FLAG POINTERS\s*\n%FORMAT.*\n\s*(\d{1,8})\b", _text(f"{prefix}.parm7"))
    return int(found[1]) if found else 0


def _unpack(data: dict[str, Any], reading: Reading) -> Iterator[Structure]:
    coord = _array(data["coords"], "coordinates")
    if coord.ndim != 3 or coord.shape[2] != 3:
        raise DataError(f"its coordinates have the shape {coord.shape}, not frames x atoms x 3")
    frames, atoms = coord.shape[:2]
    symbols = _names(data, atoms, reading)
    periodic = not data.get("nopbc", False)
    cells = _array(data["cells"], "cells") if periodic else np.zeros((frames, 3, 3))
    if cells.shape != (frames, 3, 3):
        raise DataError(f"it has {frames} frames and cells of the shape {cells.shape}")
    labels = _labels(data, frames, atoms, reading)
    if "virial" in labels and (np.linalg.det(cells) < 0).any():
        reading.note("virials of left-handed cells are left out: their sign is not certain")
        del labels["virial"]
    for frame in range(frames):
        yield Structure(
            source=reading.where,
            symbols=symbols,
            coord=coord[frame],
            box=cells[frame] if periodic else None,
            labels=reading.wanted({k: (_LABELS[k], v[frame]) for k, v in labels.items()}),
            pbc=(periodic, periodic, periodic),
        )


def _labels(data: dict[str, Any], frames: int, atoms: int, reading: Reading) -> dict[str, Floats]:
    """Return the wanted labels that every frame has."""
    shapes = {"energy": (frames,), "force": (frames, atoms, 3), "virial": (frames, 3, 3)}
    found = {}
    for label, theirs in _LABELS.items():
        if not reading.wants(label) or data.get(theirs) is None or np.size(data[theirs]) == 0:
            continue
        values = _array(data[theirs], theirs)
        if values.size == np.prod(shapes[label]):
            found[label] = values.reshape(shapes[label])
        else:
            reading.note(
                f"the {label} is left out: there are {len(values)} of them for {frames} frames of "
                f"{atoms} atoms, and it is not clear which are whose"
            )
    return found


def _names(data: dict[str, Any], atoms: int, reading: Reading) -> tuple[str, ...]:
    names = [str(name) for name in data["atom_names"]]
    types = np.asarray(data["atom_types"], dtype=np.int64).reshape(-1)
    if len(types) != atoms or (atoms and not 0 <= types.min() <= types.max() < len(names)):
        raise DataError(f"it names {len(types)} atoms and places {atoms}: is it damaged?")
    if any(_NUMBERED.fullmatch(name) for name in names):
        return numbered(types, reading.type_names, "file", 0)
    return symbols_of([names[kind] for kind in types], reading)


def _array(values: Any, what: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"its {what} are not the same for all frames: is it damaged?") from error
