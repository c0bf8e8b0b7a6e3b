"""Simulations of what other people bring: slabs, wires, molecules, fixed atoms, isotopes."""

import functools
import json
import runpy

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixedLine,
    FixedPlane,
    FixScaled,
    MirrorForce,
)
from ase.io import read, write

from dpa2.ase import Calculator
from dpa2.evaluate.potential import load
from dpa2.formats.conversion import freeze
from dpa2.interfaces import simulation
from dpa2.interfaces.ase import Parameters
from dpa2.interfaces.lammps_data import lammps_structure
from dpa2.interfaces.md_settings import MdSettings
from dpa2.interfaces.simulation import starting_structure, write_simulation
from schemas.base.errors import DataError
from tests.commands import zoo
from tests.interfaces.conftest import GOLDEN
from tests.strangers.situations import case, situation


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return frozen models: one without parameters, one that takes 2 of a frame and 1 of atoms."""
    folder = tmp_path_factory.mktemp("frozen")
    return {
        name: freeze(GOLDEN / name / "model.pt", folder / f"{name}.pth").path
        for name in ("small", "fparam_aparam")
    }


@pytest.fixture(scope="module")
def potential():
    return load(GOLDEN / "small" / "model.pt")


@functools.cache
def load_once(path, branch=None):
    return load(path, branch)


@pytest.fixture
def water():
    """Return four water molecules in a small cell."""
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        frames = dict(archive)
    symbols = [("O", "H")[number] for number in frames["atype"]]
    return Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=True)


@pytest.fixture
def written(models, tmp_path, monkeypatch):
    """Return a function that writes a simulation, and the folder that it writes to."""
    folder = tmp_path / "md"
    monkeypatch.setattr(simulation, "load", load_once)

    def write_it(atoms, engine="lammps", model="small", parameters=Parameters(), **settings):  # noqa: B008
        settings = {"ensemble": "nve", "steps": 4, "dump_every": 2} | settings
        file = models[model] if engine == "lammps" else GOLDEN / model / "model.pt"
        return write_simulation(
            atoms, file, folder, engine, MdSettings(**settings), parameters=parameters
        )

    return write_it, folder


def script(folder):
    """Return the words of the lines of LAMMPS's input."""
    lines = (folder / "in.lammps").read_text().splitlines()
    return [line.partition("#")[0].split() for line in lines if line.partition("#")[0].strip()]


def starting(folder, *words):
    """Return the lines of the input that begin with these words."""
    return [line for line in script(folder) if line[: len(words)] == list(words)]


def data(folder):
    return read(folder / "structure.data", format="lammps-data", atom_style="atomic")


def energy(potential, atoms):
    twin = atoms.copy()
    twin.set_constraint()
    twin.calc = Calculator(potential)
    return twin.get_potential_energy()


def rotated(atoms):
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    return atoms


def with_cell(atoms, change):
    atoms.set_cell(np.array(change) @ atoms.cell.array)
    return atoms


def with_pbc(atoms, pbc):
    atoms.pbc = pbc
    return atoms


def flat_hexagonal():
    positions = [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]]
    cell = [[4, 0, 0], [2, 3.5, 0], [0, 0, 0]]
    return Atoms("OHH", positions, cell=cell, pbc=[True, True, False])


def flat_wire():
    positions = [[0, 0, 0], [0.96, 0, 0], [-0.96, 0, 0]]
    return Atoms("OHH", positions, cell=[5, 0, 0], pbc=[True, False, False])


