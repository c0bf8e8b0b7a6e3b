"""Units of labels, and whether a stress can be one in eV/Å³."""

import re

import numpy as np

from dpa2.data.structures.structure import FileReport, Floats
from schemas.errors import DataError

_GPA = 160.21766208
UNITS = {
    "eV/A^3": 1.0,
    "GPa": 1.0 / _GPA,
    "kbar": 0.1 / _GPA,
    "bar": 1e-4 / _GPA,
    "-eV/A^3": -1.0,
    "-GPa": -1.0 / _GPA,
    "-kbar": -0.1 / _GPA,
    "-bar": -1e-4 / _GPA,
}
"""Units of stress in eV/Å³; those with a minus count compression positive, as VASP prints it."""

_HARTREE, _RYDBERG, _BOHR, _MOL = 27.211386245988, 13.605693122994, 0.529177210903, 96.48533212331
ENERGIES = {
    "ev": 1.0, "electronvolt": 1.0,
    "hartree": _HARTREE, "ha": _HARTREE, "au": _HARTREE, "a.u.": _HARTREE, "eh": _HARTREE,
    "ry": _RYDBERG, "rydberg": _RYDBERG, "kcal/mol": 4.184 / _MOL, "kj/mol": 1.0 / _MOL,
}  # fmt: skip
"""Units of energy in eV, in lower case."""
LENGTHS = {"a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "bohr": _BOHR, "au": _BOHR,
           "a.u.": _BOHR, "nm": 10.0}  # fmt: skip
"""Units of length in Å, in lower case."""

# Diamond at the centre of the Earth has 360 GPa; 480 GPa are 3 eV/Å³.
_ABSURD = 3.0
_HIGH = 0.3
# No static compression puts more work into an atom.
_ABSURD_PER_ATOM = 50.0


def volume_of(cell: Floats) -> float:
    """Return the volume (Å³) of a cell (3, 3) of either handedness; nan where the cell is none."""
    with np.errstate(all="ignore"):
        return abs(float(np.linalg.det(cell)))


def tensor(values: object) -> Floats | None:
    """Return the matrix (3, 3) of nine numbers, or of six in the order xx yy zz yz xz xy."""
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    if array.size == 9:
        return array.reshape(3, 3)
    if array.size == 6:
        return array[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    return None


def check_virial(virial: Floats, volume: float, key: str, num_atoms: int, where: str) -> None:
    """Refuse a virial that no material has.

    Args:
        virial: (3, 3) eV.
        volume: Å³.
        key: Where it comes from.
        num_atoms: N.
        where: File and frame.

    Raises:
        DataError: If it is more than 3 eV/Å³ or 50 eV an atom.
    """
    largest = float(np.abs(virial).max())
    pressure = largest / volume
    if pressure > _ABSURD or largest > _ABSURD_PER_ATOM * num_atoms:
        is_virial = "virial" in key.lower()
        unit = "eV" if is_virial else "eV/Å³"
        hint = "leave it out: --stress-key none"
        if not is_virial:
            hint = f"say its unit: --stress-unit GPa, bar, or -kbar as VASP prints it; or {hint}"
        raise DataError(
            f"{where}: {key}, taken in {unit}, makes a pressure of {pressure * _GPA:.4g} GPa and a "
            f"virial of {largest / num_atoms:.4g} eV an atom, which no material bears: is it in "
            "another unit (GPa, kbar)?",
            hint=hint,
        )


def remark_on_pressure(virial: Floats, volume: float, key: str, report: FileReport) -> None:
    """Note a pressure that is possible and rare: more likely than not it is in another unit."""
    if float(np.abs(virial).max()) / volume > _HIGH:
        report.note(
            f"{key} makes pressures of more than {_HIGH * _GPA:.0f} GPa: if that is not meant, its "
            "unit is not the one assumed (--stress-unit)"
        )


def factor(quantity: str, unit: str) -> float | None:
    """Return what turns a value in a unit into eV, Å, eV/Å or eV/Å³; None if that is not known.

    Args:
        quantity: energy, virial, force, stress; anything else is taken in ours only.
        unit: As in a file: `eV`, `hartree/bohr`, `GPa`, `kcal/mol/ang`, in any case.
    """
    text = unit.strip().lower().replace("angstrom", "ang")
    if quantity in {"energy", "virial"}:
        return ENERGIES.get(text)
    if quantity == "force":
        energy, _, length = text.rpartition("/")
        if text in {"au", "a.u."}:
            return _HARTREE / _BOHR
        if energy in ENERGIES and length in LENGTHS:
            return ENERGIES[energy] / LENGTHS[length]
        return None
    if quantity == "stress":
        text = re.sub(r"/(ang|å)\^?3$", "/a^3", text).replace("å^3", "a^3")
        return {name.lower(): value for name, value in UNITS.items()}.get(text)
    if LENGTHS.get(text) == 1.0 or text in {"ev", "metal", "ase"}:
        return 1.0
    return None
