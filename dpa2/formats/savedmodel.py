"""TensorFlow SavedModels for deepmd-kit's JAX backend, its C++ and LAMMPS: written, and run."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.formats.conversion import PortableModel
from dpa2.formats.engine import LowerEngine, LowerInput, cannot_run, fixed_shapes
from dpa2.formats.facts import Facts, facts_of
from dpa2.formats.table import Report
from dpa2.jax.packages import import_tensorflow, need_to_run, need_to_write
from schemas.base.errors import CheckpointError, WriteError
from schemas.base.terminal import quiet_logger
from schemas.base.writing import destination

MARK = "saved_model.pb"
"""File that makes a folder a SavedModel."""


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a SavedModel; LAMMPS runs it on one rank and needs `atom_modify map yes`.

    Raises:
        ConversionError: If JAX or TensorFlow is not installed, or the model is in half precision.
        WriteError: If the folder cannot be written, or something else has its name.
    """
    need_to_write("tensorflow")
    report("starting JAX and TensorFlow")
    import_tensorflow()
    import jax

    from dpa2.jax import savedmodel
    from dpa2.jax.weights import weights_of

    model = portable.model
    weights, facts = weights_of(model), facts_of(model, portable.model_params)
    with replaced_folder(path) as fresh, jax.enable_x64(True):
        savedmodel.save(model.config, weights, facts, fresh, report)


def run(path: Path, device: torch.device) -> LowerEngine:
    """Load a SavedModel. TensorFlow runs the graph in it: only open folders that you trust.

    Raises:
        CheckpointError: If TensorFlow is not installed or has no such device, or the folder is
            damaged, or is no SavedModel of an energy model.
    """
    if not (path / MARK).is_file():
        raise CheckpointError(
            f"{path} is no SavedModel: there is no {MARK} in it",
            hint="the copy was cut short, or it is something else; a SavedModel is a folder",
        )
    need_to_run(path, "tensorflow")
    graph = _Graph(path, device)
    return LowerEngine(graph, graph.facts, device)


class _Graph:
    """A loaded SavedModel.

    Args:
        path: The folder.
        device: Where to compute.

    Attributes:
        facts: What it says about itself.
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
            with quiet_logger("absl"):  # deepmd-kit's files lack gradients of gradients
                self._loaded = self._tf.saved_model.load(os.fspath(path))
        except Exception as error:  # whatever damaged bytes lead to
            raise self._unusable(error) from error
        if not hasattr(self._loaded, "call_lower") or not hasattr(self._loaded, "get_rcut"):
            raise CheckpointError(
                f"{path} is a SavedModel, but not of a deep potential",
                hint="give one written by zoo convert or by deepmd-kit's JAX backend",
            )
        said = {name.removeprefix("get_"): self._said(name) for name in _GETTERS}
        flat = said["pair_exclude_types"] or []
        said["pair_exclude_types"] = [flat[k : k + 2] for k in range(0, len(flat), 2)]
        try:
            said["model_params"] = dict(json.loads(self._said("get_model_def_script") or "{}"))
        except (TypeError, ValueError) as error:
            raise self._unusable(error) from error
        told = {name: value for name, value in said.items() if value is not None}
        self.facts = Facts.parse(told, path)

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
        hint = "the folder is damaged, or of another release; make it again with zoo convert"
        return cannot_run(self._path, f"TensorFlow {self._tf.__version__}", error, hint)


_GETTERS = (
    *("get_type_map", "get_rcut", "get_sel", "get_dim_fparam", "get_dim_aparam"),
    *("has_default_fparam", "get_default_fparam", "model_output_type", "mixed_types"),
    *("get_dim_chg_spin", "get_pair_exclude_types"),
)


def _plain(value: Any) -> Any:
    """Return an array of numbers or of text as plain Python."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_plain(item) for item in plain]
    return plain.decode() if isinstance(plain, bytes) else plain


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield the name of a new folder that takes the place of `target` when the block succeeds.

    Only a SavedModel or an empty folder is replaced; anything else there is an error.

    Raises:
        WriteError: If something else is in the way, or the disk refuses.
    """
    target = destination(target, folder=True)
    is_model = (target / MARK).is_file()
    if target.exists() and not (target.is_dir() and (is_model or not any(target.iterdir()))):
        raise WriteError(
            f"{target} exists and is not a SavedModel", hint="choose another name, or remove it"
        )
    if not target.parent.is_dir():
        raise WriteError(f"there is no folder {target.parent}", hint="create it first")
    tail = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    fresh = target.with_name(f".{target.name}.new-{tail}")
    old = target.with_name(f".{target.name}.old-{tail}")
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise WriteError(
            f"{target} cannot be written: {error.strerror or error}",
            hint="check that its folder is writable and has space left; what was there before is "
            "untouched",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
