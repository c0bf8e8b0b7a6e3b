"""Golden cases as the arguments of the lower interface, and what JAX makes of them."""

import functools

import jax
import numpy as np
import torch

from dpa2.jax.energy import System, evaluate
from dpa2.jax.weights import weights_of
from dpa2.lower.periodic_images import all_pairs, extend
from dpa2.model.energy import Prediction

SKIN = 1.0
# Compiled code of a test runs once: compiling it well would take longer than running it.
QUICK_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def golden_system(case) -> System:
    """Return the frames of a golden case with ghosts; neighbours in random order, too many."""
    model, arrays = case.model, case.arrays
    types = torch.from_numpy(case.atom_types.copy())
    box = torch.from_numpy(arrays["box"]).reshape(-1, 3, 3) if "box" in arrays else None
    radius = model.rcut + SKIN
    extended = extend(torch.from_numpy(arrays["coord"]), types, box, radius)
    nlist = all_pairs(extended, types.shape[1], radius, extended.types.shape[1])
    shuffled = nlist[..., torch.randperm(nlist.shape[2], generator=torch.manual_seed(1))]
    found = (extended.coord, extended.types, shuffled, extended.mapping)
    return System(*(x.numpy() for x in found), *_parameters(case, *types.shape))


def _parameters(case, num_frames: int, num_atoms: int) -> tuple[np.ndarray | None, ...]:
    fitting = case.model.config.fitting_net
    fparam, aparam = (case.arrays.get(name) for name in ("fparam", "aparam"))
    if fparam is None and fitting.default_fparam is not None:
        fparam = np.tile(fitting.default_fparam, num_frames)
    return (
        None if fparam is None else np.reshape(fparam, (num_frames, -1)),
        None if aparam is None else np.reshape(aparam, (num_frames, num_atoms, -1)),
    )


def evaluated(case, *, atomic_virial: bool) -> dict[str, np.ndarray]:
    """Return JAX's outputs for a golden case, derivatives of images added to their atoms.

    Args:
        case: From `load_case`.
        atomic_virial: Split the virial among atoms.
    """
    with jax.enable_x64(True):
        system = jax.tree.map(jax.numpy.asarray, golden_system(case))
        weights = jax.tree.map(jax.numpy.asarray, weights_of(case.model))
        function = functools.partial(evaluate, case.model.config, atomic_virial=atomic_virial)
        program = jax.jit(function).lower(weights, system).compile(QUICK_COMPILATION)
        found = {name: np.asarray(x) for name, x in program(weights, system).items()}
        mapping = np.asarray(system.mapping)
    for name in ("energy_derv_r", "energy_derv_c"):
        total = np.zeros((*case.atom_types.shape, *found[name].shape[2:]))
        for frame, parents in enumerate(mapping):
            np.add.at(total[frame], parents, found[name][frame])
        found[name] = total
    if not atomic_virial:
        del found["energy_derv_c"]
    return found


def assert_agree(found: dict[str, np.ndarray], expected: Prediction, tolerance: float) -> None:
    """Compare JAX's outputs with the torch engine's."""
    names = {
        "energy": "atom_energy",
        "energy_redu": "energy",
        "energy_derv_r": "force",
        "energy_derv_c": "atom_virial",
        "energy_derv_c_redu": "virial",
    }
    for theirs in names.keys() & found.keys():
        ours = names[theirs]
        value = getattr(expected, ours).detach().numpy()
        np.testing.assert_allclose(
            found[theirs].ravel(), value.ravel(), rtol=0, atol=tolerance, err_msg=ours
        )
