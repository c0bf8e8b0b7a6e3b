"""What the laws of physics do not distinguish, the model does not distinguish."""

from dataclasses import replace

import numpy as np
import pytest

from tests.physics.conftest import close

EVERYTHING = {"with_descriptor": True, "atomic_virial": True}


@pytest.mark.parametrize("proper", [True, False], ids=["rotation", "reflection"])
def test_turning_everything_turns_forces_and_virials(drawn, proper):
    system = drawn.system()
    turn, _ = np.linalg.qr(drawn.rng().normal(size=(3, 3)))
    turn = turn if (np.linalg.det(turn) > 0) == proper else -turn
    turned = replace(system, coord=system.coord @ turn, box=system.box @ turn)
    before, after = (drawn.predict(which, **EVERYTHING) for which in (system, turned))
    for name in ("energy", "atom_energy", "descriptor"):
        close(after[name], before[name])
    close(after["force"], before["force"] @ turn)
    for name in ("virial", "atom_virial"):
        close(after[name], turn.T @ before[name] @ turn)


def moved(system):
    return {"coord": system.coord + np.array([11.3, -7.1, 3.9])}


def one_atom_moved_by_a_lattice_vector(system):
    step = np.array([1, -2, 1]) @ system.box[0]
    return {"coord": system.coord + step * (np.arange(6) == 2)[:, None]}


def other_cell_vectors(system):
    return {"box": np.array([[1, 0, 0], [-1, 1, 0], [2, 1, 1]]) @ system.box}


@pytest.mark.parametrize("change", [moved, one_atom_moved_by_a_lattice_vector, other_cell_vectors])
def test_what_is_the_same_crystal_has_the_same_numbers(drawn, change):
    system = drawn.system()
    # The split of the virial depends on which image of an atom is given; the total does not.
    options = {"atomic_virial": change is moved}
    after = drawn.predict(replace(system, **change(system)), **options)
    for name, values in drawn.predict(system, **options).items():
        close(after[name], values)


def test_the_order_of_atoms_does_not_matter(drawn):
    system = drawn.system()
    # Atom 4 is of the type of the first atom, which deepmd-kit's empty slots look up.
    order = np.array([4, 3, 5, 1, 0, 2])
    assert system.types[0, order[0]] == system.types[0, 0]
    before = drawn.predict(system, with_descriptor=True)
    after = drawn.predict(system.atoms(order), with_descriptor=True)
    for name in ("energy", "virial"):
        close(after[name], before[name])
    for name in ("force", "atom_energy", "descriptor"):
        close(after[name], before[name][:, order])


def test_exchanging_two_unlike_atoms_does_matter(drawn):
    system = drawn.system()
    swapped = replace(system, types=system.types[:, [0, 2, 1, 3, 4, 5]])
    before, after = drawn.predict(system), drawn.predict(swapped)
    assert abs(after["energy"] - before["energy"]) > 1e-6


@pytest.mark.parametrize("axis", range(3))
def test_a_supercell_is_a_multiple_of_its_cell(drawn, axis):
    system = drawn.system(num_atoms=4)
    shift = system.box[:, None, axis]
    doubled = replace(
        system.atoms([0, 1, 2, 3] * 2),
        coord=np.concatenate([system.coord, system.coord + shift], axis=1),
        box=system.box * (1 + (np.arange(3) == axis))[:, None],
    )
    before, after = drawn.predict(system), drawn.predict(doubled)
    for name in ("energy", "virial"):
        close(after[name], 2 * before[name])
    close(after["force"], np.tile(before["force"], (1, 2, 1)))


def test_parts_sum_to_the_whole(drawn):
    found = drawn.predict(drawn.system(), atomic_virial=True)
    close(found["atom_energy"].sum(axis=1), found["energy"])
    close(found["atom_virial"].sum(axis=1), found["virial"])
    close(found["force"].sum(axis=1), np.zeros((1, 3)), scale=np.abs(found["force"]).max())


def test_there_is_no_torque(drawn):
    system = drawn.system(periodic=False)
    found = drawn.predict(system)
    assert np.abs(found["force"]).max() > 1e-6
    close(np.cross(system.coord, found["force"]).sum(axis=1), np.zeros((1, 3)), scale=10.0)
    close(found["virial"], found["virial"].transpose(0, 2, 1))
