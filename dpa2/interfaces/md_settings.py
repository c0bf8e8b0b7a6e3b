"""What a molecular dynamics run keeps constant, and for how long it runs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from schemas.base.errors import DataError

Ensemble = Literal["nve", "nvt", "npt"]
Couple = Literal["iso", "aniso", "tri"]


@dataclass(frozen=True, slots=True)
class MdSettings:
    """What to simulate.

    Attributes:
        ensemble: Constant energy, temperature, or temperature and pressure.
        temperature: K; of the first velocities too, where the structure has none.
        pressure: bar, for npt.
        timestep: fs.
        steps: Number of steps.
        dump_every: Steps between two frames of the trajectory and two lines of the log.
        seed: Of the first velocities.
        couple: How the cell follows the pressure: in all directions alike, each length on its own,
            or lengths and angles.
    """

    ensemble: Ensemble = "nvt"
    temperature: float = 300.0
    pressure: float = 1.0
    timestep: float = 0.5
    steps: int = 1000
    dump_every: int = 100
    seed: int = 1
    couple: Couple = "iso"


def check_settings(atoms: Atoms, settings: MdSettings) -> None:
    """Refuse what makes no sense for a structure.

    Raises:
        DataError: If a number is none that physics knows, or the ensemble and the structure do not
            go together; says what to change.
    """
    if not np.isfinite(settings.pressure):
        raise DataError(f"a pressure of {settings.pressure} makes no sense", hint="give it in bar")
    for name, value in (("timestep", settings.timestep), ("temperature", settings.temperature)):
        if not (np.isfinite(value) and value > 0):
            raise DataError(f"a {name} of {value} makes no sense", hint="give a positive number")
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise DataError(
            "npt changes the volume, but the structure is not periodic in all directions "
            f"(pbc = {atoms.pbc.tolist()})",
            hint="use nvt or nve",
        )
    if settings.ensemble == "npt" and atoms.constraints:
        raise DataError(
            "npt moves all atoms with the cell, but the structure has constraints "
            f"({', '.join(sorted({type(kept).__name__ for kept in atoms.constraints}))})",
            hint="use nvt or nve, or take the constraints out of the structure",
        )
    if settings.couple != "iso" and settings.ensemble != "npt":
        raise DataError(
            f"couple {settings.couple} says how the cell follows the pressure, "
            f"and {settings.ensemble} keeps the cell",
            hint="add --ensemble npt",
        )
    fixed = [
        index for kept in atoms.constraints if isinstance(kept, FixAtoms) for index in kept.index
    ]
    if len(set(fixed)) == len(atoms):
        raise DataError(
            "the structure's constraints fix every atom: nothing moves",
            hint="zoo predict evaluates it as it is",
        )