@pytest.mark.parametrize("made", [
    case("LAMMPS: Cannot use neighbor bins | a planar molecule | a box with room around it",
         lambda _: molecule("H2O")),
    case("LAMMPS: Cannot use neighbor bins | a linear molecule | a box with room around it",
         lambda _: Atoms("HOH", [[0, 0, -0.97], [0, 0, 0], [0, 0, 0.97]])),
    case("LAMMPS: Cannot use neighbor bins | a dimer | a box with room around it",
         lambda _: Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])),
    case("LAMMPS | a single atom, far from the origin | a box around it", lambda _: Atoms("O",
         [[1e3, 2.0, -5.0]])),
    case("LAMMPS: Cannot use neighbor bins | a straight wire, one cell vector | images along the "
         "wire only", lambda _: flat_wire()),
    case("LAMMPS | one hexagonal layer without a third vector | a slab",
         lambda _: flat_hexagonal()),
    case("slabs of ASE | pbc T T F with a cell as high as the slab | a slab",
         lambda water: with_pbc(water, [True, True, False])),
    case("slabs of ASE | pbc F T T | a slab", lambda water: with_pbc(water, [False, True, True])),
    case("wires of ASE | a wire that lies across the axes | a wire",
         lambda water: with_pbc(rotated(water), [False, True, False])),
    case("MD of other programs | a left-handed cell | the same crystal",
         lambda water: with_cell(water, [[1, 0, 0], [0, 1, 0], [0, 0, -1]])),
    case("cells of relaxations | a strongly tilted cell in any frame | the same crystal",
         lambda water: with_cell(rotated(water), [[1, 0, 0], [0.8, 1, 0], [-0.9, 0.7, 1]])),
])  # fmt: skip
def test_lammps_gets_the_same_structure(made, written, water, potential):
    atoms = made(water)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    write_it, folder = written
    write_it(atoms)
    placed = data(folder)
    boundary = ["p" if periodic else "m" for periodic in atoms.pbc]
    assert starting(folder, "boundary") == [["boundary", *boundary]]
    assert (np.diag(placed.cell.array) > 0).all()
    # The data file has images everywhere, too far away to be seen where there should be none.
    assert energy(potential, placed) == pytest.approx(energy(potential, atoms), abs=1e-10)
    room = (
        placed.get_scaled_positions(wrap=False)[:, ~atoms.pbc] * placed.cell.lengths()[~atoms.pbc]
    )
    assert (room > 9.0).all()
    assert (placed.cell.lengths()[~atoms.pbc] - room > 9.0).all()
    # Velocities are turned with the structure.
    expected = atoms.get_velocities() @ atoms.get_velocities().T
    found = placed.get_velocities() @ placed.get_velocities().T
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@situation(
    "LAMMPS: triclinic box skew is large | a tilt of more than half of a length | box tilt large "
    "before read_data"
)
def test_a_large_tilt_is_told_to_lammps(written, water):
    write_it, folder = written
    write_it(with_cell(water, [[1, 0, 0], [0.8, 1, 0], [0, 0, 1]]))
    commands = [line[0] for line in script(folder)]
    assert commands.index("box") < commands.index("read_data")


@situation(
    "surfaces with a frozen bottom (ASE, POSCAR with selective dynamics) | FixAtoms and --engine "
    "lammps | not integrated, no velocities, counted out of the temperature, raw forces"
)
def test_fixed_atoms_stay_in_lammps(written, water):
    water.set_constraint(FixAtoms([0, 1, 2, 7]))
    write_it, folder = written
    write_it(water, ensemble="nvt")
    assert starting(folder, "group", "fixed") == [["group", "fixed", "id", "1:3", "8"]]
    assert starting(folder, "fix", "move")[0][2:4] == ["mobile", "nvt"]
    assert starting(folder, "velocity")[0][1] == "mobile"
    assert starting(folder, "compute_modify") == [["compute_modify", "heat", "extra/dof", "0"]]
    assert starting(folder, "fix_modify") == [["fix_modify", "move", "temp", "heat"]]
    assert starting(folder, "thermo_modify", "temp") == [["thermo_modify", "temp", "heat"]]
    assert not [line for line in script(folder) if "setforce" in line]
    assert starting(folder, "dump", "frames")[0][12:15] == ["fx", "fy", "fz"]


