"""Energies and derivatives of atoms with ghosts: deepmd-kit's lower interface.

docs/deepmd-format.md, 10.4.

Gradients are with respect to positions, not displacements as in `dpa2.model.derivatives`: JAX
differentiates the whole function of a frame, and its arrays do not pass through torch.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dpa2.jax import repinit
from dpa2.jax.layers import activation, close_hidden, hidden_layers, linear
from dpa2.jax.neighbors import Neighbors, cut, nearest, without_pairs
from dpa2.jax.repformer import repformer
from dpa2.jax.weights import Array, Part
from dpa2.model.cutoffs import Cutoffs, kept_pairs
from schemas.input.model import Model

# Axes:  F frames   N atoms per frame   M atoms and ghosts   K neighbour slots   T types
#        D descriptor width   X, Y = x, y, z


class System(NamedTuple):
    """Frames of atoms with ghosts.

    Attributes:
        coord: (F, M, 3) Å; the first N are the atoms.
        types: (F, M); -1 where there is no atom.
        nlist: (F, N, W) row of each neighbour; -1 in empty slots.
        mapping: (F, M) the atom of which each is an image.
        fparam: (F, P) or None.
        aparam: (F, N, Q) or None.
    """

    coord: Array
    types: Array
    nlist: Array
    mapping: Array
    fparam: Array | None = None
    aparam: Array | None = None


def evaluate(
    config: Model,
    weights: Mapping[str, Array],
    system: System,
    *,
    atomic_virial: bool,
    sort: bool = True,
) -> dict[str, Array]:
    """Return deepmd-kit's outputs of the lower interface, float64.

    Args:
        config: The model section.
        weights: Its numbers by place (`weights.weights_of`).
        system: Frames.
        atomic_virial: Split the virial among atoms exactly, which takes three more passes. Without,
            only the sum `energy_derv_c_redu` has a meaning.
        sort: Whether neighbour lists may be in any order (see `neighbors.nearest`).

    Returns:
        `energy` (F, N, 1) eV, `energy_redu` (F, 1), `energy_derv_r` (F, M, 1, 3) eV/Å the forces,
        `energy_derv_c` (F, M, 1, 9) eV, `energy_derv_c_redu` (F, 1, 9), `mask` (F, N) int32.
    """
    num_atoms = system.nlist.shape[1]

    def energies(coord_FMX: Array) -> Array:
        one_frame = lambda frame: atom_energies(config, Part(weights), frame, sort=sort)  # noqa: E731
        return jax.vmap(one_frame)(system._replace(coord=coord_FMX))

    energy_FN, pull_back = jax.vjp(energies, system.coord)
    (gradient_FMX,) = pull_back(jnp.ones_like(energy_FN))
    force_FMX = -gradient_FMX
    virial_FMXY = force_FMX[..., :, None] * system.coord[..., None, :]
    total_FXY = virial_FMXY.sum(axis=1)
    if atomic_virial:
        # d(sum_i x_i,b e_i) / dx_k,a adds nothing to the total (docs/deepmd-format.md, 3.10)
        (moments_YFMX,) = jax.vmap(pull_back)(
            jnp.moveaxis(jax.lax.stop_gradient(system.coord[:, :num_atoms]), -1, 0)
        )
        virial_FMXY = virial_FMXY + jnp.moveaxis(moments_YFMX, 0, -1)
    F, M = system.types.shape
    return {
        "energy": energy_FN[..., None],
        "energy_derv_c": virial_FMXY.reshape(F, M, 1, 9),
        "energy_derv_c_redu": total_FXY.reshape(F, 1, 9),
        "energy_derv_r": force_FMX[:, :, None],
        "energy_redu": energy_FN.sum(axis=1, keepdims=True),
        "mask": contributes(config, system.types[:, :num_atoms]).astype(jnp.int32),
    }


def atom_energies(config: Model, weights: Part, frame: System, *, sort: bool = True) -> Array:
    """Return the atomic energies (N,) eV of one frame (axes as in `System`, without F)."""
    cutoffs = Cutoffs.of(config)
    nlist_NK = nearest(frame.coord, frame.types, frame.nlist, cutoffs.rcut, cutoffs.nsel, sort=sort)
    if cutoffs.keep is not None:
        nlist_NK = without_pairs(nlist_NK, frame.types, cutoffs.keep)
    num_atoms = nlist_NK.shape[0]
    types_M = jnp.maximum(frame.types, 0)
    types_N = types_M[:num_atoms]
    descriptor_ND = describe(
        config, cutoffs, weights.descriptor, frame.coord, types_M, nlist_NK, frame.mapping
    )
    energy_N = fitting(
        config, weights.fitting, descriptor_ND.astype(jnp.float64), frame.fparam, frame.aparam
    )
    energy_N = (
        energy_N + (weights.fitting.bias_atom_e[:, 0] + weights.out_bias.reshape(-1))[types_N]
    )
    return jnp.where(contributes(config, frame.types[:num_atoms]), energy_N, 0.0)


def describe(
    config: Model,
    cutoffs: Cutoffs,
    weights: Part,
    coord_MX: Array,
    types_M: Array,
    nlist_NK: Array,
    mapping_M: Array,
) -> Array:
    """Return the descriptor (N, D) of one frame, in the descriptor's precision.

    docs/deepmd-format.md, 3.5.
    """
    d, w = config.descriptor, weights
    keep_TT = kept_pairs(len(config.type_map), d.exclude_types)
    types_N = types_M[: nlist_NK.shape[0]]

    def block(rcut: float, nsel: int) -> Neighbors:
        found = cut(coord_MX, types_M, nlist_NK, rcut, nsel, cutoffs.capacity(rcut, nsel))
        return found._replace(disp=found.disp.astype(w.repinit.statistics.mean.dtype))

    rows = w.type_embedding.rows_TC
    tebd_TC = close_hidden(rows, linear(w.type_embedding.linear, rows), None)
    wide = block(cutoffs.rcut, cutoffs.nsel)
    g1_NA = repinit.repinit(d, w.repinit, tebd_TC, types_N, wide, keep_TT)
    if cutoffs.three_body is not None:
        near = block(*cutoffs.three_body)
        three_NC = repinit.three_body(d, w.three_body, tebd_TC, types_N, near, keep_TT)
        g1_NA = jnp.concatenate([g1_NA, three_NC], axis=-1)
    if w.get("shape_map") is not None:
        g1_NA = linear(w.shape_map, g1_NA)
    if w.get("type_map") is not None:
        g1_NA = g1_NA + linear(w.type_map, tebd_TC)[types_N]
    own = block(*cutoffs.repformer)
    g1_NA = repformer(d, w.repformer, g1_NA, types_N, own, mapping_M[own.rows], keep_TT)
    if d.concat_output_tebd:
        g1_NA = jnp.concatenate([g1_NA, tebd_TC[types_N]], axis=-1)
    return g1_NA


def fitting(
    config: Model,
    weights: Part,
    descriptor_ND: Array,
    fparam: Array | None,
    aparam: Array | None,
) -> Array:
    """Return the network's atomic energies (N,) eV, without any bias.

    docs/deepmd-format.md, 3.9.
    """
    options = config.fitting_net
    act = activation(options.activation_function)
    hidden, output = weights.get("hidden_layers"), weights.output
    hidden = [] if hidden is None else hidden.numbered()
    dtype = output.weight.dtype
    rows = (descriptor_ND.shape[0],)
    others = []
    if options.numb_fparam:
        assert fparam is not None
        scaled = (fparam.astype(dtype) - weights.fparam_avg) * weights.fparam_inv_std
        others.append(jnp.broadcast_to(scaled, (*rows, *scaled.shape)))
    if options.numb_aparam and not options.use_aparam_as_mask:
        assert aparam is not None
        others.append((aparam.astype(dtype) - weights.aparam_avg) * weights.aparam_inv_std)
    if weights.get("case_embd") is not None:
        others.append(jnp.broadcast_to(weights.case_embd, (*rows, *weights.case_embd.shape)))

    def network(x_ND: Array) -> Array:
        inputs = jnp.concatenate([x_ND.astype(dtype), *others], axis=-1)
        return linear(output, hidden_layers(hidden, act, inputs))[:, 0].astype(jnp.float64)

    energy_N = network(descriptor_ND)
    if any(energy is not None for energy in options.atom_ener):
        energy_N = energy_N - network(jnp.zeros_like(descriptor_ND))
    return energy_N


def contributes(config: Model, types: Array) -> Array:
    """Tell which atoms have an energy: real ones of types that are not excluded."""
    counted = np.array([k not in config.atom_exclude_types for k in range(len(config.type_map))])
    return (types >= 0) & jnp.asarray(counted)[jnp.maximum(types, 0)]


# So that one file runs on both; compiled for the machine where it is called.
PLATFORMS = ("cpu", "cuda")
# Atoms and their ghosts: never fewer than atoms.
CONSTRAINT = "nall >= nloc"


def lower(
    config: Model, weights: Mapping[str, Any], *, atomic_virial: bool, sort: bool
) -> Callable[..., dict[str, Array]]:
    """Return deepmd-kit's lower interface of a model.

    Args:
        config: The model section.
        weights: Its numbers by place, as numpy arrays.
        atomic_virial: See `energy.evaluate`.
        sort: See `energy.evaluate`.
    """
    constants = {place: jnp.asarray(array) for place, array in weights.items()}

    def call_lower(
        coord: Array, atype: Array, nlist: Array, mapping: Array, fparam: Any, aparam: Any
    ) -> dict[str, Array]:
        system = System(coord, atype, nlist, mapping, fparam, aparam)
        return evaluate(config, constants, system, atomic_virial=atomic_virial, sort=sort)

    return call_lower
