"""Where simulations start: dumps, trajectories, data files, isotopes, velocities."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane
from ase.io import read, write

from dpa2.ase import Calculator
from dpa2.interfaces.lammps import lammps_structure
from dpa2.interfaces.simulation import starting_structure
from schemas.base.errors import DataError
from tests.commands import document
from tests.strangers.simulations import energy, rotated, with_cell, with_masses, with_pbc
from tests.strangers.situations import case, situation


@situation("""isotope effects | masses of single atoms (deuterium, a mass of 8) | atom types of
    their own, all with the element's forces""")
def test_isotopes_have_types_of_their_own(md, water):
    first, second, third = np.flatnonzero(water.symbols == "H")[:3]
    with_masses(water, {first: 2.014, second: 2.014, third: 8.0})
    assert md(water).elements == ("O", "H", "H", "H")
    assert md.starting("pair_coeff") == [["pair_coeff", "*", "*", "O", "H", "H", "H"]]
    np.testing.assert_allclose(md.data().get_masses(), water.get_masses())
    assert md.starting("dump", "frames")[0][-1] == "v_mass"
    text = (md.folder / "structure.data").read_text()
    for label in ("1 O", "2 H", "3 H_2", "4 H_3", "3 2.0139999999999998 # H", "4 8 # H"):
        assert f"\n{label}\n" in text


@situation("isotope effects | masses of single atoms with --engine ase | kept")
def test_ase_keeps_isotopes(md, water):
    md(with_masses(water, {-1: 2.014}), "ase")
    found = read(md.folder / "structure.extxyz").get_masses()
    np.testing.assert_allclose(found, water.get_masses())


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
def test_a_run_goes_on_from_a_dump(index, velocity, md, tmp_path):
    path = tmp_path / "trajectory.lammpstrj"
    path.write_text(DUMP.format(step=0, v=1.0) + DUMP.format(step=10, v=5.0))
    atoms = starting_structure(f"{path}{index}", ["O", "H"])[0]
    assert list(atoms.symbols) == ["O", "H", "H"]
    assert not atoms.pbc.any()
    per_picosecond = atoms.get_velocities() * 1000 * units.fs
    np.testing.assert_allclose(np.diag(per_picosecond), [velocity, 2.0, 3.0])
    np.testing.assert_allclose(atoms.get_masses(), [15.999, 2.014, 1.008])
    md(atoms)
    assert md.starting("group", "fixed") == [["group", "fixed", "id", "2"]]
    assert not md.starting("velocity")
    rows = (md.folder / "structure.data").read_text().partition("Velocities\n\n")[2].splitlines()
    found = np.array([row.split()[1:] for row in rows], dtype=float)
    # Those of what is held are gone.
    np.testing.assert_allclose(found, np.diag([velocity, 0.0, 0.0]), atol=1e-12)


@situation("ASE .traj | FILE@-1 of a run with constraints | velocities and constraints go on")
def test_a_run_goes_on_from_a_trajectory_of_ase(md, water, tmp_path):
    frames = []
    for seed in range(3):
        frame = water.copy()
        frame.set_momenta(np.random.default_rng(seed).normal(size=(len(frame), 3)))
        frame.set_constraint(FixAtoms([0]))
        frames.append(frame)
    write(tmp_path / "run.traj", frames)
    atoms, _ = starting_structure(str(tmp_path / "run.traj@-1"), ["O", "H"])
    np.testing.assert_allclose(atoms.get_momenta(), frames[-1].get_momenta())
    md(atoms)
    assert md.starting("group", "fixed") == [["group", "fixed", "id", "1"]]
    assert not md.starting("velocity")
    md(atoms, "ase")
    momenta = read(md.folder / "structure.extxyz").get_momenta()
    assert not momenta[0].any()
    np.testing.assert_allclose(momenta[1:], frames[-1].get_momenta()[1:], atol=1e-7)


@situation("any trajectory | FILE@7 of a file with fewer structures | refused")
def test_a_structure_that_is_not_there_is_refused(water, tmp_path):
    write(tmp_path / "run.traj", [water, water])
    for index in (7, -3):
        with pytest.raises(DataError):
            starting_structure(f"{tmp_path}/run.traj@{index}", ["O", "H"])


@situation("""force fields, spin-polarised calculations | charges and magnetic moments of atoms |
    said that the model does not see them""")
def test_charges_and_moments_are_said_not_to_count(md, water):
    water.set_initial_charges(np.where(water.symbols == "O", -0.8, 0.4))
    water.set_initial_magnetic_moments(np.ones(len(water)))
    notes = md(water).notes
    assert [note.split(" of")[0] for note in notes[1:]] == ["charges", "magnetic moments"]


@situation("""GPUMD and other programs | an extxyz column of velocities in a unit that is not said |
    not taken, and said; momenta are""")
