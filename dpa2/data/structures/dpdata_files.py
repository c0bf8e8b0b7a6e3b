"""Formats that dpdata reads; what it found is checked before it is believed."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dpa2.data.structures.ase_files import quiet
from dpa2.data.structures.elements import element_of, numbered, open_text, short_reason, symbols_of
from dpa2.data.structures.structure import NONE, Dropped, FileReport, Floats, ReadOptions, Structure
from schemas.base.errors import DataError

NO_GRADIENT = "it has no gradient, or no energy"
"""Why a step of ORCA is left out."""

_ORCA_STEP = "CARTESIAN COORDINATES (ANGSTROEM)"
_CP2K_ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL \( *(\w+) *\)")
# Energies whose derivatives the printed forces are, where there is one of these.
_BEYOND_SCF = re.compile(
    r"\bEUMP[2-5] *=|\bE\(C(?:ORR|orr)\) *=|\bCCSD\(T\) *=|\bE2\([\w-]+\) *=|"
    r"ONIOM: extrapolated energy|Total Energy, E\([^)]*\)"
)
_MOVED = re.compile(r"(?m)^(?:Geometry optimization|MD|Difference derivative) step: *([1-9]\d*)")


def check_output(path: str, format_name: str) -> None:
    """Refuse an output of dpdata's whose labels would not be those of its coordinates.

    Args:
        path: What dpdata is to be given; a pair is two paths with a comma between them.
        format_name: dpdata's name.

    Raises:
        DataError: If coordinates, energies and forces would be of different steps or methods.
    """
    if format_name in _CHECKS:
        _CHECKS[format_name](path)


def steps_of_orca(path: str) -> Iterator[io.StringIO | None]:
    """Yield the text of each geometry of an output of ORCA; None where it has no gradient.

    The geometry at which an optimisation ends is one without.
    """
    lines: list[str] = []
    with open_text(Path(path)) as stream:
        for line in stream:
            if line.startswith(_ORCA_STEP):
                yield from _orca_step(lines)
                lines = []
            lines.append(line)
    yield from _orca_step(lines)


def _orca_step(lines: list[str]) -> Iterator[io.StringIO | None]:
    if lines and lines[0].startswith(_ORCA_STEP):
        has_gradient = any(line.startswith("CARTESIAN GRADIENT") for line in lines)
        has_energy = any(line.startswith("FINAL SINGLE POINT ENERGY") for line in lines)
        yield io.StringIO("".join(lines)) if has_gradient and has_energy else None


def atoms_of_amber(prefix: str) -> int:
    """Return how many atoms a topology of AMBER has; 0 where that is not found."""
    found = re.search(r"%FLAG POINTERS\s*\n%FORMAT.*\n\s*(\d{1,8})\b", _text(f"{prefix}.parm7"))
    return int(found[1]) if found else 0


def compare_with_positions(folder: str, symbols: Sequence[str]) -> None:
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


def periodicity_of_cp2k(path: str) -> tuple[bool, bool, bool]:
    """Return in which directions a run of CP2K is periodic: all, unless its output says less."""
    files = sorted(Path(path).glob("*.log")) if Path(path).is_dir() else [Path(path)]
    for file in files:
        if found := re.search(r"CELL\| Periodicity\s+(NONE|[XYZ]{1,3})\b", _text(str(file))):
            x, y, z = (axis in found[1] for axis in "XYZ")
            return (x, y, z) if found[1] != "NONE" else (False, False, False)
    return (True, True, True)


def prints_stress(path: str) -> bool:
    """Return whether a file of a program holds a stress, in whatever form."""
    return (
        Path(path).is_file() and re.search(r"(?i)\bstress(\||\s+tensor)", _text(path)) is not None
    )


def _text(path: str) -> str:
    with open_text(Path(path)) as stream:
        return stream.read()


def _check_cp2k(path: str) -> None:
    text = _text(path).rpartition("Multiplication driver")[2]  # dpdata reads the last run
    names = _CP2K_ENERGY.findall(text)
    if len(set(names)) < len(names):
        raise DataError(
            f"it has {len(names)} energies and prints coordinates once: a run of several steps",
            hint="give the folder with its -pos-1.xyz and -frc-1.xyz: --from cp2k/aimd_output",
        )


def _check_qe(path: str) -> None:
    energies = _text(path).count("!    total energy")
    if energies > 1:
        raise DataError(
            f"it has {energies} energies, and the coordinates would be those of the input",
            hint="read every step with --from espresso-out",
        )


def _check_siesta(path: str) -> None:
    steps = _text(path).count("outcoor: Atomic coordinates")
    if steps > 1:
        raise DataError(f"it has {steps} steps", hint="read them with --from siesta/aimd_output")


def _check_gaussian(path: str) -> None:
    if found := _BEYOND_SCF.search(_text(path)):
        raise DataError(
            f"its forces belong to another energy than SCF Done, which dpdata takes: there is "
            f"{found[0].rstrip(' =')}",
            hint="if ASE's energy is the right one: --from gaussian-out",
        )


def _check_dftb(path: str) -> None:
    geometry, output = path.split(",")
    if found := _MOVED.search(_text(output)):
        raise DataError(
            f"its forces are those of step {found[1]}, its coordinates those of the beginning",
            hint="run a static calculation of each geometry",
        )
    text = _text(geometry)
    if found := re.search(r"(?m)^Geometry.*\n\s*\d+\s+([SsFf])\b", text):
        raise DataError(
            f"its geometry is periodic ({found[1]}), and dpdata would read it as a molecule",
            hint="read the .gen file with ASE; its labels are in results.tag",
        )


_CHECKS: dict[str, Callable[[str], None]] = {
    "cp2k/output": _check_cp2k,
    "qe/pw/scf": _check_qe,
    "siesta/output": _check_siesta,
    "gaussian/log": _check_gaussian,
    "dftbplus": _check_dftb,
}


_LABELS = {"energies": "energy", "forces": "force", "virials": "virial"}
_NUMBERED = re.compile(r"(?:TYPE|Type)_([0-9]+)")

# Formats that read the files whose names begin with the path, or several files.
PREFIXES = {"qe/cp/traj", "openmx/md", "amber/md"}
PAIRS = {"dftbplus": ("dftb_in.hsd", "detailed.out")}


# Without it, the last step of an optimisation is all that is read.
_ARGUMENTS: dict[str, dict[str, Any]] = {"gaussian/log": {"md": True}}

# dpdata multiplies their stress with the volume; in them tension is positive, in a virial not.
_TENSION_POSITIVE = {"siesta/output", "siesta/aimd_output"}


def read(
    path: str, format_name: str, options: ReadOptions, report: FileReport
) -> Iterator[Structure | Dropped]:
    """Yield the frames of a file, folder, prefix or pair of files in a format of dpdata.

    Args:
        path: What dpdata is given; a pair is two paths with a comma between them.
        format_name: dpdata's name.
        options: How to read.
        report: Where remarks go.

    Raises:
        DataError: If dpdata cannot read it, or what it read does not fit together.
    """
    check_output(path, format_name)
    unconverged = _unconverged(path) if format_name == "openmx/md" else set()
    of_cp2k = periodicity_of_cp2k(path) if format_name.startswith("cp2k/") else None
    count = 0
    for data in _steps(path, format_name, report):
        if isinstance(data, str):
            yield Dropped(count, data)
            count += 1
            continue
        for structure in _unpack(data, options, report, count):
            if format_name == "cp2k/aimd_output" and count == 0:
                compare_with_positions(path, structure.symbols)
            if count in unconverged:
                yield Dropped(count, "its electrons are not converged")
            elif of_cp2k is not None:
                yield replace(structure, box=structure.box if any(of_cp2k) else None, pbc=of_cp2k)
            else:
                yield structure
            count += 1
    wanted = options.keys is not None and options.keys.stress != NONE
    if wanted and count and "virial" not in report.taken and prints_stress(path):
        report.note("it prints a stress that is not read: there is no virial")
    if count == 0:
        raise DataError(
            "it has no frames",
            hint="check --from, and that the calculation is complete and converged",
        )


def _unconverged(prefix: str) -> set[int]:
    """Return which frames of OpenMX's are not converged: dpdata says that there are some."""
    with open_text(Path(f"{prefix}.md")) as stream:
        heads = (line for line in stream if "Cell_Vectors=" in line)
        return {number for number, line in enumerate(heads) if "scf_conv=0" in line.split()}


