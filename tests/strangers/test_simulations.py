"""Simulations of what other people bring: slabs, wires, molecules, fixed atoms, isotopes."""

import runpy

import numpy as np
import pytest
from ase import Atoms
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
from ase.io import read

from dpa2.ase import Parameters
from dpa2.evaluate.potential import load
from schemas.base.errors import DataError
from tests.strangers.simulations import energy, rotated, with_cell, with_masses, with_pbc
from tests.strangers.situations import case, situation


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
    case("LAMMPS | a single atom, far from the origin | a box around it",
         lambda _: Atoms("O", [[1e3, 2.0, -5.0]])),
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
def test_lammps_gets_the_same_structure(made, md, water, potential):
    atoms = made(water)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    md(atoms)
    placed = md.data()
    boundary = ["p" if periodic else "m" for periodic in atoms.pbc]
    assert md.starting("boundary") == [["boundary", *boundary]]
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


@situation("""LAMMPS: triclinic box skew is large | a tilt of more than half of a length | box tilt
    large before read_data""")
def test_a_large_tilt_is_told_to_lammps(md, water):
    md(with_cell(water, [[1, 0, 0], [0.8, 1, 0], [0, 0, 1]]))
    commands = [line[0] for line in md.script()]
    assert commands.index("box") < commands.index("read_data")


@situation("""surfaces with a frozen bottom (ASE, POSCAR with selective dynamics) | FixAtoms and
    --engine lammps | not integrated, no velocities, counted out of the temperature, raw forces""")
def test_fixed_atoms_stay_in_lammps(md, water):
    water.set_constraint(FixAtoms([0, 1, 2, 7]))
    md(water, ensemble="nvt")
    assert md.starting("group", "fixed") == [["group", "fixed", "id", "1:3", "8"]]
    assert md.starting("fix", "move")[0][2:4] == ["mobile", "nvt"]
    assert md.starting("velocity")[0][1] == "mobile"
    assert md.starting("compute_modify") == [["compute_modify", "heat", "extra/dof", "0"]]
    assert md.starting("fix_modify") == [["fix_modify", "move", "temp", "heat"]]
    assert md.starting("thermo_modify", "temp") == [["thermo_modify", "temp", "heat"]]
    assert not [line for line in md.script() if "setforce" in line]
    assert md.starting("dump", "frames")[0][12:15] == ["fx", "fy", "fz"]


@pytest.mark.parametrize(("constraint", "zeros"), [
    case("ASE | FixCartesian | the force in that direction is set to zero",
         FixCartesian([1, 2], (True, False, False)), ["0.0", "NULL", "NULL"]),
    case("POSCAR with selective dynamics | F T T: FixScaled, right-angled cell | held",
         FixScaled([1, 2], (False, True, True)), ["NULL", "0.0", "0.0"]),
    case("ASE | FixedPlane across an axis | held", FixedPlane([1, 2], (0, 0, 1)),
         ["NULL", "NULL", "0.0"]),
    case("ASE | FixedLine along an axis | held", FixedLine([1, 2], (0, 1, 0)),
         ["0.0", "NULL", "0.0"]),
])  # fmt: skip
def test_directions_that_are_held_stay_in_lammps(constraint, zeros, md, water):
    water.set_cell(np.diag(np.diag(water.cell.array)))
    water.set_constraint(constraint)
    md(water, ensemble="nvt")
    (hold,) = [line for line in md.script() if "setforce" in line]
    assert hold[4:] == zeros
    assert md.starting("group", hold[1]) == [["group", hold[1], "id", "2:3"]]
    assert [line[3:] for line in md.starting("velocity", hold[1])] == [zeros]
    lost = 2 * zeros.count("0.0")
    assert md.starting("compute_modify")[0][3] == str(lost)
    # The forces of the trajectory are the model's, before some are set to zero.
    assert md.starting("fix", "model") == [["fix", "model", "all", "store/force"]]
    assert "f_model[1]" in md.starting("dump", "frames")[0]