def test_velocities_of_unknown_unit_are_not_taken(md, water):
    water.set_array("vel", np.ones((len(water), 3)))
    assert "column vel" in md(water).notes[0]
    assert md.starting("velocity")


@pytest.mark.parametrize(("type_map", "reason"), [
    case("heavy water | atoms called D | hydrogen with the mass of deuterium", ["O", "H"], None),
    case("heavy water | D in the type_map of the model, too | refused: D has no mass in ASE",
         ["O", "H", "D"], "atoms called D"),
])  # fmt: skip
def test_heavy_water(type_map, reason, md, tmp_path):
    path = tmp_path / "heavy.xyz"
    path.write_text("3\nProperties=species:S:1:pos:R:3\nO 0 0 0\nD 0.96 0 0\nH 0 0.96 0\n")
    if reason is not None:
        with pytest.raises(DataError, match=reason):
            starting_structure(str(path), type_map)
        return
    atoms, _ = starting_structure(str(path), type_map)
    assert md(atoms).elements == ("O", "H", "H")
    np.testing.assert_allclose(md.data().get_masses(), [15.999, 2.0141, 1.008], atol=1e-4)


@situation("relaxations | a start that carries energies of another method | left behind")
def test_old_energies_are_left_behind(md, water, potential):
    water.calc = Calculator(potential)
    water.get_forces()
    md(water, "ase")
    assert read(md.folder / "structure.extxyz").calc is None


@situation("""large models | elements that the model knows and the structure lacks | atom types of
    the structure's only""")
def test_only_elements_of_the_structure_have_types(md):
    md(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    assert md.starting("pair_coeff") == [["pair_coeff", "*", "*", "H"]]


@situation("scripts | zoo md --json | the notes are in the document")
def test_notes_are_in_the_document(frozen, water, tmp_path):
    water.set_constraint(FixAtoms([0]))
    write(tmp_path / "water.traj", water)
    words = ("md", tmp_path / "water.traj", "-m", frozen["small"], "-o", tmp_path / "md")
    notes = document(*words)["notes"]
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
def test_what_is_written_for_lammps_is_read_back(made, md, water, potential):
    atoms = with_masses(made(water), {-1: 3.016})
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    md(atoms)
    again, remarks = starting_structure(str(md.folder / "structure.data"), ["H", "C", "O"])
    assert not [remark for remark in remarks if "mass" in remark or "periodic" in remark]
    assert list(again.pbc) == list(atoms.pbc)
    assert list(again.symbols) == list(atoms.symbols)
    np.testing.assert_allclose(again.get_masses(), atoms.get_masses())
    assert again.get_kinetic_energy() == pytest.approx(atoms.get_kinetic_energy(), rel=1e-9)
    assert energy(potential, again) == pytest.approx(energy(potential, atoms), abs=1e-10)


@situation("""LAMMPS data files, final.data of a run | nothing in the file says which directions are
    periodic | taken as periodic, and said""")
def test_a_data_file_without_boundaries_is_said_to_be_periodic(md):
    md(molecule("H2O"))
    path = md.folder / "structure.data"
    path.write_text("a title\n" + path.read_text().partition("\n")[2])
    atoms, remarks = starting_structure(str(path), ["O", "H"])
    assert atoms.pbc.all()
    assert any("does not say which directions are periodic" in remark for remark in remarks)


@pytest.mark.parametrize(("name", "constraint"), [
    case("extxyz of ASE | a column move_mask, momenta, masses | all taken", "a.extxyz",
         FixCartesian([0, 1], (True, False, False))),
    case("ASE .traj | constraints, momenta, masses | all taken", "a.traj",
         FixedLine([0, 1], (0, 1, 0))),
    case("ASE .db | constraints, momenta, masses | all taken", "a.db", FixAtoms([0, 1])),
    case("ASE .json | constraints, momenta, masses | all taken", "a.json",
         FixedPlane([0, 1], (0, 0, 1))),
])  # fmt: skip
def test_what_files_say_of_motion_reaches_lammps(name, constraint, md, water, tmp_path):
    water.set_cell(np.diag(np.diag(water.cell.array)))
    with_masses(water, {-1: 2.014})
    water.set_momenta(np.random.default_rng(0).normal(size=(len(water), 3)))
    water.set_constraint(constraint)
    write(tmp_path / name, water)
    atoms, _ = starting_structure(str(tmp_path / name), ["O", "H"])
    held = lammps_structure(atoms, ["O", "H"]).held
    np.testing.assert_array_equal(held, lammps_structure(water, ["O", "H"]).held)
    assert held[:2].any()
    assert not held[2:].any()
    assert md(atoms).elements == ("O", "H", "H")
    assert not md.starting("velocity")
    moving = ~held
    np.testing.assert_allclose(
        md.data().get_momenta()[moving], water.get_momenta()[moving], atol=1e-6
    )