def _steps(path: str, format_name: str, report: FileReport) -> Iterator[dict[str, Any] | str]:
    """Yield dpdata's dictionaries, one per group of frames, or why there is none of a step."""
    if format_name != "orca/spout":
        yield from _systems(path, format_name, report)
        return
    for step in steps_of_orca(path):
        try:
            yield from _systems(step, format_name, report) if step else [NO_GRADIENT]
        except DataError as error:
            yield error.message


def _systems(path: str | TextIO, format_name: str, report: FileReport) -> list[dict[str, Any]]:
    """Return dpdata's dictionaries, one per group of frames, not turned as its systems are."""
    from dpdata.format import Format

    kind = Format.get_formats()[format_name]  # type: ignore[no-untyped-call]
    has_labels = kind.from_labeled_system is not Format.from_labeled_system
    pair = isinstance(path, str) and format_name in PAIRS
    given = tuple(str(path).split(",")) if pair else path
    try:
        with quiet() as caught:
            reader = kind()
            read = reader.from_labeled_system if has_labels else reader.from_system
            if kind.from_multi_systems is Format.from_multi_systems:
                arguments = dict(_ARGUMENTS.get(format_name, {}))
                if format_name == "amber/md":  # its types, such as ca and ho, are no elements
                    arguments["use_element_symbols"] = range(atoms_of_amber(str(path)))
                found = [read(given, **arguments)]
            else:
                found = [read(item) for item in reader.from_multi_systems(given)]
    except MemoryError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise DataError(
            _first_sentence(error),
            hint="check --from, and that the calculation is complete",
        ) from error
    for warning in caught:
        passing = issubclass(warning.category, DeprecationWarning | ResourceWarning)
        if not passing and "SCF not converged" not in str(warning.message):
            report.note(f"frames or labels may be missing: {_first_sentence(warning.message)}")
    flat = [part for item in found for part in (item if isinstance(item, tuple | list) else [item])]
    kept = [part for part in flat if part and len(part.get("coords", ())) > 0]
    for part in kept if format_name in _TENSION_POSITIVE else ():
        part["virials"] = -np.asarray(part["virials"])
    return kept