@pytest.mark.parametrize(("constraint", "zeros"), [
    case("ASE | FixCartesian | the force in that direction is set to zero", FixCartesian([1, 2],
         (True, False, False)), ["0.0", "NULL", "NULL"]),
    case("POSCAR with selective dynamics | F T T: FixScaled, right-angled cell | held",
         FixScaled([1, 2], (False, True, True)), ["NULL", "0.0", "0.0"]),
    case("ASE | FixedPlane across an axis | held", FixedPlane([1, 2], (0, 0, 1)), ["NULL", "NULL",
         "0.0"]),
    case("ASE | FixedLine along an axis | held", FixedLine([1, 2], (0, 1, 0)), ["0.0", "NULL",
         "0.0"]),
])  # fmt: skip
def test_directions_that_are_held_stay_in_lammps(constraint, zeros, written, water):
    water.set_cell(np.diag(np.diag(water.cell.array)))
    water.set_constraint(constraint)
    write_it, folder = written
    write_it(water, ensemble="nvt")
    (hold,) = [line for line in script(folder) if "setforce" in line]
    assert hold[4:] == zeros
    assert starting(folder, "group", hold[1]) == [["group", hold[1], "id", "2:3"]]
    assert [line[3:] for line in starting(folder, "velocity", hold[1])] == [zeros]
    lost = 2 * zeros.count("0.0")
    assert starting(folder, "compute_modify")[0][3] == str(lost)
    # The forces of the trajectory are the model's, before some are set to zero.
    assert starting(folder, "fix", "model") == [["fix", "model", "all", "store/force"]]
    assert "f_model[1]" in starting(folder, "dump", "frames")[0]


def constrained(*constraints):
    return lambda atoms: atoms.set_constraint(constraints)


def massless(atoms):
    atoms.set_masses([0.0 if atom == 4 else mass for atom, mass in enumerate(atoms.get_masses())])


def nowhere(atoms):
    atoms.positions[3, 1] = np.nan


def at_one_place(atoms):
    atoms.positions[3] = atoms.positions[7] + atoms.cell[0]


def unchanged(_):
    pass


PARAMETERS = {"model": "fparam_aparam", "parameters": Parameters([0.2, 0.1])}
LONG = {"model": "fparam_aparam", "parameters": Parameters([1.0, 2.0, 3.0], [0.1])}
REFUSED = [
    case("ASE | rigid bonds and --engine lammps | refused, names --engine ase",
         constrained(FixBondLength(0, 1)), {}, "the constraint FixBondLength"),
    case("ASE | a plane that lies across the axes of LAMMPS | refused",
         constrained(FixedPlane([0], (1, 1, 0))), {}, "FixedPlane of atom 0 .* no axis"),
    case("ASE | every atom fixed | refused, names zoo predict",
         constrained(FixAtoms(list(range(12)))), {}, "nothing moves"),
    case("ASE | constraints and npt, which moves all atoms with the cell | refused",
         constrained(FixAtoms([0])), {"ensemble": "npt"}, "npt moves all atoms"),
    (constrained(FixAtoms([0])), {"engine": "ase", "ensemble": "npt"}, "npt moves all atoms"),
    case("ASE | a constraint that counts no degrees of freedom (MirrorForce) | refused with its "
         "name", constrained(FixAtoms([0]), MirrorForce(0, 1, 2.0)), {"engine": "ase"},
         "the constraint MirrorForce"),
    case("force fields | a mass of zero | refused, names the atom", massless, {}, "atom 4 "),
    case("models with parameters | a structure without aparam | refused when it is written",
         unchanged, PARAMETERS, "needs aparam: 1 numbers per atom"),
    (unchanged, {**PARAMETERS, "engine": "ase"}, "needs aparam: 1 numbers per atom"),
    case("models with parameters | fparam of the wrong length | refused with both lengths",
         unchanged, LONG, "fparam has 3 numbers, and the model takes 2"),
    case("command lines | --couple aniso without npt | refused: it would change nothing",
         unchanged, {"ensemble": "nvt", "couple": "aniso"}, "keeps the cell"),
    case("damaged files | a position that is no number | refused before anything is written",
         nowhere, {}, "position of atom 3"),
    case("damaged files | two atoms at one place | refused before anything is written",
         at_one_place, {}, "at the same place"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "options", "reason"), REFUSED)
