"""LAMMPS's data file of a structure, and the input script that runs it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from dpa2.ase import Parameters
from dpa2.data.cells import PeriodicBox
from dpa2.interfaces.md import MdSettings, held_directions
from schemas.base.errors import DataError

Floats = NDArray[np.float64]

# Room around what is not periodic, Å; the box grows where atoms leave it, and never shrinks.
_ROOM = 10.0
_PICOSECOND = 1000.0 * units.fs
# Tilts that are the rounding of a rotation, as a part of the length of the cell.
_TILT_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class LammpsStructure:
    """A structure as LAMMPS takes it. Axes: N atoms, T atom types.

    Attributes:
        formula: Of the structure.
        elements: (T,) of the atom types; isotopes have types of their own.
        masses: (T,) u.
        types: (N,) from 1.
        positions: (N, 3) Å, inside the cell.
        cell: (3, 3) Å, rows are vectors, lower triangular.
        pbc: (3,) which directions are periodic.
        velocities: (N, 3) Å/ps; None: not known.
        held: (N, 3) which coordinates stay as they are.
        is_turned: Whether LAMMPS's frame is another than the structure's.
        has_isotopes: Whether a mass is another than that of its element.
    """

    formula: str
    elements: tuple[str, ...]
    masses: Floats
    types: NDArray[np.int64]
    positions: Floats
    cell: Floats
    pbc: NDArray[np.bool_]
    velocities: Floats | None
    held: NDArray[np.bool_]
    is_turned: bool
    has_isotopes: bool


def lammps_structure(atoms: Atoms, elements: Sequence[str]) -> LammpsStructure:
    """Return a structure with a cell in every direction, all atoms inside, turned as LAMMPS wants.

    Args:
        atoms: The structure.
        elements: Its elements, in the order of the atom types.

    Raises:
        DataError: If the cell has no volume, a mass is not positive, or a constraint cannot be
            kept.
    """
    box, positions = _in_a_box(atoms)
    rotation, cell = _lower_triangular(box)
    positions = positions @ rotation
    images = np.floor(positions @ np.linalg.inv(cell))
    positions -= images[:, atoms.pbc] @ cell[atoms.pbc]
    kinds, masses, types = _atom_types(atoms, elements)
    held = held_directions(atoms, rotation)
    if held.all():
        raise DataError(
            "the structure's constraints hold every atom: nothing moves",
            hint="zoo predict evaluates it as it is",
        )
    velocities = None
    if atoms.has("momenta") and atoms.get_momenta().any():  # type: ignore[no-untyped-call]
        velocities = _PICOSECOND * atoms.get_velocities() @ rotation  # type: ignore[no-untyped-call]
        velocities = np.where(held, 0.0, velocities)
        velocities = velocities if velocities.any() else None
    natural = [atomic_masses[atomic_numbers[kind]] for kind in kinds]
    return LammpsStructure(
        formula=str(atoms.symbols),
        elements=kinds,
        masses=masses,
        types=types,
        positions=positions,
        cell=cell,
        pbc=np.array(atoms.pbc),
        velocities=velocities,
        held=held,
        is_turned=not np.allclose(rotation, np.eye(3), atol=_TILT_ROUNDING),
        has_isotopes=not np.allclose(masses, natural, rtol=1e-6),
    )


def lammps_data(structure: LammpsStructure, *, tilted: bool = False) -> str:
    """Return the data file: elements and masses of the atom types, all digits of the rest.

    Args:
        structure: What it holds.
        tilted: Write the tilts of the cell even where they are zero, so that they can change.
    """
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = structure.cell.tolist()
    lines = [
        f"{structure.formula}, written by zoo; units = metal; boundary = {boundary(structure.pbc)}",
        "",
        f"{len(structure.types)} atoms",
        f"{len(structure.elements)} atom types",
        "",
        *(f"0.0 {high:.17g} {a}lo {a}hi" for a, high in zip("xyz", (xx, yy, zz), strict=True)),
    ]
    if tilted or any((xy, xz, yz)):
        lines.append(f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz")
    labels = [
        f"{name}_{before + 1}" if (before := structure.elements[:k].count(name)) else name
        for k, name in enumerate(structure.elements)  # O, H, H_2 for a second mass of hydrogen
    ]
    kinds = zip(structure.masses.tolist(), structure.elements, strict=True)
    placed = zip(structure.types.tolist(), structure.positions.tolist(), strict=True)
    sections = {
        "Atom Type Labels": labels,
        "Masses": [f"{mass:.17g} # {element}" for mass, element in kinds],
        "Atoms # atomic": [f"{kind} {_numbers(position)}" for kind, position in placed],
    }
    if structure.velocities is not None:
        sections["Velocities"] = [_numbers(v) for v in structure.velocities.tolist()]
    for title, rows in sections.items():
        lines += ["", title, "", *(f"{number} {row}" for number, row in enumerate(rows, 1))]
    return "\n".join(lines) + "\n"


def boundary(pbc: NDArray[np.bool_]) -> str:
    """Return LAMMPS's boundaries.

    Where there are no images the box grows with the atoms but is never smaller than in the data
    file (m): around a planar molecule a box that shrinks has no room for a list of neighbours.
    """
    return " ".join("p" if periodic else "m" for periodic in pbc)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.17g}" for value in values)


def _atom_types(
    atoms: Atoms, elements: Sequence[str]
) -> tuple[tuple[str, ...], Floats, NDArray[np.int64]]:
    """Return element and mass of each atom type, and the type of each atom, from 1."""
    masses = atoms.get_masses()
    if not (masses > 0).all():
        atom = int(np.argmin(masses > 0))
        raise DataError(
            f"atom {atom} (counted from 0) has the mass {masses[atom]}, which cannot move",
            hint="give every atom a positive mass, or none its own",
        )
    symbols = np.array(list(atoms.symbols))
    kinds: list[tuple[str, float]] = []
    types = np.zeros(len(atoms), dtype=np.int64)
    for element in elements:
        # The natural mass first: it is the one without a number behind its label.
        natural = float(atomic_masses[atomic_numbers[element]])
        there = set(masses[symbols == element].tolist())
        for mass in [natural] * (natural in there) + sorted(there - {natural}):
            kinds.append((element, mass))
            types[(symbols == element) & (masses == mass)] = len(kinds)
    return tuple(kind for kind, _ in kinds), np.array([mass for _, mass in kinds]), types


def _in_a_box(atoms: Atoms) -> tuple[Floats, Floats]:
    """Return right-handed cell vectors in all directions, and positions inside the free ones."""
    free = ~atoms.pbc
    positions = np.array(atoms.positions)
    box = PeriodicBox(2.0 * _ROOM)(positions, atoms.cell.array, atoms.pbc)
    if box is None:
        box = np.diag(np.ptp(positions, axis=0) + 2.0 * _ROOM)
    volume = np.linalg.det(box)
    if volume == 0.0:
        raise DataError(
            f"the cell has no volume: {box.tolist()}",
            hint="give every periodic direction a vector of its own, or set its pbc to False",
        )
    if volume < 0.0:
        # The same lattice: a vector and its opposite lead to the same images.
        box[2] *= -1.0
    normals = box[free] / np.linalg.norm(box[free], axis=1, keepdims=True)
    lowest = (positions @ normals.T).min(axis=0)
    return box, positions + (_ROOM - lowest) @ normals


def _lower_triangular(cell: Floats) -> tuple[Floats, Floats]:
    """Return a rotation (3, 3) and the lower triangular `cell @ rotation`."""
    if not np.triu(cell, 1).any() and (np.diag(cell) > 0).all():
        return np.eye(3), cell
    rotation, upper = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(upper))
    turned = (upper * signs[:, None]).T
    turned[np.abs(turned) < _TILT_ROUNDING * np.abs(turned).max()] = 0.0
    return rotation * signs, turned


SKIN = 1.0
"""Margin of LAMMPS's neighbour list, Å; its default of 2 Å makes lists half as long again."""

