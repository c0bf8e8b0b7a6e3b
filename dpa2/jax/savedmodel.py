"""A model as a TensorFlow SavedModel that deepmd-kit's Python, C++ and LAMMPS run.

docs/deepmd-format.md, 3.1, 10.4.

It makes periodic images and compares all pairs for callers without a neighbour search of their own:
correct for every cell, fast enough for a few thousand atoms. TorchScript has the same in its own
operators (`dpa2.lower.periodic_images`): neither kind of program can hold the other's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from jax.experimental import jax2tf

from dpa2.formats.facts import Facts
from dpa2.formats.table import Report
from dpa2.jax.energy import CONSTRAINT, PLATFORMS, lower
from schemas.input.model import Model

# Axes:  F frames   N atoms per frame   M atoms and ghosts   S shifts   K neighbour slots
#        X = x, y, z


# Images a hair outside the cutoff do no harm; a missing one does.
MARGIN = 1e-6


def extend(coord_FNX: Any, types_FN: Any, box_FXX: Any, rcut: float) -> tuple[Any, Any, Any]:
    """Wrap atoms into their cells and add every image within `rcut` of a cell.

    Args:
        coord_FNX: (F, N, 3) Å.
        types_FN: (F, N); -1 where there is no atom.
        box_FXX: (F, 3, 3) Å, rows are vectors, of either handedness; (F, 0, 0): not periodic.
        rcut: Å.

    Returns:
        Positions (F, M, 3), types (F, M) and the atom of which each is an image (F, M).
    """
    F, N = tf.shape(types_FN)[0], tf.shape(types_FN)[1]
    own_FN = tf.tile(tf.range(tf.cast(N, tf.int64))[None], [F, 1])

    def periodic() -> tuple[Any, Any, Any]:
        s_FNX = coord_FNX @ tf.linalg.inv(box_FXX)
        s_FNX = s_FNX - tf.floor(s_FNX)
        sides = [tf.linalg.cross(box_FXX[:, a - 2], box_FXX[:, a - 1]) for a in range(3)]
        areas_FX = tf.stack([tf.norm(side, axis=-1) for side in sides], axis=-1)
        # The cutoff in units of the distances between opposite faces.
        reach_FX = rcut * areas_FX / tf.abs(tf.linalg.det(box_FXX))[:, None] + MARGIN
        shifts_SX = shifts(tf.reduce_max(reach_FX, axis=0))
        t_FSNX = s_FNX[:, None] + shifts_SX[None, :, None]
        reach_F11X = reach_FX[:, None, None]
        near_FSN = tf.reduce_all((t_FSNX >= -reach_F11X) & (t_FSNX <= 1.0 + reach_F11X), axis=-1)
        # All frames take the images that any of them needs, so that they stay of one size.
        near_SN = tf.reduce_any(near_FSN & (types_FN >= 0)[:, None], axis=0)
        chosen = tf.where(near_SN)
        shift_GX, parent_G = tf.gather(shifts_SX, chosen[:, 0]), chosen[:, 1]
        wrapped_FNX = s_FNX @ box_FXX
        images_FGX = tf.gather(wrapped_FNX, parent_G, axis=1) + shift_GX[None] @ box_FXX
        return (
            tf.concat([wrapped_FNX, images_FGX], axis=1),
            tf.concat([types_FN, tf.gather(types_FN, parent_G, axis=1)], axis=1),
            tf.concat([own_FN, tf.tile(parent_G[None], [F, 1])], axis=1),
        )

    def in_vacuum() -> tuple[Any, Any, Any]:
        return coord_FNX, types_FN, own_FN

    return tf.cond(tf.shape(box_FXX)[-1] > 0, periodic, in_vacuum)


def shifts(reach_X: Any) -> Any:
    """Return all shifts by whole cells within `reach_X` (S, 3) but (0, 0, 0)."""
    count_X = tf.math.ceil(reach_X)
    ranges = [tf.range(-count_X[a], count_X[a] + 1.0) for a in range(3)]
    grid_SX = tf.reshape(tf.stack(tf.meshgrid(*ranges, indexing="ij"), axis=-1), [-1, 3])
    return tf.boolean_mask(grid_SX, tf.reduce_any(grid_SX != 0.0, axis=-1))


def all_pairs(coord_FMX: Any, types_FM: Any, num_atoms: Any, rcut: float, nsel: int) -> Any:
    """Return the nearest neighbours within `rcut` (F, N, K), -1 in empty slots, K <= `nsel`."""
    squared_FNM = tf.add_n(
        [
            (coord_FMX[:, :num_atoms, None, axis] - coord_FMX[:, None, :, axis]) ** 2
            for axis in range(3)
        ]
    )
    M = tf.shape(types_FM)[1]
    itself_NM = tf.range(num_atoms)[:, None] == tf.range(M)[None]
    nobody_FNM = (types_FM < 0)[:, None, :] | (types_FM[:, :num_atoms] < 0)[:, :, None]
    far = tf.constant(float("inf"), squared_FNM.dtype)
    squared_FNM = tf.where(itself_NM[None] | nobody_FNM, far, squared_FNM)
    negative, index = tf.math.top_k(-squared_FNM, k=tf.minimum(nsel, M))
    return tf.where(-negative <= rcut * rcut, tf.cast(index, tf.int64), tf.constant(-1, tf.int64))


def fold(values: Any, mapping_FM: Any, num_atoms: Any) -> Any:
    """Add what images received (F, M, ...) to their atoms (F, N, ...)."""
    F = tf.shape(mapping_FM)[0]
    first_F = tf.range(tf.cast(F, tf.int64)) * tf.cast(num_atoms, tf.int64)
    shape = tf.shape(values)
    flat = tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
    row = tf.reshape(mapping_FM + first_F[:, None], [-1])
    total = tf.math.unsorted_segment_sum(flat, row, F * num_atoms)
    return tf.reshape(total, tf.concat([[F, num_atoms], shape[2:]], axis=0))


def save(
    config: Model, weights: Mapping[str, Any], facts: Facts, folder: Path, report: Report
) -> None:
    """Write the SavedModel into `folder`.

    Args:
        config: The model section.
        weights: Its numbers.
        facts: What it says about itself.
        folder: To be created.
        report: Told what is being done, which may take a minute.
    """
    module = tf.Module()
    for atomic_virial, suffix in ((False, ""), (True, "_atomic_virial")):
        what = "forces and atomic virials" if atomic_virial else "forces"
        report(f"tracing energies and {what}")
        one = _lower_function(config, weights, facts, atomic_virial=atomic_virial)
        setattr(module, f"call_lower{suffix}", one)
        setattr(module, f"call{suffix}", _call_function(one, facts, atomic_virial=atomic_virial))
    for name, value in _answers(facts).items():
        if value is not None:
            setattr(module, name, _getter(name, value))
    report("writing the SavedModel")
    tf.saved_model.save(module, str(folder))


def _named(function: Callable[..., Any], name: str, signature: list[Any]) -> Any:
    """Return a traced function of that name: deepmd-kit's C++ looks functions up by it."""
    function.__name__ = name
    traced = tf.function(function, autograph=False, input_signature=signature)
    traced.get_concrete_function()
    return traced