def test_what_cannot_be_simulated_is_refused(change, options, reason, written, water):
    change(water)
    write_it, folder = written
    with pytest.raises(DataError, match=reason) as refusal:
        write_it(water, **options)
    assert ("--aparam" in (refusal.value.hint or "")) == ("needs aparam" in reason)
    assert not folder.exists()


@situation(
    "ASE | FixAtoms and rigid bonds with --engine ase | kept, and counted out of the temperature"
)
def test_ase_keeps_constraints(written, water, monkeypatch):
    water.set_constraint([FixAtoms([0, 1, 2]), FixBondLength(3, 4)])
    write_it, folder = written
    files = write_it(water, "ase", ensemble="nvt", steps=6).files
    assert "constraints.json" in files
    monkeypatch.chdir(folder)
    runpy.run_path("run.py")
    first, *_, last = read("trajectory.traj", index=":")
    assert [type(kept).__name__ for kept in last.constraints] == ["FixAtoms", "FixBondLengths"]
    moved = np.linalg.norm(last.positions - first.positions, axis=1)
    assert not moved[:3].any()
    assert (moved[3:] > 0).all()
    assert last.get_distance(3, 4) == pytest.approx(first.get_distance(3, 4), abs=1e-6)
    assert abs(last.get_distance(3, 5) - first.get_distance(3, 5)) > 1e-5


@situation(
    "isotope effects | masses of single atoms (deuterium, a mass of 8) | atom types of their own, "
    "all with the element's forces"
)
def test_isotopes_have_types_of_their_own(written, water):
    masses = water.get_masses()
    hydrogen = np.flatnonzero(water.symbols == "H")
    masses[hydrogen[:2]] = 2.014
    masses[hydrogen[2]] = 8.0
    water.set_masses(masses)
    write_it, folder = written
    assert write_it(water).elements == ("O", "H", "H", "H")
    assert starting(folder, "pair_coeff") == [["pair_coeff", "*", "*", "O", "H", "H", "H"]]
    np.testing.assert_allclose(data(folder).get_masses(), masses)
    assert starting(folder, "dump", "frames")[0][-1] == "v_mass"
    text = (folder / "structure.data").read_text()
    for label in ("1 O", "2 H", "3 H_2", "4 H_3", "3 2.0139999999999998 # H", "4 8 # H"):
        assert f"\n{label}\n" in text


@situation("isotope effects | masses of single atoms with --engine ase | kept")
def test_ase_keeps_isotopes(written, water):
    masses = water.get_masses()
    masses[-1] = 2.014
    water.set_masses(masses)
    write_it, folder = written
    write_it(water, "ase")
    np.testing.assert_allclose(read(folder / "structure.extxyz").get_masses(), masses)


@situation(
    "models with electronic temperature or field as fparam | fparam in the structure, aparam on "
    "the command line | in pair_style"
)
def test_parameters_reach_lammps(written, water):
    water.info["fparam"] = np.array([0.25, -0.5])
    write_it, folder = written
    write_it(water, model="fparam_aparam", parameters=Parameters(None, [0.5]))
    (style,) = starting(folder, "pair_style")
    assert style[3:] == ["fparam", "0.25", "-0.5", "aparam", "0.5"]