def constrained(*constraints):
    return lambda atoms: atoms.set_constraint(constraints)


def massless(atoms):
    with_masses(atoms, {4: 0.0})


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
def test_what_cannot_be_simulated_is_refused(change, options, reason, md, water):
    change(water)
    with pytest.raises(DataError, match=reason) as refusal:
        md(water, **options)
    assert ("--aparam" in (refusal.value.hint or "")) == ("needs aparam" in reason)
    assert not md.folder.exists()


@situation("""ASE | FixAtoms and rigid bonds with --engine ase | kept, and counted out of the
    temperature""")
def test_ase_keeps_constraints(md, water, monkeypatch):
    water.set_constraint([FixAtoms([0, 1, 2]), FixBondLength(3, 4)])
    files = md(water, "ase", ensemble="nvt", steps=6).files
    assert "constraints.json" in files
    monkeypatch.chdir(md.folder)
    runpy.run_path("run.py")
    first, *_, last = read("trajectory.traj", index=":")
    assert [type(kept).__name__ for kept in last.constraints] == ["FixAtoms", "FixBondLengths"]
    moved = np.linalg.norm(last.positions - first.positions, axis=1)
    assert not moved[:3].any()
    assert (moved[3:] > 0).all()
    assert last.get_distance(3, 4) == pytest.approx(first.get_distance(3, 4), abs=1e-6)
    assert abs(last.get_distance(3, 5) - first.get_distance(3, 5)) > 1e-5


@situation("""models with electronic temperature or field as fparam | fparam in the structure,
    aparam on the command line | in pair_style""")
def test_parameters_reach_lammps(md, water):
    water.info["fparam"] = np.array([0.25, -0.5])
    md(water, model="fparam_aparam", parameters=Parameters(None, [0.5]))
    (style,) = md.starting("pair_style")
    assert style[3:] == ["fparam", "0.25", "-0.5", "aparam", "0.5"]


@situation("""models with parameters | aparam that differs from atom to atom, and LAMMPS, which has
    one for all | refused for LAMMPS, kept for ASE""")
def test_parameters_of_single_atoms_are_for_ase(md, water, frozen, monkeypatch):
    aparam = np.linspace(-0.5, 0.5, len(water))
    water.set_array("aparam", aparam)
    parameters = Parameters([0.25, -0.5])
    with pytest.raises(DataError, match="different aparam"):
        md(water, model="fparam_aparam", parameters=parameters)
    md(water, "ase", "fparam_aparam", parameters, steps=1)
    monkeypatch.chdir(md.folder)
    runpy.run_path("run.py")
    expected = load(frozen["fparam_aparam"]).predict(
        water.positions, water.cell.array, list(water.symbols), [0.25, -0.5], aparam, atomic=False
    )
    found = read("trajectory.traj", index=0).get_potential_energy()
    assert found == pytest.approx(expected.energy[0], abs=1e-6)


@pytest.mark.parametrize("couple", [
    case("crystals under pressure | each length | written", "aniso"),
    case("crystals under pressure | angles, too | written", "tri"),
])  # fmt: skip
def test_a_cell_may_follow_in_each_direction(couple, md, water, monkeypatch):
    md(water, ensemble="npt", couple=couple)
    assert md.starting("fix", "move")[0][8] == couple
    has_tilt = " xy xz yz" in (md.folder / "structure.data").read_text()
    assert has_tilt == (couple == "tri")
    md(water, "ase", ensemble="npt", couple=couple)
    monkeypatch.chdir(md.folder)
    runpy.run_path("run.py")
    first, *_, last = read("trajectory.traj", index=":")
    ratio = last.cell.array @ np.linalg.inv(first.cell.array)
    assert np.ptp(np.diag(ratio)) > 1e-9
    angles = np.abs(last.cell.angles() - first.cell.angles())
    assert (angles > 1e-9).any() == (couple == "tri")
