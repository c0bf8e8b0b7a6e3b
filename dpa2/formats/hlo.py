"""Evaluation with StableHLO programs (`.hlo`), of this project or of deepmd-kit."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.dictionary_files import read_hdf5
from dpa2.formats.engine import LowerEngine, LowerFacts, LowerInput, fixed_shapes
from dpa2.jax.export import need_to_run
from schemas.base.environment import modest_jax
from schemas.base.errors import CheckpointError
from schemas.checkpoint.other_files import missing_file

SUFFIX = ".hlo"


def is_hlo(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file holds StableHLO programs."""
    return Path(path).suffix.lower() == SUFFIX


def open_hlo(path: str | os.PathLike[str], device: torch.device) -> LowerEngine:
    """Load StableHLO programs. XLA compiles and runs them: only open files that you trust.

    Raises:
        CheckpointError: If JAX is not installed or has no such device, or the file is damaged, is
            no energy model, or is made for other devices.
    """
    file = Path(path)
    if not file.exists():
        raise missing_file(file)
    dictionary = read_hdf5(file)
    need_to_run(file, "jax")
    constants, variables, section = (
        _part(file, dictionary, name) for name in ("constants", "@variables", "model_def_script")
    )
    said = {"pair_exclude_types": section.get("pair_exclude_types") or []} | constants
    facts = LowerFacts.parse(said, file)
    return LowerEngine(_Programs(file, facts, variables, device), facts, device, section)


def _part(path: Path, dictionary: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = dictionary.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(
            f"{path} holds no StableHLO programs: it has no {name}",
            hint="if it is a .dp file, give it that suffix",
        )
    return part


class _Programs:
    """The program without and the one with virials of atoms.

    Args:
        path: The file.
        facts: What it says.
        variables: Its arrays; among them the programs as bytes.
        device: Where to compute.
    """

    def __init__(
        self, path: Path, facts: LowerFacts, variables: Mapping[str, Any], device: torch.device
    ) -> None:
        modest_jax()
        import jax

        self._jax = jax
        self._path = path
        self._facts = facts
        try:
            self._device = jax.devices(device.type)[device.index or 0]
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(
                f"{path} cannot run on {device}: JAX has no such device here",
                hint="use cpu, or install JAX for CUDA",
            ) from error
        self._programs = {
            False: self._program(variables.get("stablehlo")),
            True: self._program(variables.get("stablehlo_atomic_virial")),
        }

    def __call__(self, frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        arrays = fixed_shapes(frame, self._facts)
        try:
            with self._jax.enable_x64(True):
                found = self._programs[atomic](
                    *(
                        self._jax.device_put(array, self._device) if array.shape[-1] else None
                        for array in arrays
                    )
                )
                return {name: np.asarray(value, np.float64) for name, value in found.items()}
        except Exception as error:  # compilers fail with whatever goes wrong in them
            raise self._unusable(error) from error

    def _program(self, content: Any) -> Any:
        try:
            exported = self._jax.export.deserialize(bytearray(content.tobytes()))
        except Exception as error:  # whatever damaged bytes lead to
            raise self._unusable(error) from error
        if self._device.platform not in _names(exported.platforms):
            raise CheckpointError(
                f"{self._path} was made for {', '.join(exported.platforms)}, "
                f"not for {self._device.platform}",
                hint="use another device, or make it again with zoo convert",
            )
        return self._jax.jit(exported.call)

    def _unusable(self, error: Exception) -> CheckpointError:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return CheckpointError(
            f"JAX {self._jax.__version__} cannot run {self._path}: {reason[:200]}",
            hint="the file is damaged or of another release of JAX; its weights may be whole: "
            f"zoo convert {self._path} model.pt",
        )


def _names(platforms: tuple[str, ...]) -> set[str]:
    """Return the names of platforms, and what JAX calls their devices."""
    return {*platforms, *("gpu" for name in platforms if name in ("cuda", "rocm"))}