def _first_sentence(error: BaseException | Warning | str) -> str:
    text = short_reason(error) if isinstance(error, BaseException) else str(error)
    return text.split(". ")[0].rstrip(".")


def _unpack(
    data: dict[str, Any], options: ReadOptions, report: FileReport, first: int
) -> Iterator[Structure]:
    coord = _array(data["coords"], "coordinates")
    if coord.ndim != 3 or coord.shape[2] != 3:
        raise DataError(f"its coordinates have the shape {coord.shape}, not frames x atoms x 3")
    frames, atoms = coord.shape[:2]
    symbols = _names(data, atoms, options, report)
    periodic = not data.get("nopbc", False)
    cells = _array(data["cells"], "cells") if periodic else np.zeros((frames, 3, 3))
    if cells.shape != (frames, 3, 3):
        raise DataError(f"it has {frames} frames and cells of the shape {cells.shape}")
    labels = _labels(data, frames, atoms, options, report)
    if "virial" in labels and (np.linalg.det(cells) < 0).any():
        report.note("virials of left-handed cells are left out: their sign is not certain")
        del labels["virial"]
    for frame in range(frames):
        for label in labels:
            report.take(label, next(theirs for theirs, ours in _LABELS.items() if ours == label))
        yield Structure(
            source=f"{report.file} frame {first + frame}",
            symbols=symbols,
            coord=coord[frame],
            box=cells[frame] if periodic else None,
            labels={label: values[frame] for label, values in labels.items()},
            pbc=(periodic, periodic, periodic),
        )


def _labels(
    data: dict[str, Any], frames: int, atoms: int, options: ReadOptions, report: FileReport
) -> dict[str, Floats]:
    """Return the labels that every frame has."""
    if options.keys is None:
        return {}
    keys = options.keys
    left_out = {"energy": keys.energy, "force": keys.forces, "virial": keys.stress}
    shapes = {"energy": (frames,), "force": (frames, atoms, 3), "virial": (frames, 3, 3)}
    found = {}
    for theirs, ours in _LABELS.items():
        if data.get(theirs) is None or left_out[ours] == NONE or np.size(data[theirs]) == 0:
            continue
        values = _array(data[theirs], theirs)
        if values.size == np.prod(shapes[ours]):
            found[ours] = values.reshape(shapes[ours])
        else:
            report.note(
                f"the {ours} is left out: there are {len(values)} of them for {frames} frames of "
                f"{atoms} atoms, and it is not clear which are whose"
            )
    return found


def _names(
    data: dict[str, Any], atoms: int, options: ReadOptions, report: FileReport
) -> tuple[str, ...]:
    names = [str(name) for name in data["atom_names"]]
    types = np.asarray(data["atom_types"], dtype=np.int64).reshape(-1)
    if len(types) != atoms or (atoms and not 0 <= types.min() <= types.max() < len(names)):
        raise DataError(f"it names {len(types)} atoms and places {atoms}: is it damaged?")
    if any(_NUMBERED.fullmatch(name) for name in names):
        return numbered(types, options.type_names, "file", 0)
    return symbols_of([names[kind] for kind in types], options.known_names, report)


def _array(values: Any, what: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"its {what} are not the same for all frames: is it damaged?") from error


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
