"""A model as StableHLO programs: what deepmd-kit's `.hlo` has and `.dp` has not.

docs/deepmd-format.md, 10.4.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dpa2.jax.energy import CONSTRAINT, PLATFORMS, lower
from dpa2.jax.facts import OUTPUTS, Facts
from schemas.input.model import Model

Report = Callable[[str], None]
_VARIABLES = "@variables"


def with_programs(
    config: Model,
    weights: Mapping[str, Any],
    facts: Facts,
    dictionary: dict[str, Any],
    report: Report,
) -> dict[str, Any]:
    """Return a model's dictionary with the programs and constants of a `.hlo` file in it.

    Args:
        config: The model section.
        weights: Its numbers.
        facts: What it says about itself.
        dictionary: The model for other backends (`dpa2.formats.dictionary`).
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
    return dictionary | {_VARIABLES: variables, "constants": _constants(facts)}


def _exported(
    config: Model, weights: Mapping[str, Any], facts: Facts, *, atomic_virial: bool
) -> NDArray[np.void]:
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
    return np.frombuffer(exported.serialize(), dtype="V1")


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