@situation(
    "models with parameters | aparam that differs from atom to atom, and LAMMPS, which has one "
    "for all | refused for LAMMPS, kept for ASE"
)
def test_parameters_of_single_atoms_are_for_ase(written, water, models, monkeypatch):
    aparam = np.linspace(-0.5, 0.5, len(water))
    water.set_array("aparam", aparam)
    write_it, folder = written
    parameters = Parameters([0.25, -0.5])
    with pytest.raises(DataError, match="different aparam"):
        write_it(water, model="fparam_aparam", parameters=parameters)
    write_it(water, "ase", "fparam_aparam", parameters, steps=1)
    monkeypatch.chdir(folder)
    runpy.run_path("run.py")
    expected = load(models["fparam_aparam"]).predict(
        water.positions, water.cell.array, list(water.symbols), [0.25, -0.5], aparam, atomic=False
    )
    found = read("trajectory.traj", index=0).get_potential_energy()
    assert found == pytest.approx(expected.energy[0], abs=1e-6)


DUMP = """\
ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
3
ITEM: BOX BOUNDS mm mm mm
0 22
0 22
0 22
ITEM: ATOMS id type element xu yu zu fx fy fz vx vy vz v_mass v_held_x v_held_y v_held_z
1 1 O 10 10 10 0 0 0 {v} 0 0 15.999 0 0 0
2 2 H 10.96 10 10 0 0 0 0 2 0 2.014 1 1 1
3 3 H 10 10.96 10 0 0 0 0 0 3 1.008 0 0 1
"""


@pytest.mark.parametrize(("index", "velocity"), [
    case("our LAMMPS dumps | FILE@-1 | goes on from the last", "@-1", 5.0),
    case("our LAMMPS dumps | FILE@-2 | goes on from the one before", "@-2", 1.0),
    case("our LAMMPS dumps | FILE@0 | the first", "@0", 1.0),
    case("our LAMMPS dumps | FILE | the first", "", 1.0),
])  # fmt: skip
def test_a_run_goes_on_from_a_dump(index, velocity, written, tmp_path):
    path = tmp_path / "trajectory.lammpstrj"
    path.write_text(DUMP.format(step=0, v=1.0) + DUMP.format(step=10, v=5.0))
    atoms = starting_structure(f"{path}{index}", ["O", "H"])[0]
    assert list(atoms.symbols) == ["O", "H", "H"]
    assert not atoms.pbc.any()
    per_picosecond = atoms.get_velocities() * 1000 * units.fs
    np.testing.assert_allclose(np.diag(per_picosecond), [velocity, 2.0, 3.0])
    np.testing.assert_allclose(atoms.get_masses(), [15.999, 2.014, 1.008])
    write_it, folder = written
    write_it(atoms)
    assert starting(folder, "group", "fixed") == [["group", "fixed", "id", "2"]]
    assert not starting(folder, "velocity")
    rows = (folder / "structure.data").read_text().partition("Velocities\n\n")[2].splitlines()
    found = np.array([row.split()[1:] for row in rows], dtype=float)
    # Those of what is held are gone.
    np.testing.assert_allclose(found, np.diag([velocity, 0.0, 0.0]), atol=1e-12)


@situation("ASE .traj | FILE@-1 of a run with constraints | velocities and constraints go on")
def test_a_run_goes_on_from_a_trajectory_of_ase(written, water, tmp_path):
    frames = []
    for seed in range(3):
        frame = water.copy()
        frame.set_momenta(np.random.default_rng(seed).normal(size=(len(frame), 3)))
        frame.set_constraint(FixAtoms([0]))
        frames.append(frame)
    write(tmp_path / "run.traj", frames)
    atoms, _ = starting_structure(str(tmp_path / "run.traj@-1"), ["O", "H"])
    np.testing.assert_allclose(atoms.get_momenta(), frames[-1].get_momenta())
    write_it, folder = written
    write_it(atoms)
    assert starting(folder, "group", "fixed") == [["group", "fixed", "id", "1"]]
    assert not starting(folder, "velocity")
    write_it(atoms, "ase")
    momenta = read(folder / "structure.extxyz").get_momenta()
    assert not momenta[0].any()
    np.testing.assert_allclose(momenta[1:], frames[-1].get_momenta()[1:], atol=1e-7)


