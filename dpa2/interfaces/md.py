"""What a molecular dynamics run keeps constant, and the ASE script that runs it."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ase.io
import numpy as np
from ase import Atoms
from ase.constraints import (
    FixAtoms,
    FixCartesian,
    FixedLine,
    FixedPlane,
    FixScaled,
    dict2constraint,
)
from ase.io.jsonio import decode, encode
from ase.md import nose_hoover_chain
from numpy.typing import NDArray

from dpa2.ase import Parameters
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


Floats = NDArray[np.float64]

_HELD_ROUNDING = 1e-9

# Of a constraint and a cell: the projection (3, 3) onto what its atoms can still do.
_FREEDOM: dict[type, Callable[[Any, Floats], Floats]] = {
    FixAtoms: lambda _constraint, _cell: np.zeros((3, 3)),
    FixCartesian: lambda constraint, _cell: np.diag(~constraint.mask).astype(np.float64),
    FixScaled: lambda constraint, cell: _onto(cell[~constraint.mask]),
    FixedPlane: lambda constraint, _cell: np.eye(3) - _onto(constraint.dir[None]),
    FixedLine: lambda constraint, _cell: _onto(constraint.dir[None]),
}


def held_directions(atoms: Atoms, rotation: Floats) -> NDArray[np.bool_]:
    """Return which coordinates (N, 3) of atoms stay as they are.

    Args:
        atoms: With constraints.
        rotation: (3, 3); coordinates are those of `positions @ rotation`.

    Raises:
        DataError: If a constraint does more than to hold coordinates; names it.
    """
    held = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        freedom = _FREEDOM.get(type(constraint))
        if freedom is None:
            raise DataError(
                f"the structure has the constraint {name}, which a LAMMPS input of zoo cannot hold",
                hint="use --engine ase, which keeps it, or take it out of the structure",
            )
        turned = rotation.T @ freedom(constraint, atoms.cell.array) @ rotation
        free = np.diag(turned)
        if np.abs(turned - np.diag(np.rint(free))).max() > _HELD_ROUNDING:
            raise DataError(
                f"the constraint {name} of atom {int(constraint.index[0])} (counted from 0) holds "
                "it in a direction that is no axis of LAMMPS's cell",
                hint="use --engine ase, which keeps it, or fix the atoms as a whole (FixAtoms)",
            )
        held[constraint.index] |= free < 0.5
    return held


def _onto(vectors: Floats) -> Floats:
    """Return the projection (3, 3) onto the span of independent vectors (K, 3)."""
    basis, _ = np.linalg.qr(vectors.T)
    return np.asarray(basis @ basis.T)


_SCRIPT, _STRUCTURE, _CONSTRAINTS = "run.py", "structure.extxyz", "constraints.json"

_HEAT = "    temperature_K={temperature},\n"
_CHAIN = _HEAT + "    tdamp=100 * timestep,\n"
_PRESS = _CHAIN + "    pressure_au={pressure} * units.bar,\n    pdamp=1000 * timestep,\n"

# Module, class and options by what is kept constant; npt by how the cell follows, too.
_INTEGRATORS = {
    "nve": ("ase.md.verlet", "VelocityVerlet", ""),
    "nvt": ("ase.md.nose_hoover_chain", "NoseHooverChainNVT", _CHAIN),
    # Nose-Hoover chains of ASE count the directions that constraints hold as warm ones.
    "nvt held": (
        "ase.md.bussi",
        "Bussi",
        _HEAT + "    taut=100 * timestep,\n    rng=np.random.default_rng({seed}),\n",
    ),
    "npt iso": ("ase.md.nose_hoover_chain", "IsotropicMTKNPT", _PRESS),
    "npt aniso": (
        "ase.md.nose_hoover_chain",
        "MaskedMTKNPT",
        _PRESS + "    mask=(True, True, True),\n",
    ),
    "npt tri": ("ase.md.nose_hoover_chain", "MTKNPT", _PRESS),
}

_TEXT = """\
\"\"\"{ensemble} with {model}; start with: python {script}\"\"\"

import numpy as np
from ase import units
{imports}

from dpa2.ase import Calculator

atoms = read("{structure}")
{constraints}atoms.calc = Calculator({arguments})
if not atoms.get_momenta().any():
    rng = np.random.default_rng({seed})
    masses = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * {temperature})
{centre}    atoms.set_momenta(momenta)

