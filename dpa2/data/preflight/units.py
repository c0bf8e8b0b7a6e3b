"""In what units coordinates, cells, energies, forces and virials seem to be."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import Census, census
from dpa2.data.frames import FloatArray, Frames, IntArray
from schemas.base.names import SYMBOLS

# CODATA 2018: eV per Hartree, Å per Bohr, eV per kcal/mol, GPa per eV/Å³.
_HARTREE, _BOHR, _KCAL, GPA = 27.211386, 0.529177210903, 0.0433641, 160.21766

# B. Cordero et al., Dalton Trans. 2008, 2832, table 2 (Å), in the order of atomic numbers, H to Cm;
# the larger of two values where a metal has a low-spin and a high-spin one, sp3 for carbon.
_RADII = (
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05,
    1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.61, 1.52, 1.50, 1.24, 1.32, 1.22, 1.22, 1.20,
    1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44,
    1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96,
    1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32,
    1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69,
)  # fmt: skip

_UNBOUND = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}
"""Elements whose atoms are far apart at all times."""


def covalent_radii(elements: Sequence[str]) -> FloatArray:
    """Return (T,) radii in Å; NaN for noble gases and for what is no element."""
    table = dict(zip(SYMBOLS, _RADII, strict=False))
    return np.array(
        [math.nan if name in _UNBOUND else table.get(name, math.nan) for name in elements],
        dtype=np.float64,
    )


_BONDED = (0.7, 1.35)
"""Distance of nearest neighbours over the sum of their covalent radii, where they are in Å."""
_USUAL = (0.8, 1.25)
"""The same ratio at rest, which another unit must make: stretched bonds are longer than in Å."""
_MULTIPLE = 0.75
"""The lower end of that where double and triple bonds are usual, among small atoms."""
_SMALL_ATOM = (0.6, 0.8)
"""Å; covalent radii of C, N and O, which have multiple bonds, lie in between."""
_ONE_WAY = 0.6
"""Mean over root mean square of forces that all point the same way."""
_FRACTION = 2.0
"""Fractional coordinates are below: most lie in the cell."""
_MOST = 0.7
"""Part of the atoms that must be at usual distances in the other unit."""
_FEW_ATOMS = 3
"""Molecules of fewer atoms may be stretched as a whole: distances alone do not speak for Bohr."""

_Rescaling = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

UNITS: dict[str, _Rescaling] = {
    "fractional coordinates": lambda coord, box: (coord @ box, box),
    "coordinates and cell in Bohr": lambda coord, box: (coord * _BOHR, box * _BOHR),
    "coordinates in Bohr": lambda coord, box: (coord * _BOHR, box),
    "a cell in Bohr": lambda coord, box: (coord, box * _BOHR),
    "coordinates and cell in nanometres": lambda coord, box: (coord * 10, box * 10),
    "coordinates in nanometres": lambda coord, box: (coord * 10, box),
    "a cell in nanometres": lambda coord, box: (coord, box * 10),
}
"""What turns coordinates (1, N, 3) and cells (1, 3, 3) in other units into Å."""

_WITHOUT_CELL = ("coordinates in Bohr", "coordinates in nanometres")


def guess_unit(
    coord: FloatArray,
    box: FloatArray | None,
    types: IntArray,
    radii: FloatArray,
    *,
    stretched: bool,
) -> str:
    """Return in what a structure is whose atoms are nowhere bonded in Å, empty if unknown.

    The answer is a key of `UNITS`.

    Args:
        coord: (1, N, 3).
        box: (1, 3, 3), or None.
        types: (1, N).
        radii: (T,) covalent radii, Å.
        stretched: Bonds are known to be: then they do not speak for Bohr.
    """
    reach = 2 * _BONDED[1] * float(np.nanmax(radii, initial=0.0))
    for name, rescale in UNITS.items():
        if box is None and name not in _WITHOUT_CELL:
            continue
        if "fractional" in name and np.abs(coord[types >= 0]).max(initial=0.0) > _FRACTION:
            continue
        if "Bohr" in name and (stretched or (types >= 0).sum() < _FEW_ATOMS):
            continue
        scaled, cell = rescale(coord, np.eye(3)[None] if box is None else box)
        found = census(scaled, None if box is None else cell, types, [reach])
        ratio = bond_ratios(found, types, radii)
        if len(ratio) and is_usual(found, types, radii).mean() > _MOST:
            return name
    return ""


def bond_ratios(found: Census, types: IntArray, radii: FloatArray) -> FloatArray:
    """Return distances of nearest neighbours over the sums of covalent radii, (A,) known atoms.

    Noble gases and names that are no elements do not count.
    """
    length, known = _lengths(found, types, radii)
    return np.asarray(found.nearest[known] / length[known], dtype=np.float64)


def are_pulled(frames: Frames, found: Census) -> bool:
    """Tell whether forces pull nearly all atoms towards their nearest neighbours.

    Bonds are then stretched, whatever the unit; around places of rest, forces point either way.
    """
    if frames.force is None:
        return False
    place = np.take_along_axis(frames.coord, found.partner[..., None], axis=1) - frames.coord
    if frames.box is not None:
        place -= np.rint(place @ np.linalg.inv(frames.box)) @ frames.box
    has = np.isfinite(found.nearest) & (found.nearest > 0)
    pull = ((frames.force * place).sum(axis=-1))[has] / found.nearest[has]
    pull = pull[np.isfinite(pull)]
    return bool(len(pull)) and pull.mean() > _ONE_WAY * np.sqrt(np.square(pull).mean()) > 0


def is_bonded(ratio: FloatArray) -> NDArray[np.bool_]:
    """Tell which of the ratios are those of bonds."""
    return (ratio > _BONDED[0]) & (ratio < _BONDED[1])


def is_usual(found: Census, types: IntArray, radii: FloatArray) -> NDArray[np.bool_]:
    """Tell which of the nearest neighbours (A,) are as far as in molecules and crystals at rest."""
    length, known = _lengths(found, types, radii)
    ratio = found.nearest[known] / length[known]
    small = (radii > _SMALL_ATOM[0]) & (radii < _SMALL_ATOM[1])
    both_small = (small[types] & small[np.take_along_axis(types, found.partner, axis=1)])[known]
    return (ratio > np.where(both_small, _MULTIPLE, _USUAL[0])) & (ratio < _USUAL[1])


def _lengths(
    found: Census, types: IntArray, radii: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the sum of covalent radii (F, N) of nearest neighbours, and where it is known."""
    partner = np.take_along_axis(types, found.partner, axis=1)
    length = radii[types] + radii[partner]
    return length, np.isfinite(length) & (types >= 0) & (partner >= 0) & (types.shape[1] > 1)


