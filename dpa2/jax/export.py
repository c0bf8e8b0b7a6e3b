"""Files of deepmd-kit's JAX backend, written whole; the extras are needed only when called."""

import contextlib
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dpa2.model.energy import EnergyModel
from schemas.base.environment import quiet_tensorflow
from schemas.base.errors import CheckpointError, ConversionError, WriteError
from schemas.base.writing import destination

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


MARK = "saved_model.pb"
"""File that makes a folder a SavedModel."""


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield the name of a new folder that takes the place of `target` when the block succeeds.

    Only a SavedModel or an empty folder is replaced; anything else there is an error.

    Raises:
        WriteError: If something else is in the way, or the disk refuses.
    """
    target = destination(target, folder=True)
    if target.exists() and not _replaceable(target):
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


def _replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / MARK).is_file() or not any(target.iterdir()))


Report = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def write_savedmodel(
    model: EnergyModel,
    model_params: Mapping[str, Any],
    folder: Path | str,
    report: Report = _silent,
) -> None:
    """Write a TensorFlow SavedModel for deepmd-kit's JAX `DeepPot`, its C++ and LAMMPS.

    LAMMPS runs it on one rank and needs `atom_modify map yes`.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
        folder: To write; a SavedModel of that name is replaced. deepmd-kit knows the format by the
            suffix `.savedmodel`.
        report: Told what is being done; tracing takes half a minute or more.

    Raises:
        ConversionError: If JAX or TensorFlow is not installed, or the model is in half precision.
        WriteError: If the folder cannot be written, or something else has its name.
    """
    need_to_write("tensorflow")
    report("starting JAX and TensorFlow")
    import_tensorflow()
    import jax

    from dpa2.jax import savedmodel
    from dpa2.jax.facts import facts_of
    from dpa2.jax.weights import weights_of

    weights = weights_of(model)
    with replaced_folder(Path(folder)) as fresh, jax.enable_x64(True):
        savedmodel.save(model.config, weights, facts_of(model, model_params), fresh, report)


def write_hlo(
    model: EnergyModel,
    model_params: Mapping[str, Any],
    path: Path | str,
    report: Report = _silent,
) -> None:
    """Write a `.hlo` file for deepmd-kit's JAX `DeepPot`: StableHLO programs and the weights.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
        path: File to write.
        report: Told what is being done; tracing takes some seconds.

    Raises:
        ConversionError: If JAX is not installed, or the model is in half precision.
        WriteError: If the file cannot be written.
    """
    need_to_write("jax")
    report("starting JAX")
    import jax

    from dpa2.formats.dictionary import to_dictionary
    from dpa2.formats.dictionary_files import write_hdf5
    from dpa2.jax import hlo
    from dpa2.jax.facts import facts_of
    from dpa2.jax.weights import weights_of

    weights = weights_of(model)
    facts = facts_of(model, model_params)
    plain = to_dictionary(model, model_params)
    with jax.enable_x64(True):
        dictionary = hlo.with_programs(model.config, weights, facts, plain, report)
    report("writing the file")
    write_hdf5(Path(path), dictionary)