def _lower_function(
    config: Model, weights: Mapping[str, Any], facts: Facts, *, atomic_virial: bool
) -> Any:
    converted = jax2tf.convert(
        # Pairs of types that the model leaves out are left out inside, after sorting.
        lower(config, weights, atomic_virial=atomic_virial, sort=True),
        polymorphic_shapes=[
            "(nf, nall, 3)",
            "(nf, nall)",
            "(nf, nloc, width)",
            "(nf, nall)",
            f"(nf, {facts.dim_fparam})",
            f"(nf, nloc, {facts.dim_aparam})",
        ],
        polymorphic_constraints=(CONSTRAINT, f"width >= {facts.nsel}"),
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )

    def call_lower(
        coord: Any, atype: Any, nlist: Any, mapping: Any, fparam: Any, aparam: Any
    ) -> dict[str, Any]:
        lacking = tf.maximum(facts.nsel - tf.shape(nlist)[2], 0)
        wide = tf.pad(nlist, [[0, 0], [0, 0], [0, lacking]], constant_values=-1)
        return dict(converted(coord, atype, wide, mapping, fparam, aparam))

    signature = [
        tf.TensorSpec([None, None, 3], tf.float64, "coord"),
        tf.TensorSpec([None, None], tf.int32, "atype"),
        tf.TensorSpec([None, None, None], tf.int64, "nlist"),
        tf.TensorSpec([None, None], tf.int64, "mapping"),
        *_parameters(facts),
    ]
    return _named(call_lower, f"call_lower_{_variant(atomic_virial)}", signature)


def _call_function(call_lower: Callable[..., Any], facts: Facts, *, atomic_virial: bool) -> Any:
    def call(coord: Any, atype: Any, box: Any, fparam: Any, aparam: Any) -> dict[str, Any]:
        num_atoms = tf.shape(atype)[1]
        coords, types, mapping = extend(coord, atype, box, facts.rcut)
        nlist = all_pairs(coords, types, num_atoms, facts.rcut, facts.nsel)
        found = dict(call_lower(coords, types, nlist, mapping, fparam, aparam))
        found["energy_derv_r"] = fold(found["energy_derv_r"], mapping, num_atoms)
        virials = found.pop("energy_derv_c")
        if atomic_virial:
            found["energy_derv_c"] = fold(virials, mapping, num_atoms)
        return found

    signature = [
        tf.TensorSpec([None, None, 3], tf.float64, "coord"),
        tf.TensorSpec([None, None], tf.int32, "atype"),
        tf.TensorSpec([None, None, None], tf.float64, "box"),
        *_parameters(facts),
    ]
    return _named(call, f"call_{_variant(atomic_virial)}", signature)


def _variant(atomic_virial: bool) -> str:
    return "with_atomic_virial" if atomic_virial else "without_atomic_virial"


def _parameters(facts: Facts) -> list[Any]:
    return [
        tf.TensorSpec([None, facts.dim_fparam], tf.float64, "fparam"),
        tf.TensorSpec([None, None, facts.dim_aparam], tf.float64, "aparam"),
    ]


def _answers(facts: Facts) -> dict[str, Any]:
    """Return what each getter returns; a type stands for an empty list of it."""
    return facts.answers() | {
        # None for the caller to leave out: `call_lower` does it where deepmd-kit's own model does,
        # after the nearest neighbours were chosen.
        "get_pair_exclude_types": int,
        "do_message_passing": True,
        "get_default_fparam": facts.default_fparam or float,
        "get_default_chg_spin": float,
    }


def _getter(name: str, value: Any) -> Any:
    kind, value = (value, []) if isinstance(value, type) else (type(value), value)
    if isinstance(value, list) and value:
        kind = type(value[0])
    types = {str: tf.string, bool: tf.bool, int: tf.int64, float: tf.float64}
    # Made inside: a tensor from outside is an argument, and deepmd-kit's C++ gives none.
    return _named(lambda: tf.constant(value, types[kind]), name, [])
