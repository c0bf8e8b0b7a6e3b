"""`.dp` files: HDF5 with a model's dictionary as JSON text, arrays as datasets (spec 10.1).

Equal models give equal bytes: datasets are numbered in the order of the dictionary, and nothing
records the time.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from schemas.atomic import atomic_write
from schemas.errors import CheckpointError, ConversionError

_ATTRIBUTE = "json"
_VARIABLES = "@variables"
_PREFIX = "/variable_"
# A file that claims to hold more is a trap for the memory, not a model.
_MOST_EXPANSION = 100


def write_hdf5(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Write the dictionary of a model; the file has its name only once it is complete.

    Raises:
        WriteError: If it cannot be written; an older file of that name is untouched.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        names = iter(range(10**9))

        def store(array: Any) -> Any:
            if not isinstance(array, np.ndarray):
                return array
            return file.create_dataset(f"{_PREFIX}{next(names):04d}", data=array).name

        text = json.dumps(_variables(dictionary, store), separators=(",", ":"))
        file.attrs[_ATTRIBUTE] = text
    with atomic_write(path) as stream:
        stream.write(memory.getbuffer())


def read_hdf5(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model; nothing outside the file is ever opened.

    Raises:
        CheckpointError: If the file is damaged or holds something else.
    """
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(_ATTRIBUTE)
            if text is None:
                raise CheckpointError(
                    f"{path} is an HDF5 file without a model in it",
                    hint="give a .dp file written by zoo convert or by dp convert-backend",
                )
            dictionary = json.loads(text)
            if not isinstance(dictionary, dict):
                raise _damaged(path, "its description is no dictionary")
            _check_size(path, file)
            found: dict[str, Any] = _variables(dictionary, lambda name: _array(path, file, name))
            return found
    except (OSError, ValueError, RecursionError, KeyError, RuntimeError) as error:
        raise _damaged(path, str(error)) from error


def _variables(value: Any, change: Callable[[Any], Any], *, inside: bool = False) -> Any:
    """Return a copy in which `change` was applied to every leaf below an `@variables` key."""
    if isinstance(value, Mapping):
        return {
            key: _variables(item, change, inside=inside or key == _VARIABLES)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_variables(item, change, inside=inside) for item in value]
    return change(value) if inside else value


def _array(path: Path, file: h5py.File, name: Any) -> Any:
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        return name
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise _damaged(path, f"{name} is not in it")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise _damaged(path, f"{name} is no array, or lies in another file")
    return np.asarray(dataset[()])


def _check_size(path: Path, file: h5py.File) -> None:
    total = 0
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            item = file[name]
            total += item.nbytes if isinstance(item, h5py.Dataset) else 0
    if total > _MOST_EXPANSION * path.stat().st_size:
        raise ConversionError(
            f"{path} claims to hold {total / 1e9:.1f} GB, far more than its size",
            hint="do not trust this file",
        )


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a model: {reason}",
        hint="the download or the copy was cut short, or it is no .dp file; fetch it again",
    )