MASS_COLUMN = "v_mass"
HELD_COLUMNS = ("v_held_x", "v_held_y", "v_held_z")
"""Columns of our trajectories that tell what elements do not: isotopes, and what is held."""

# The one format whose messages between atoms cross from process to process.
_SEVERAL_PROCESSES = ".pth"

# Damping times of thermostat and barostat, in steps.
_THERMOSTAT = 100
_BAROSTAT = 1000
# Groups of the atoms that cannot move at all, and of the others.
_FIXED, _MOBILE = "fixed", "mobile"


def lammps_script(
    structure: LammpsStructure,
    settings: MdSettings,
    files: Sequence[str],
    parameters: Parameters,
) -> str:
    """Return the input script.

    Args:
        structure: What the data file holds.
        settings: What to simulate.
        files: Names of script, data file and model.
        parameters: What the model is told; those of atoms are the same for each.
    """
    _, data, model = files
    elements = " ".join(structure.elements)
    picoseconds = settings.timestep / 1000.0
    groups = _Groups(structure)
    lines = [
        f"# {structure.formula} with {model}; start with: lmp -in {files[0]}",
        f"# needs deepmd-kit's plugin; {_processes(files)}",
        "units           metal            # Å, eV, ps, K, bar",
        "atom_style      atomic",
        "atom_modify     map yes          # models pass messages between atoms and their images",
        "newton          on",
        f"boundary        {boundary(structure.pbc)}",
        *_tilt(structure.cell),
        f"read_data       {data}",
        "",
        f"pair_style      deepmd {model}{_given(parameters)}",
        f"pair_coeff      * * {elements}",
        f"neighbor        {SKIN} bin",
        "neigh_modify    every 1 delay 0 check yes",
        "",
        f"timestep        {picoseconds:.10g}",
        *groups.definitions(),
        *groups.velocities(settings),
        *groups.forces(),
        f"fix             move {groups.moving} {_integrator(settings, picoseconds)}",
        *groups.if_warm_in_part("fix_modify      move temp heat", settings.ensemble != "nve"),
        "",
        f"thermo          {settings.dump_every}",
        "thermo_style    custom step time temp pe ke etotal press vol",
        "thermo_modify   format float %.15g",
        *groups.if_warm_in_part("thermo_modify   temp heat"),
        *groups.columns(settings, elements),
        "",
        f"run             {settings.steps}",
        "write_data      final.data",
    ]
    return "\n".join(lines) + "\n"


