"""A model as a TensorFlow SavedModel that deepmd-kit's Python, C++ and LAMMPS run.

docs/deepmd-format.md, 10.4.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from jax.experimental import jax2tf

from dpa2.jax.facts import OUTPUTS, Facts
from dpa2.jax.images import all_pairs, extend, fold
from dpa2.jax.lower import CONSTRAINT, PLATFORMS, lower
from dpa2.jax.weights import Weights
from schemas.model import Model

Report = Callable[[str], None]


def save(config: Model, weights: Weights, facts: Facts, folder: Path, report: Report) -> None:
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
    for name, (value, dtype) in _constants(facts).items():
        setattr(module, name, _getter(name, value, dtype))
    report("writing the SavedModel")
    tf.saved_model.save(module, str(folder))


def _named(function: Callable[..., Any], name: str, signature: list[Any]) -> Any:
    """Return a traced function of that name: deepmd-kit's C++ looks functions up by it."""
    function.__name__ = name
    traced = tf.function(function, autograph=False, input_signature=signature)
    traced.get_concrete_function()
    return traced


def _lower_function(config: Model, weights: Weights, facts: Facts, *, atomic_virial: bool) -> Any:
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


def _constants(facts: Facts) -> dict[str, tuple[Any, Any]]:
    """Return what each getter returns, with its type."""
    found: dict[str, tuple[Any, Any]] = {
        "get_type_map": (facts.type_map, tf.string),
        "get_rcut": (facts.rcut, tf.float64),
        "get_dim_fparam": (facts.dim_fparam, tf.int64),
        "get_dim_aparam": (facts.dim_aparam, tf.int64),
        "get_sel_type": (facts.sel_type, tf.int64),
        "is_aparam_nall": (False, tf.bool),
        "model_output_type": (OUTPUTS, tf.string),
        "mixed_types": (True, tf.bool),
        "get_sel": ([facts.nsel], tf.int64),
        # None for the caller to leave out: `call_lower` does it where deepmd-kit's own model does,
        # after the nearest neighbours were chosen.
        "get_pair_exclude_types": ([], tf.int64),
        "get_model_def_script": (facts.model_def_script, tf.string),
        "has_message_passing": (True, tf.bool),
        "do_message_passing": (True, tf.bool),
        "has_default_fparam": (facts.default_fparam is not None, tf.bool),
        "get_default_fparam": (facts.default_fparam or [], tf.float64),
        "has_chg_spin_ebd": (False, tf.bool),
        "get_dim_chg_spin": (0, tf.int64),
        "has_default_chg_spin": (False, tf.bool),
        "get_default_chg_spin": ([], tf.float64),
    }
    if facts.min_nbor_dist is not None:
        found["get_min_nbor_dist"] = (facts.min_nbor_dist, tf.float64)
    return found


def _getter(name: str, value: Any, dtype: Any) -> Any:
    # Made inside: a tensor from outside is an argument, and deepmd-kit's C++ gives none.
    return _named(lambda: tf.constant(value, dtype), name, [])