RIGHT = (0.6, 1.65)
"""Factors in between are 1: steps between frames are not short enough to know better."""
_MANY_ATOMS = 3
"""Half of the energy, as of a molecule of two atoms, is too near to the whole."""
_ABSURD = 3.0
"""A factor beyond is a unit, if an unknown one."""


def is_right(factor: float) -> bool:
    """Tell whether a factor is 1."""
    return RIGHT[0] < factor < RIGHT[1]


def energy_reason(factor: float, num_atoms: int) -> str | None:
    """Return what may be wrong where energies change by `factor` times the work of the forces.

    Args:
        factor: 1 is right.
        num_atoms: Atoms per frame; 0 where it varies.

    Returns:
        A clause; None where nothing is wrong.
    """
    known = _energies(num_atoms) | {
        "forces are in Hartree/Bohr": _HARTREE / _BOHR,
        "forces are in Rydberg/Bohr": _HARTREE / _BOHR / 2,
        "forces are in kcal/mol/Å": _KCAL,
        "energies are in Hartree and forces in Hartree/Bohr": 1 / _BOHR,
        "forces are in eV/Bohr": 1 / _BOHR,
        "forces are gradients (the sign is reversed)": -1.0,
    }
    return _reason(factor, known, "one of them has another unit", 1.2)


def _energies(num_atoms: int) -> dict[str, float]:
    known = {
        "energies are in Hartree": 1 / _HARTREE,
        "energies are in Rydberg": 2 / _HARTREE,
        "energies are in kcal/mol": 1 / _KCAL,
    }
    if num_atoms >= _MANY_ATOMS:
        known["energies are per atom"] = 1 / num_atoms
    return known


def virial_reason(
    factor: float,
    volume: float,
    num_atoms: int,
    *,
    energies_are_right: bool,
    tolerance: float = 1.2,
) -> str | None:
    """Return what may be wrong where the right virial is `factor` times the one in the data.

    Args:
        factor: 1 is right.
        volume: Of the cells, Å³; 0 where there are none.
        num_atoms: Atoms per frame; 0 where it varies.
        energies_are_right: Whether the factor cannot be that of the energies.
        tolerance: By how much it may be off.

    Returns:
        A clause; None where nothing is wrong.
    """
    known = {"they are in Hartree": _HARTREE, "they are in kcal/mol": _KCAL}
    if volume > 0:
        known |= {
            "they are stresses in GPa times the volume": 1 / GPA,
            "they are stresses in kB times the volume": 1 / (10 * GPA),
        }
    if num_atoms > 1:
        known["they are per atom"] = float(num_atoms)
    if volume > 0:
        known |= {
            "they are stresses in kB": volume / (10 * GPA),
            "they are stresses in GPa": volume / GPA,
            "they are stresses in eV/Å³": volume,
        }
    reversed_sign = {f"{text}, and the sign is reversed": -value for text, value in known.items()}
    known |= {**reversed_sign, "the sign is reversed": -1.0}
    if not energies_are_right:
        known |= _energies(num_atoms)
    return _reason(factor, known, "they are in another unit", tolerance)


def _reason(
    factor: float, known: Mapping[str, float], otherwise: str, tolerance: float
) -> str | None:
    if is_right(factor) or factor == 0:
        return None
    apart = {
        text: abs(math.log(factor / value)) for text, value in known.items() if value * factor > 0
    }
    near = [text for text in apart if apart[text] < math.log(tolerance)]
    near.sort(key=apart.__getitem__)
    if near:
        return "perhaps " + " or ".join(near)
    return otherwise if not 1 / _ABSURD < factor < _ABSURD else None
