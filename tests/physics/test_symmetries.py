"""What the laws of physics do not distinguish, the model does not distinguish."""

from dataclasses import replace

import numpy as np
import pytest


def close(found, expected, scale=1.0):
    """Equal to ten digits of the largest value (of at least `scale`)."""
    size = max(scale, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * size)


def random_rotation(rng, *, proper):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q if (np.linalg.det(q) > 0) == proper else -q


@pytest.mark.parametrize("proper", [True, False], ids=["rotation", "reflection"])
def test_turning_everything_turns_forces_and_virials(drawn, proper):
    system = drawn.system()
    turn = random_rotation(drawn.rng(), proper=proper)
    options = {"with_descriptor": True, "atomic_virial": True}
    before = drawn.predict(system, **options)
    after = drawn.predict(
        replace(system, coord=system.coord @ turn, box=system.box @ turn), **options
    )
    for name in ("energy", "atom_energy", "descriptor"):
        close(after[name], before[name])
    close(after["force"], before["force"] @ turn)
    close(after["virial"], turn.T @ before["virial"] @ turn)
    close(after["atom_virial"], turn.T @ before["atom_virial"] @ turn)


def test_moving_everything_changes_nothing(drawn):
    system = drawn.system()
    before = drawn.predict(system, atomic_virial=True)
    moved = replace(system, coord=system.coord + np.array([11.3, -7.1, 3.9]))
    after = drawn.predict(moved, atomic_virial=True)
    for name, values in before.items():
        close(after[name], values)


def test_moving_one_atom_by_a_lattice_vector_changes_nothing(drawn):
    system = drawn.system()
    coord = system.coord.copy()
    coord[:, 2] += np.array([1, -2, 1]) @ system.box[0]
    before, after = drawn.predict(system), drawn.predict(replace(system, coord=coord))
    for name, values in before.items():
        close(after[name], values)


def test_another_choice_of_cell_vectors_changes_nothing(drawn):
    system = drawn.system()
    sheared = np.array([[1, 0, 0], [-1, 1, 0], [2, 1, 1]]) @ system.box
    before, after = drawn.predict(system), drawn.predict(replace(system, box=sheared))
    for name, values in before.items():
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
    box = system.box.copy()
    box[:, axis] *= 2
    doubled = replace(
        system.atoms([0, 1, 2, 3] * 2),
        coord=np.concatenate([system.coord, system.coord + shift], axis=1),
        box=box,
    )
    before, after = drawn.predict(system), drawn.predict(doubled)
    close(after["energy"], 2 * before["energy"])
    close(after["virial"], 2 * before["virial"])
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
