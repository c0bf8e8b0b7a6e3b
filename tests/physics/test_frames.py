"""Frames of a batch, padding atoms and far molecules know nothing of each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.physics.conftest import close

OPTIONS = {"atomic_virial": True, "with_descriptor": True}


@pytest.mark.parametrize("periodic", [True, False], ids=["periodic", "no cell"])
def test_a_batch_is_its_frames_one_by_one(drawn, periodic):
    system = drawn.system(num_frames=3, periodic=periodic)
    batch = drawn.predict(system, **OPTIONS)
    for k in range(3):
        single = drawn.predict(system.frames(slice(k, k + 1)), **OPTIONS)
        for name, values in single.items():
            close(batch[name][k : k + 1], values)


def test_the_gradient_of_a_batch_is_the_sum_over_its_frames(drawn):
    system = drawn.system(num_frames=2, num_atoms=4)
    parameters = [p for p in drawn.model.parameters() if p.requires_grad]
    weights = torch.from_numpy(drawn.rng().normal(size=(2, 4, 3)))

    def gradient(frames):
        force = drawn.run(system.frames(frames), create_graph=True).force
        return torch.autograd.grad(
            (force * weights[frames]).sum(), parameters, allow_unused=True, materialize_grads=True
        )

    both = gradient(slice(0, 2))
    parts = zip(gradient(slice(0, 1)), gradient(slice(1, 2)), strict=True)
    for total, (first, second) in zip(both, parts, strict=True):
        close(total.numpy(), (first + second).numpy())


def test_padding_atoms_change_nothing(drawn):
    system = drawn.system(num_frames=2)
    # Not in front: deepmd-kit's empty slots look up the type of the frame's first atom.
    places = [0, 1, 3, 4, 6, 7]
    rng = drawn.rng()
    coord = rng.normal(size=(2, 9, 3))  # padding atoms lie anywhere, on top of others too
    types = np.full((2, 9), -1)
    aparam = rng.normal(size=(2, 9, system.aparam.shape[2]))
    coord[:, places], types[:, places] = system.coord, system.types
    aparam[:, places] = system.aparam
    padded = drawn.predict(replace(system, coord=coord, types=types, aparam=aparam), **OPTIONS)
    plain = drawn.predict(system, **OPTIONS)
    for name in ("energy", "virial"):
        close(padded[name], plain[name])
    for name in ("force", "atom_energy", "atom_virial", "descriptor"):
        close(padded[name][:, places], plain[name])
        assert not padded[name][:, [2, 5, 8]].any()


def test_frames_of_unequal_size_fit_in_one_batch(drawn):
    system = drawn.system(num_frames=2)
    shorter = replace(system, types=system.types.copy())
    shorter.types[1, 4:] = -1
    batch = drawn.predict(shorter)
    close(batch["energy"][:1], drawn.predict(system.frames(slice(0, 1)))["energy"])
    cut = system.frames(slice(1, 2)).atoms([0, 1, 2, 3])
    close(batch["force"][1:, :4], drawn.predict(cut)["force"])
    close(batch["energy"][1:], drawn.predict(cut)["energy"])


def test_far_apart_molecules_do_not_interact_and_near_ones_do(drawn):
    system = drawn.system(periodic=False)
    alone = drawn.predict(system)

    def pair(distance):
        other = system.coord + np.array([distance, 0.0, 0.0])
        return drawn.predict(
            replace(
                system.atoms([*range(6), *range(6)]),
                coord=np.concatenate([system.coord, other], axis=1),
            )
        )

    far = pair(60.0)
    for name in ("energy", "virial"):
        close(far[name], 2 * alone[name])
    close(far["force"], np.tile(alone["force"], (1, 2, 1)))
    assert abs(pair(4.1)["energy"] - 2 * alone["energy"]) > 1e-8


@pytest.mark.parametrize("kind", [0, 1])
def test_a_lone_atom_has_an_energy_and_feels_nothing(drawn, kind):
    system = drawn.system(periodic=False).atoms([kind])
    found = drawn.predict(system, **OPTIONS)
    assert np.isfinite(found["energy"]).all()
    for name in ("force", "virial", "atom_virial"):
        assert not found[name].any()
    boxed = replace(system, box=np.eye(3)[None] * 30.0)
    close(drawn.predict(boxed)["energy"], found["energy"])


def test_an_atom_out_of_reach_adds_the_energy_of_a_lone_atom(drawn):
    system = drawn.system(periodic=False)
    coord = system.coord.copy()
    coord[:, 2] += 100.0
    found = drawn.predict(replace(system, coord=coord))
    lone = drawn.predict(system.atoms([2]))
    rest = drawn.predict(system.atoms([0, 1, 3, 4, 5]))
    close(found["energy"], rest["energy"] + lone["energy"])
    assert not found["force"][:, 2].any()


def test_a_batch_may_hold_no_pair_and_no_atom_at_all(drawn):
    system = drawn.system(periodic=False)
    spread = replace(system, coord=system.coord + np.arange(6)[None, :, None] * 40.0)
    found = drawn.predict(spread, **OPTIONS)
    assert np.isfinite(found["energy"]).all()
    assert not found["force"].any()
    for name, values in drawn.predict(system.atoms([]), **OPTIONS).items():
        assert not values.any(), name
    empty = drawn.predict(replace(system, types=np.full((1, 6), -1)), **OPTIONS)
    assert empty["descriptor"].shape == found["descriptor"].shape
    assert not any(values.any() for values in empty.values())
