"""Forces, virials and gradients of a loss are the derivatives they claim to be."""

import numpy as np
import pytest
import torch

# Five-point central differences: error O(h^4), so that h may be large enough against rounding.
STEP = 4e-4
OFFSETS = STEP * np.array([-2, -1, 1, 2])
WEIGHTS = np.array([1, -8, 8, -1]) / (12 * STEP)


def close(found, expected):
    size = max(1e-2, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * size)


def energies(drawn, system, coord, box=None):
    """Return (M,) energies of one frame with other coordinates (M, N, 3) and boxes (M, 3, 3)."""
    return drawn.predict(system.copies(coord, box))["energy"]


@pytest.mark.parametrize("periodic", [True, False], ids=["periodic", "no cell"])
def test_forces_are_minus_the_gradient_of_the_energy(drawn, periodic):
    system = drawn.system(periodic=periodic, num_atoms=5)
    unit = np.eye(15).reshape(15, 1, 5, 3)
    coord = system.coord + unit * OFFSETS[:, None, None]
    values = energies(drawn, system, coord.reshape(-1, 5, 3)).reshape(15, 4)
    force = drawn.predict(system)["force"]
    assert np.abs(force).max() > 1e-6
    close(force.ravel(), -values @ WEIGHTS)


def test_virials_are_minus_the_gradient_with_respect_to_strain(drawn):
    system = drawn.system(num_atoms=5)
    unit = np.eye(9).reshape(9, 1, 3, 3)
    strain = (np.eye(3) + unit * OFFSETS[:, None, None]).reshape(-1, 3, 3)
    values = energies(drawn, system, system.coord @ strain, system.box @ strain).reshape(9, 4)
    virial = drawn.predict(system)["virial"]
    assert np.abs(virial).max() > 1e-6
    close(virial.ravel(), -values @ WEIGHTS)


def test_gradients_of_a_loss_are_those_of_finite_differences(drawn):
    system = drawn.system(num_atoms=4, num_frames=2)
    rng = np.random.default_rng(drawn.seed)
    shapes = {"energy": (2,), "force": (2, 4, 3), "virial": (2, 3, 3), "atom_energy": (2, 4)}
    factors = {name: torch.from_numpy(rng.normal(size=shape)) for name, shape in shapes.items()}
    parameters = [p for p in drawn.model.parameters() if p.requires_grad]
    start = [parameter.detach().clone() for parameter in parameters]

    def loss(*, create_graph=False):
        found = drawn.run(system, create_graph=create_graph)
        return sum((getattr(found, name) * factor).sum() for name, factor in factors.items())

    def at(offset, directions):
        with torch.no_grad():
            for parameter, value, direction in zip(parameters, start, directions, strict=True):
                parameter.copy_(value + offset * direction)
        return loss().item()

    found = torch.autograd.grad(
        loss(create_graph=True), parameters, allow_unused=True, materialize_grads=True
    )
    scale = max(float(gradient.abs().max()) for gradient in found)
    assert scale > 1e-3
    everywhere = [torch.from_numpy(rng.normal(size=tuple(p.shape))) for p in parameters]
    singles = []
    for index in rng.choice(len(parameters), size=3, replace=False):
        single = [torch.zeros_like(parameter) for parameter in parameters]
        single[index].view(-1)[int(rng.integers(single[index].numel()))] = 1.0
        singles.append(single)
    try:
        for directions in (everywhere, *singles):
            slope = np.dot([at(offset, directions) for offset in OFFSETS], WEIGHTS)
            along = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
            assert slope == pytest.approx(along, rel=1e-6, abs=1e-6 * scale)
    finally:
        at(0.0, everywhere)


def test_without_create_graph_nothing_is_kept_for_a_backward_pass(drawn):
    found = drawn.run(drawn.system())
    for name in ("energy", "force", "virial", "atom_energy"):
        assert not getattr(found, name).requires_grad
