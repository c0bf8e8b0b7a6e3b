"""Outputs of which dpdata would join what does not belong together: steps, methods, elements."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dpa2.data.structures.elements import element_of
from dpa2.data.structures.text_files import open_text
from schemas.errors import DataError

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


def check(path: str, format_name: str) -> None:
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
