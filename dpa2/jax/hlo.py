"""A model as StableHLO beside its dictionary in one HDF5 file, deepmd-kit's `.hlo` (spec 10.4)."""

import json
from collections.abc import Callable
from typing import IO, Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from dpa2.jax.facts import OUTPUTS, Facts
from dpa2.jax.lower import CONSTRAINT, PLATFORMS, lower
from dpa2.jax.weights import Weights
from schemas.model import Model

Report = Callable[[str], None]
_VARIABLES = "@variables"


def save(
    config: Model,
    weights: Weights,
    facts: Facts,
    dictionary: dict[str, Any],
    stream: IO[bytes],
    report: Report,
) -> None:
    """Write the file.

    Args:
        config: The model section.
        weights: Its numbers.
        facts: What it says about itself.
        dictionary: The model for other backends (`dpa2.convert.dictionary`).
        stream: Where to.
        report: Told what is being done, which may take a minute.
    """
    report("tracing energies and forces")
    plain = _exported(config, weights, facts, atomic_virial=False)
    report("tracing energies, forces and atomic virials")
    atomic = _exported(config, weights, facts, atomic_virial=True)
    variables = dictionary.get(_VARIABLES, {}) | {
        # One program serves with and without ghosts.
        "stablehlo": plain,
        "stablehlo_no_ghost": plain,
        "stablehlo_atomic_virial": atomic,
        "stablehlo_atomic_virial_no_ghost": atomic,
    }
    report("writing the file")
    write_hdf5(dictionary | {_VARIABLES: variables, "constants": _constants(facts)}, stream)


def _exported(config: Model, weights: Weights, facts: Facts, *, atomic_virial: bool) -> np.void:
    # deepmd-kit takes excluded pairs out of sorted lists before it calls; the slots stay empty.
    sort = not config.pair_exclude_types
    function = jax.jit(lower(config, weights, atomic_virial=atomic_virial, sort=sort))
    nf, nloc, nall = jax.export.symbolic_shape("nf, nloc, nall", constraints=[CONSTRAINT])

    def array(shape: tuple[Any, ...], dtype: Any) -> jax.ShapeDtypeStruct | None:
        return jax.ShapeDtypeStruct(shape, dtype) if shape[-1] != 0 else None

    exported = jax.export.export(function, platforms=PLATFORMS)(
        array((nf, nall, 3), jnp.float64),
        array((nf, nall), jnp.int32),
        array((nf, nloc, facts.nsel), jnp.int64),
        array((nf, nall), jnp.int64),
        array((nf, facts.dim_fparam), jnp.float64),
        array((nf, nloc, facts.dim_aparam), jnp.float64),
    )
    return np.void(bytes(exported.serialize()))


def _constants(facts: Facts) -> dict[str, Any]:
    """Return what deepmd-kit hands to its wrapper of the programs, by name."""
    return {
        "type_map": facts.type_map,
        "rcut": facts.rcut,
        "numb_dos": 0,
        "dim_fparam": facts.dim_fparam,
        "dim_aparam": facts.dim_aparam,
        "sel_type": facts.sel_type,
        "is_aparam_nall": False,
        "model_output_type": OUTPUTS,
        "mixed_types": True,
        "min_nbor_dist": facts.min_nbor_dist,
        "sel": [facts.nsel],
        "has_default_fparam": facts.default_fparam is not None,
        "default_fparam": facts.default_fparam,
        "var_name": None,
        "task_dim": None,
        "intensive": False,
    }


def write_hdf5(dictionary: dict[str, Any], stream: IO[bytes]) -> None:
    """Write a dictionary as deepmd-kit does: arrays as data sets, all else as JSON (spec 10.1)."""
    with h5py.File(stream, "w") as file:
        count = 0

        def without_arrays(value: Any) -> Any:
            nonlocal count
            if isinstance(value, dict):
                return {key: without_arrays(item) for key, item in value.items()}
            if isinstance(value, list):
                return [without_arrays(item) for item in value]
            if not isinstance(value, np.ndarray | np.generic):
                return value
            name = f"/variable_{count:04d}"
            count += 1
            file.create_dataset(name, data=np.asarray(value))
            return name

        file.attrs["json"] = json.dumps(without_arrays(dictionary))
