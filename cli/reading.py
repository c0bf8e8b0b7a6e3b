"""Options of commands that read structures and their labels from other programs' files."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dpa2.data.structures.structure import LabelKeys


class Unit(StrEnum):
    """Units of stress; a minus counts compression positive, as VASP prints it."""

    EV = "eV/A^3"
    GPA = "GPa"
    KBAR = "kbar"
    BAR = "bar"
    MINUS_EV = "-eV/A^3"
    MINUS_GPA = "-GPa"
    MINUS_KBAR = "-kbar"
    MINUS_BAR = "-bar"


_KEY = "KEY"
EnergyKey = Annotated[
    str | None,
    typer.Option(
        "--energy-key",
        metavar=_KEY,
        help="Key of the energy (eV) in ASE's formats; none: no energy.",
    ),
]
ForcesKey = Annotated[
    str | None,
    typer.Option("--forces-key", metavar=_KEY, help="Key of the forces (eV/Å); none: no forces."),
]
StressKey = Annotated[
    str | None,
    typer.Option(
        "--stress-key", metavar=_KEY, help="Key of the stress or virial (eV); none: no virial."
    ),
]
StressUnit = Annotated[
    Unit | None,
    typer.Option(
        "--stress-unit",
        help="Unit of the stress, tension positive; with a minus, compression. Default: eV/A^3.",
    ),
]
Vacuum = Annotated[
    float,
    typer.Option(
        "--vacuum",
        metavar="Å",
        min=1.0,
        max=1000.0,
        help="Between images where a structure is periodic in some directions only.",
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FMT", help="Format, if name and content do not tell (dpdata's, ASE's)."
    ),
]
TypeNames = Annotated[
    str | None,
    typer.Option(
        "--type-map",
        metavar="'O H'",
        help="Elements of the types 1, 2, ... of files that do not name them.",
    ),
]


def label_keys(
    energy: str | None, forces: str | None, stress: str | None, unit: Unit | None
) -> "LabelKeys":
    """Return what these options say."""
    from dpa2.data.structures.structure import LabelKeys

    return LabelKeys(energy, forces, stress, None if unit is None else unit.value)


def names_of(text: str | None) -> list[str] | None:
    """Return the names in `'O H'` or `O,H`."""
    return None if text is None else text.replace(",", " ").split()