class _Groups:
    """The lines that depend on which atoms move, and in which directions."""

    def __init__(self, structure: LammpsStructure) -> None:
        self._structure = structure
        held = structure.held
        self._fixed = held.all(axis=1)
        self._partly = held.any(axis=1) & ~self._fixed
        # A lone atom has no centre of mass to keep beside itself.
        self._keeps_momentum = not held.any() and len(held) > 1
        self.moving = _MOBILE if self._fixed.any() else "all"

    def _partial(self) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.intp]]]:
        """Yield the group, the directions and the atoms of each way to be held partly."""
        held = self._structure.held
        for directions in np.unique(held[self._partly], axis=0):
            name = "held_" + "".join(np.array(list("xyz"))[directions])
            yield name, directions, np.flatnonzero((held == directions).all(axis=1))

    def definitions(self) -> Iterator[str]:
        if self._fixed.any():
            yield f"group           {_FIXED} id {_ids(np.flatnonzero(self._fixed))}"
            yield f"group           {_MOBILE} subtract all {_FIXED}"
        for name, _, atoms in self._partial():
            yield f"group           {name} id {_ids(atoms)}"
        if not self._keeps_momentum:
            lost = int(self._structure.held[self._partly].sum())
            yield f"compute         heat {self.moving} temp"
            yield f"compute_modify  heat extra/dof {lost}    # directions in which nothing moves"

    def velocities(self, settings: MdSettings) -> Iterator[str]:
        if self._structure.velocities is not None:
            yield "# velocities are those of the structure"
            return
        create = f"velocity        {self.moving} create {settings.temperature} {settings.seed}"
        if self._keeps_momentum:
            rotation = "no" if self._structure.pbc.any() else "yes"
            yield f"{create} mom yes rot {rotation} dist gaussian"
            return
        yield f"{create} mom no rot no dist gaussian temp heat"
        for name, directions, _ in self._partial():
            yield f"velocity        {name} set {_zeros(directions)}"
        if self._partly.any():
            yield f"velocity        {self.moving} scale {settings.temperature} temp heat"

    def forces(self) -> Iterator[str]:
        """Yield what holds atoms partly; the model's forces are kept for the trajectory."""
        if self._partly.any():
            yield "fix             model all store/force"
        for name, directions, _ in self._partial():
            yield f"fix             {name} {name} setforce {_zeros(directions)}"

    def if_warm_in_part(self, line: str, applies: bool = True) -> list[str]:
        """Return a line that is needed where not all directions are warm, if it applies."""
        return [line] if applies and not self._keeps_momentum else []

    def columns(self, settings: MdSettings, elements: str) -> Iterator[str]:
        """Yield the dump: the model's forces, and what it takes to go on from a frame."""
        forces = {f"f_model[{k}]": f"f{a}" for k, a in enumerate("xyz", 1) if self._partly.any()}
        more = []
        if self._structure.has_isotopes:
            yield "variable        mass atom mass"
            more.append(MASS_COLUMN)
        if self._structure.held.any():
            for axis, column in enumerate(HELD_COLUMNS):
                name = column.removeprefix("v_")
                yield f'variable        {name} atom "{self._is_held(axis)}"'
                more.append(column)
        columns = ["id type element xu yu zu", *(forces or ["fx fy fz"]), "vx vy vz", *more]
        yield (
            f"dump            frames all custom {settings.dump_every} trajectory.lammpstrj "
            + " ".join(columns)
        )
        yield f"dump_modify     frames sort id element {elements} format float %20.15g"
        for column, name in forces.items():
            yield f"dump_modify     frames colname {column} {name}"

    def _is_held(self, axis: int) -> str:
        names = [name for name, directions, _ in self._partial() if directions[axis]]
        names += [_FIXED] if self._fixed.any() else []
        return " || ".join(f"gmask({name})" for name in names) or "0"