@situation("any trajectory | FILE@7 of a file with fewer structures | refused")
def test_a_structure_that_is_not_there_is_refused(water, tmp_path):
    write(tmp_path / "run.traj", [water, water])
    for index in (7, -3):
        with pytest.raises(DataError):
            starting_structure(f"{tmp_path}/run.traj@{index}", ["O", "H"])


@pytest.mark.parametrize("couple", [
    case("crystals under pressure | each length | written", "aniso"),
    case("crystals under pressure | angles, too | written", "tri"),
])  # fmt: skip
def test_a_cell_may_follow_in_each_direction(couple, written, water, tmp_path, monkeypatch):
    write_it, folder = written
    write_it(water, ensemble="npt", couple=couple)
    assert starting(folder, "fix", "move")[0][8] == couple
    has_tilt = " xy xz yz" in (folder / "structure.data").read_text()
    assert has_tilt == (couple == "tri")
    settings = MdSettings("npt", steps=4, dump_every=2, couple=couple)
    write_simulation(water, GOLDEN / "small" / "model.pt", tmp_path / "ase", "ase", settings)
    monkeypatch.chdir(tmp_path / "ase")
    runpy.run_path("run.py")
    first, *_, last = read("trajectory.traj", index=":")
    ratio = last.cell.array @ np.linalg.inv(first.cell.array)
    assert np.ptp(np.diag(ratio)) > 1e-9
    angles = np.abs(last.cell.angles() - first.cell.angles())
    assert (angles > 1e-9).any() == (couple == "tri")


@situation(
    "force fields, spin-polarised calculations | charges and magnetic moments of atoms | said "
    "that the model does not see them"
)
def test_charges_and_moments_are_said_not_to_count(written, water):
    water.set_initial_charges(np.where(water.symbols == "O", -0.8, 0.4))
    water.set_initial_magnetic_moments(np.ones(len(water)))
    notes = written[0](water).notes
    assert [note.split(" of")[0] for note in notes[1:]] == ["charges", "magnetic moments"]


@situation(
    "GPUMD and other programs | an extxyz column of velocities in a unit that is not said | not "
    "taken, and said; momenta are"
)
def test_velocities_of_unknown_unit_are_not_taken(written, water):
    water.set_array("vel", np.ones((len(water), 3)))
    write_it, folder = written
    assert "column vel" in write_it(water).notes[0]
    assert starting(folder, "velocity")


@pytest.mark.parametrize(("type_map", "reason"), [
    case("heavy water | atoms called D | hydrogen with the mass of deuterium", ["O", "H"], None),
    case("heavy water | D in the type_map of the model, too | refused: D has no mass in ASE", ["O",
         "H", "D"], "atoms called D"),
])  # fmt: skip
def test_heavy_water(type_map, reason, written, tmp_path):
    path = tmp_path / "heavy.xyz"
    path.write_text("3\nProperties=species:S:1:pos:R:3\nO 0 0 0\nD 0.96 0 0\nH 0 0.96 0\n")
    if reason is not None:
        with pytest.raises(DataError, match=reason):
            starting_structure(str(path), type_map)
        return
    atoms, _ = starting_structure(str(path), type_map)
    write_it, folder = written
    assert write_it(atoms).elements == ("O", "H", "H")
    np.testing.assert_allclose(data(folder).get_masses(), [15.999, 2.0141, 1.008], atol=1e-4)


@situation("relaxations | a start that carries energies of another method | left behind")
def test_old_energies_are_left_behind(written, water, potential):
    water.calc = Calculator(potential)
    water.get_forces()
    write_it, folder = written
    write_it(water, "ase")
    assert read(folder / "structure.extxyz").calc is None


