"""Packages that JAX's formats need: whether they are here, and TensorFlow without its chatter."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from schemas.base.environment import quiet_tensorflow
from schemas.base.errors import CheckpointError, ConversionError

# Of each extra: packages that writing needs, that running needs, and the format.
_EXTRAS = {
    "jax": (["jax", "flatbuffers"], ["jax", "flatbuffers"], "StableHLO"),
    "tensorflow": (["jax", "tensorflow"], ["tensorflow"], "SavedModel"),
}


def need_to_write(extra: str) -> None:
    """Raise ConversionError if a package is not installed that writing needs.

    Args:
        extra: `jax` for StableHLO, `tensorflow` for SavedModel.
    """
    packages, _, product = _EXTRAS[extra]
    if missing := _missing(packages):
        raise ConversionError(
            f"writing a {product} needs {missing}, not installed here", hint=_installed(extra)
        )


def need_to_run(path: Path, extra: str) -> None:
    """Raise CheckpointError if a package is not installed that evaluating a file needs.

    Args:
        path: The file.
        extra: As for `need_to_write`.
    """
    _, packages, product = _EXTRAS[extra]
    if missing := _missing(packages):
        raise CheckpointError(
            f"{path} is a {product}, which runs with {missing}, not installed here",
            hint=f"{_installed(extra)}; or evaluate the checkpoint it was made from",
        )


def _missing(packages: list[str]) -> str:
    return " and ".join(name for name in packages if find_spec(name) is None)


def _installed(extra: str) -> str:
    return f"pip install 'dpa-zoo[{extra}]'"


def import_tensorflow() -> Any:
    """Return TensorFlow, with as many threads as torch has if it has not started already."""
    quiet_tensorflow()
    with warnings.catch_warnings(), _no_stderr():
        warnings.simplefilter("ignore")
        import tensorflow as tf
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    return tf


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep back what C++ writes to file 2.

    That oneDNN is there is told before any setting of what to tell is read, and without oneDNN our
    models take nearly twice as long. What goes wrong becomes an exception.
    """
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
