"""Evaluation with a TensorFlow SavedModel (`.savedmodel`), of this project or of deepmd-kit."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.engine import LowerEngine, LowerFacts, LowerInput, fixed_shapes
from dpa2.jax.export import MARK, import_tensorflow, need_to_run
from schemas.base.errors import CheckpointError
from schemas.checkpoint.other_files import missing_file

SUFFIX = ".savedmodel"


def is_savedmodel(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path means a SavedModel: by its name, or by what is in the folder."""
    folder = Path(path)
    return folder.suffix.lower() == SUFFIX or (folder / MARK).is_file()


def open_savedmodel(path: str | os.PathLike[str], device: torch.device) -> LowerEngine:
    """Load a SavedModel. TensorFlow runs the graph in it: only open folders that you trust.

    Raises:
        CheckpointError: If TensorFlow is not installed or has no such device, or the folder is
            damaged, or is no SavedModel of an energy model.
    """
    folder = Path(path)
    if not folder.exists():
        raise missing_file(folder)
    if not (folder / MARK).is_file():
        raise CheckpointError(
            f"{folder} is no SavedModel: there is no {MARK} in it",
            hint="the copy was cut short, or it is something else; a SavedModel is a folder",
        )
    need_to_run(folder, "tensorflow")
    graph = _Graph(folder, device)
    facts = graph.facts
    return LowerEngine(graph, facts, device, graph.model_params)


class _Graph:
    """A loaded SavedModel.

    Args:
        path: The folder.
        device: Where to compute.

    Attributes:
        facts: What it says about itself.
        model_params: The `model` section in it.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path = path
        self._tf = import_tensorflow()
        self._device = f"/{'GPU' if device.type == 'cuda' else 'CPU'}:{device.index or 0}"
        devices = self._tf.config.list_logical_devices()
        if not any(one.name.endswith(self._device[1:]) for one in devices):
            raise CheckpointError(
                f"{path} cannot run on {device}: TensorFlow has no such device here",
                hint="use cpu, or install TensorFlow for CUDA",
            )
        try:
            with _quiet_absl():
                self._loaded = self._tf.saved_model.load(os.fspath(path))
        except Exception as error:  # whatever damaged bytes lead to
            raise self._unusable(error) from error
        if not hasattr(self._loaded, "call_lower") or not hasattr(self._loaded, "get_rcut"):
            raise CheckpointError(
                f"{path} is a SavedModel, but not of a deep potential",
                hint="give one written by zoo convert or by deepmd-kit's JAX backend",
            )
        said = {name: self._said(getter) for name, getter in _GETTERS.items()}
        flat = said["pair_exclude_types"] or []
        said["pair_exclude_types"] = [flat[k : k + 2] for k in range(0, len(flat), 2)]
        self.facts = LowerFacts.parse(
            {name: value for name, value in said.items() if value is not None}, path
        )
        try:
            self.model_params = dict(json.loads(self._said("get_model_def_script") or "{}"))
        except (TypeError, ValueError) as error:
            raise self._unusable(error) from error

    def __call__(self, frame: LowerInput, atomic: bool) -> dict[str, NDArray[np.float64]]:
        try:
            call = self._loaded.call_lower_atomic_virial if atomic else self._loaded.call_lower
            with self._tf.device(self._device):
                found = call(*map(self._tf.constant, fixed_shapes(frame, self.facts)))
            return {name: value.numpy().astype(np.float64) for name, value in found.items()}
        except Exception as error:  # compilers fail with whatever goes wrong in them
            raise self._unusable(error) from error

    def _said(self, getter: str) -> Any:
        """Return what one of its functions without arguments says; None if there is none."""
        if not hasattr(self._loaded, getter):
            return None
        try:
            return _plain(getattr(self._loaded, getter)().numpy())
        except Exception as error:  # it may be anything
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> CheckpointError:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return CheckpointError(
            f"TensorFlow {self._tf.__version__} cannot run {self._path}: {reason[:200]}",
            hint="the folder is damaged, or of another release; make it again with zoo convert",
        )


_GETTERS = {
    "type_map": "get_type_map",
    "rcut": "get_rcut",
    "sel": "get_sel",
    "dim_fparam": "get_dim_fparam",
    "dim_aparam": "get_dim_aparam",
    "has_default_fparam": "has_default_fparam",
    "default_fparam": "get_default_fparam",
    "model_output_type": "model_output_type",
    "mixed_types": "mixed_types",
    "dim_chg_spin": "get_dim_chg_spin",
    "pair_exclude_types": "get_pair_exclude_types",
}


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Keep back warnings about gradients of gradients, which deepmd-kit's files lack."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _plain(value: Any) -> Any:
    """Return an array of numbers or of text as plain Python."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_plain(item) for item in plain]
    return plain.decode() if isinstance(plain, bytes) else plain