@situation(
    "large models | elements that the model knows and the structure lacks | atom types of the "
    "structure's only"
)
def test_only_elements_of_the_structure_have_types(written):
    write_it, folder = written
    write_it(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    assert starting(folder, "pair_coeff") == [["pair_coeff", "*", "*", "H"]]


@situation("scripts | zoo md --json | the notes are in the document")
def test_notes_are_in_the_document(models, water, tmp_path):
    water.set_constraint(FixAtoms([0]))
    write(tmp_path / "water.traj", water)
    result = zoo(
        "md", tmp_path / "water.traj", "-m", models["small"], "-o", tmp_path / "md", "--json"
    )
    notes = json.loads(result.stdout)["notes"]
    assert notes[0] == "velocities are drawn at 300 K"
    assert "trajectory.lammpstrj@-1" in notes[1]


@pytest.mark.parametrize("made", [
    case("zoo predict structure.data | a data file of zoo md, a molecule | its energy",
         lambda _: molecule("H2O")),
    case("zoo predict structure.data | a data file of zoo md, a turned slab | its energy",
         lambda water: with_pbc(rotated(water), [True, True, False])),
    case("zoo predict structure.data | a data file of zoo md, a tilted cell | its energy",
         lambda water: with_cell(water, [[1, 0, 0], [0.3, 1, 0], [0, 0, -1]])),
])  # fmt: skip
def test_what_is_written_for_lammps_is_read_back(made, written, water, potential):
    atoms = made(water)
    masses = atoms.get_masses()
    masses[-1] = 3.016
    atoms.set_masses(masses)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    write_it, folder = written
    write_it(atoms)
    again, remarks = starting_structure(str(folder / "structure.data"), ["H", "C", "O"])
    assert not [remark for remark in remarks if "mass" in remark or "periodic" in remark]
    assert list(again.pbc) == list(atoms.pbc)
    assert list(again.symbols) == list(atoms.symbols)
    np.testing.assert_allclose(again.get_masses(), masses)
    assert again.get_kinetic_energy() == pytest.approx(atoms.get_kinetic_energy(), rel=1e-9)
    assert energy(potential, again) == pytest.approx(energy(potential, atoms), abs=1e-10)


@situation(
    "LAMMPS data files, final.data of a run | nothing in the file says which directions are "
    "periodic | taken as periodic, and said"
)
def test_a_data_file_without_boundaries_is_said_to_be_periodic(written):
    write_it, folder = written
    write_it(molecule("H2O"))
    path = folder / "structure.data"
    path.write_text("a title\n" + path.read_text().partition("\n")[2])
    atoms, remarks = starting_structure(str(path), ["O", "H"])
    assert atoms.pbc.all()
    assert any("does not say which directions are periodic" in remark for remark in remarks)


@pytest.mark.parametrize(("name", "constraint"), [
    case("extxyz of ASE | a column move_mask, momenta, masses | all taken", "a.extxyz",
         FixCartesian([0, 1], (True, False, False))),
    case("ASE .traj | constraints, momenta, masses | all taken", "a.traj", FixedLine([0, 1], (0, 1,
         0))),
    case("ASE .db | constraints, momenta, masses | all taken", "a.db", FixAtoms([0, 1])),
    case("ASE .json | constraints, momenta, masses | all taken", "a.json", FixedPlane([0, 1], (0, 0,
         1))),
])  # fmt: skip
def test_what_files_say_of_motion_reaches_lammps(name, constraint, written, water, tmp_path):
    water.set_cell(np.diag(np.diag(water.cell.array)))
    masses = water.get_masses()
    masses[-1] = 2.014
    water.set_masses(masses)
    water.set_momenta(np.random.default_rng(0).normal(size=(len(water), 3)))
    water.set_constraint(constraint)
    write(tmp_path / name, water)
    atoms, _ = starting_structure(str(tmp_path / name), ["O", "H"])
    held = lammps_structure(atoms, ["O", "H"]).held
    np.testing.assert_array_equal(held, lammps_structure(water, ["O", "H"]).held)
    assert held[:2].any()
    assert not held[2:].any()
    write_it, folder = written
    assert write_it(atoms).elements == ("O", "H", "H")
    assert not starting(folder, "velocity")
    moving = ~held
    np.testing.assert_allclose(
        data(folder).get_momenta()[moving], water.get_momenta()[moving], atol=1e-6
    )