def _ids(atoms: NDArray[np.intp]) -> str:
    """Return the numbers of atoms, from 1, runs of them as first:last."""
    runs = np.split(atoms + 1, np.flatnonzero(np.diff(atoms) > 1) + 1)
    return " ".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _zeros(directions: NDArray[np.bool_]) -> str:
    return " ".join("0.0" if held else "NULL" for held in directions)


def _processes(files: Sequence[str]) -> str:
    script, _, model = files
    if model.endswith(_SEVERAL_PROCESSES):
        return f"several processes: mpirun -np 4 lmp -in {script}"
    return f"one process: only {_SEVERAL_PROCESSES} models run on several"


def _tilt(cell: NDArray[np.float64]) -> list[str]:
    (xx, _, _), (xy, yy, _), (xz, yz, _) = np.abs(cell).tolist()
    if 2 * max(xy, xz) > xx or 2 * yz > yy:
        return ["box             tilt large"]
    return []


def _given(parameters: Parameters) -> str:
    """Return the parameters as words; every atom has the same aparam, so that the first has it."""
    aparam = None if parameters.aparam is None else np.asarray(parameters.aparam)[0]
    return "".join(
        f" {name} {_numbers(np.ravel(values).astype(np.float64).tolist())}"
        for name, values in (("fparam", parameters.fparam), ("aparam", aparam))
        if values is not None
    )


def _integrator(settings: MdSettings, picoseconds: float) -> str:
    heat = f"temp {settings.temperature} {settings.temperature} {_THERMOSTAT * picoseconds:.10g}"
    if settings.ensemble == "nve":
        return "nve"
    if settings.ensemble == "nvt":
        return f"nvt {heat}"
    press = f"{settings.pressure} {settings.pressure} {_BAROSTAT * picoseconds:.10g}"
    return f"npt {heat} {settings.couple} {press}"
