"""Energies and forces of smooth models are continuous when a neighbour comes or goes."""

import numpy as np
import pytest


def jumps(drawn, cutoff, steps):
    """Return changes of (energy, largest force) when a probe crosses `cutoff` by +-step."""
    system = drawn.system(periodic=False, num_atoms=6)
    rng = np.random.default_rng(drawn.seed)
    # A compact molecule, and the last atom as a probe leaving atom 0, first in, last out of reach.
    inner = rng.uniform(-0.2, 0.2, size=(5, 3))
    inner += [[0, 0, 0], [-1.2, 0, 0], [-0.3, 1.3, 0], [-0.3, -1.0, 1.0], [-0.3, -0.6, -1.3]]
    direction = np.array([0.96, 0.2, 0.1]) / np.linalg.norm([0.96, 0.2, 0.1])
    crossed = 1 if drawn.model.config.pair_exclude_types else 0
    probe = [inner[crossed] + (cutoff + sign * s) * direction for s in steps for sign in (-1, 1)]
    coord = np.stack([np.concatenate([inner, p[None]]) for p in probe])
    found = drawn.predict(system.copies(coord))
    energy, force = found["energy"].reshape(-1, 2), found["force"].reshape(-1, 2, 18)
    return np.abs(energy[:, 1] - energy[:, 0]), np.abs(force[:, 1] - force[:, 0]).max(axis=1)


@pytest.mark.parametrize("block", ["repinit", "repinit_three_body", "repformers"])
def test_nothing_jumps_where_an_atom_crosses_a_cutoff(smooth, block):
    blocks = smooth.model.descriptor.blocks()
    if block not in blocks:
        assert not smooth.model.config.descriptor.repinit.use_three_body
        return
    # What is continuous changes ever less as the step shrinks; a jump stays.
    for change in jumps(smooth, blocks[block].rcut, steps=(1e-3, 1e-5, 1e-7)):
        assert change[1] <= 0.02 * change[0] + 1e-10
        assert change[2] <= 0.02 * change[1] + 1e-10