timestep = {timestep} * units.fs
dynamics = {integrator}(
    atoms,
    timestep=timestep,
{options}    trajectory="trajectory.traj",
    logfile="md.log",
    loginterval={dump_every},
)
dynamics.run({steps})
write("final.extxyz", atoms)
"""
_CENTRE = """\
    # The centre of mass stays where it is.
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
"""
_READ_CONSTRAINTS = f"""\
atoms.set_constraint([dict2constraint(entry) for entry in read_json("{_CONSTRAINTS}")])
"""


def ase_files(
    atoms: Atoms,
    settings: MdSettings,
    model: str,
    parameters: Parameters,
    opening: Mapping[str, str | None],
) -> dict[str, str]:
    """Return the texts of the script and of the files that it reads, by name, the script first.

    Args:
        atoms: The structure.
        settings: What to simulate.
        model: Name of the model's file.
        parameters: What the model is told.
        opening: How the calculator is to open it, by keyword; None is its default.

    Raises:
        DataError: If a constraint cannot be written down, or ASE is too old for the ensemble.
    """
    texts = {
        _SCRIPT: _script(atoms, settings, model, opening),
        _STRUCTURE: _structure(atoms, parameters),
    }
    if atoms.constraints:
        texts[_CONSTRAINTS] = _constraints(atoms)
    return texts


def _script(
    atoms: Atoms, settings: MdSettings, model: str, opening: Mapping[str, str | None]
) -> str:
    module, integrator, options = _integrator(atoms, settings)
    imports = ["from ase.io import read, write", f"from {module} import {integrator}"]
    if atoms.constraints:
        imports += [
            "from ase.constraints import dict2constraint",
            "from ase.io.jsonio import read_json",
        ]
    told = [f"{key}={value!r}" for key, value in opening.items() if value is not None]
    arguments = ", ".join([repr(model), *told])
    keeps_centre = not atoms.constraints and len(atoms) > 1
    return _TEXT.format(
        ensemble=settings.ensemble.upper(),
        model=model,
        script=_SCRIPT,
        imports="\n".join(sorted(imports)),
        structure=_STRUCTURE,
        constraints=_READ_CONSTRAINTS if atoms.constraints else "",
        arguments=arguments.replace("'", '"'),
        seed=settings.seed,
        temperature=settings.temperature,
        centre=_CENTRE if keeps_centre else "",
        timestep=settings.timestep,
        integrator=integrator,
        options=options.format(
            temperature=settings.temperature, pressure=settings.pressure, seed=settings.seed
        ),
        dump_every=settings.dump_every,
        steps=settings.steps,
    )


def _integrator(atoms: Atoms, settings: MdSettings) -> tuple[str, str, str]:
    kind: str = settings.ensemble
    if kind == "npt":
        kind = f"npt {settings.couple}"
    elif kind == "nvt" and atoms.constraints:
        kind = "nvt held"
    module, integrator, options = _INTEGRATORS[kind]
    if module == nose_hoover_chain.__name__ and not hasattr(nose_hoover_chain, integrator):
        raise DataError(
            f"this ASE has no {integrator}, which {kind} needs",
            hint="install a newer one (pip install -U ase), or use --engine lammps",
        )
    return module, integrator, options


def _structure(atoms: Atoms, parameters: Parameters) -> str:
    """Return the structure with masses, momenta and parameters; constraints have their own file."""
    plain: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    if plain.has("momenta"):  # type: ignore[no-untyped-call]
        plain.set_momenta(plain.get_momenta())  # type: ignore[no-untyped-call] # what is held rests
    plain.set_constraint()  # type: ignore[no-untyped-call]
    if parameters.fparam is not None:
        plain.info["fparam"] = np.asarray(parameters.fparam)
    if parameters.aparam is not None:
        plain.info.pop("aparam", None)
        plain.arrays["aparam"] = np.asarray(parameters.aparam)
    stream = io.StringIO()
    ase.io.write(stream, plain, format="extxyz")
    return stream.getvalue()


def _constraints(atoms: Atoms) -> str:
    """Return the constraints as the script reads them, which is tried here.

    The errors of constraints that have no form in a file, or count no degrees of freedom, are those
    of whatever goes wrong inside them.
    """
    for constraint in atoms.constraints:
        try:
            text = encode([constraint.todict()])
            (again,) = decode(text)  # type: ignore[no-untyped-call]
            dict2constraint(again).get_removed_dof(atoms)
        except Exception as error:
            raise DataError(
                f"ASE cannot write the constraint {type(constraint).__name__} of the structure "
                "into a file and read it again",
                hint="take it out of the structure, and add it in run.py",
            ) from error
    return f"{encode([constraint.todict() for constraint in atoms.constraints])}\n"
