"""StableHLO programs for deepmd-kit's JAX backend (`.hlo`): written, and run.

docs/deepmd-format.md, 10.4. The weights beside the programs are read like a `.dp` file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.conversion import PortableModel
from dpa2.formats.dictionary import to_dictionary
from dpa2.formats.dictionary_files import read, read_hdf5, write_hdf5
from dpa2.formats.engine import LowerEngine, LowerInput, Program, cannot_run, fixed_shapes
from dpa2.formats.facts import Facts, facts_of
from dpa2.formats.table import Report
from dpa2.jax.packages import need_to_run, need_to_write
from schemas.base.environment import modest_jax
from schemas.base.errors import CheckpointError
from schemas.input.model import Model

__all__ = ["read", "run", "write"]

_VARIABLES = "@variables"
_CONSTANTS = (
    *("type_map", "rcut", "numb_dos", "dim_fparam", "dim_aparam", "sel_type", "is_aparam_nall"),
    *("model_output_type", "mixed_types", "min_nbor_dist", "sel", "has_default_fparam"),
    *("default_fparam", "var_name", "task_dim", "intensive"),
)
"""What deepmd-kit hands to its wrapper of the programs, in its order."""
_OF_OTHERS = {
    "numb_dos": 0,
    "is_aparam_nall": False,
    "var_name": None,
    "task_dim": None,
    "intensive": False,
}
"""Those that only models of other kinds have."""


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Write StableHLO programs and the weights.

    Raises:
        ConversionError: If JAX is not installed, or the model is in half precision.
        WriteError: If the file cannot be written.
    """
    need_to_write("jax")
    report("starting JAX")
    import jax

    from dpa2.jax.weights import weights_of

    model = portable.model
    facts = facts_of(model, portable.model_params)
    weights = weights_of(model)
    dictionary = to_dictionary(model, portable.model_params)
    with jax.enable_x64(True):
        report("tracing energies and forces")
        plain = _exported(model.config, weights, facts, atomic_virial=False)
        report("tracing energies, forces and atomic virials")
        atomic = _exported(model.config, weights, facts, atomic_virial=True)
    dictionary[_VARIABLES] |= {
        # One program serves with and without ghosts.
        "stablehlo": plain,
        "stablehlo_no_ghost": plain,
        "stablehlo_atomic_virial": atomic,
        "stablehlo_atomic_virial_no_ghost": atomic,
    }
    said = _OF_OTHERS | facts.__dict__
    dictionary["constants"] = {name: said[name] for name in _CONSTANTS}
    report("writing the file")
    write_hdf5(path, dictionary)


def _exported(
    config: Model, weights: Mapping[str, Any], facts: Facts, *, atomic_virial: bool
) -> NDArray[np.void]:
    import jax

    from dpa2.jax.energy import CONSTRAINT, PLATFORMS, lower

    # deepmd-kit takes excluded pairs out of sorted lists before it calls; the slots stay empty.
    sort = not config.pair_exclude_types
    function = jax.jit(lower(config, weights, atomic_virial=atomic_virial, sort=sort))
    nf, nloc, nall = jax.export.symbolic_shape("nf, nloc, nall", constraints=[CONSTRAINT])

    def array(shape: tuple[Any, ...], dtype: Any) -> jax.ShapeDtypeStruct | None:
        if shape[-1] == 0:
            return None
        return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]

    exported = jax.export.export(function, platforms=PLATFORMS)(
        array((nf, nall, 3), np.float64),
        array((nf, nall), np.int32),
        array((nf, nloc, facts.nsel), np.int64),
        array((nf, nall), np.int64),
        array((nf, facts.dim_fparam), np.float64),
        array((nf, nloc, facts.dim_aparam), np.float64),
    )
    return np.frombuffer(exported.serialize(), dtype="V1")


def run(path: Path, device: torch.device) -> LowerEngine:
    """Load StableHLO programs. XLA compiles and runs them: only open files that you trust.

    Raises:
        CheckpointError: If JAX is not installed or has no such device, or the file is damaged, is
            no energy model, or is made for other devices.
    """
    dictionary = read_hdf5(path)
    need_to_run(path, "jax")
    constants, variables, section = (
        _part(path, dictionary, name) for name in ("constants", "@variables", "model_def_script")
    )
    said = {"pair_exclude_types": section.get("pair_exclude_types") or []} | constants
    facts = Facts.parse(said | {"model_params": section}, path)
    return LowerEngine(_programs(path, facts, variables, device), facts, device)


def _part(path: Path, dictionary: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = dictionary.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(
            f"{path} holds no StableHLO programs: it has no {name}",
            hint="if it is a .dp file, give it that suffix",
        )
    return part


def _programs(
    path: Path, facts: Facts, variables: Mapping[str, Any], device: torch.device
) -> Program:
    """Return the program without and the one with virials of atoms as one function."""
    modest_jax()
    import jax

    def unusable(error: Exception) -> CheckpointError:
        hint = "the file is damaged or of another release of JAX; its weights may be whole: "
        hint += f"zoo convert {path} model.pt"
        return cannot_run(path, f"JAX {jax.__version__}", error, hint)

    def program(content: Any) -> Any:
        try:
            exported = jax.export.deserialize(bytearray(content.tobytes()))
        except Exception as error:  # whatever damaged bytes lead to
            raise unusable(error) from error
        if target.platform not in _names(exported.platforms):
            raise CheckpointError(
                f"{path} was made for {', '.join(exported.platforms)}, not for {target.platform}",
                hint="use another device, or make it again with zoo convert",
            )
        return jax.jit(exported.call)

    try:
        target = jax.devices(device.type)[device.index or 0]
    except (RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{path} cannot run on {device}: JAX has no such device here",
            hint="use cpu, or install JAX for CUDA",
        ) from error
    names = ("stablehlo", "stablehlo_atomic_virial")
    programs = [program(variables.get(name)) for name in names]

    def call(frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        given = fixed_shapes(frame, facts)
        try:
            with jax.enable_x64(True):
                arrays = (jax.device_put(x, target) if x.shape[-1] else None for x in given)
                found = programs[atomic](*arrays)
                return {name: np.asarray(value, np.float64) for name, value in found.items()}
        except Exception as error:  # compilers fail with whatever goes wrong in them
            raise unusable(error) from error

    return call


def _names(platforms: tuple[str, ...]) -> set[str]:
    """Return the names of platforms, and what JAX calls their devices."""
    return {*platforms, *("gpu" for name in platforms if name in ("cuda", "rocm"))}
