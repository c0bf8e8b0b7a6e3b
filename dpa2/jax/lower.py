"""The function that both export formats contain, with the weights inside it."""

from collections.abc import Callable
from typing import Any

import jax

from dpa2.jax.energy import System, evaluate
from dpa2.jax.weights import Array, Weights
from schemas.model import Model

# So that one file runs on both; compiled for the machine where it is called.
PLATFORMS = ("cpu", "cuda")
# Atoms and their ghosts: never fewer than atoms.
CONSTRAINT = "nall >= nloc"


def lower(
    config: Model, weights: Weights, *, atomic_virial: bool, sort: bool
) -> Callable[..., dict[str, Array]]:
    """Return deepmd-kit's lower interface of a model.

    Args:
        config: The model section.
        weights: Its numbers, as numpy arrays.
        atomic_virial: See `energy.evaluate`.
        sort: Idem.
    """
    constants = jax.tree.map(jax.numpy.asarray, weights)

    def call_lower(
        coord: Array, atype: Array, nlist: Array, mapping: Array, fparam: Any, aparam: Any
    ) -> dict[str, Array]:
        system = System(coord, atype, nlist, mapping, fparam, aparam)
        return evaluate(config, constants, system, atomic_virial=atomic_virial, sort=sort)

    return call_lower
