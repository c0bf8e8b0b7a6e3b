"""Files that hold the dictionary of a model: `.dp` (HDF5), `.yaml`, and archives of deepmd-kit.

docs/deepmd-format.md, 9, 10.1.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from dpa2.formats.conversion import PortableModel, refuse_branch
from dpa2.formats.dictionary import from_dictionary, to_dictionary
from dpa2.formats.dictionary_tree import mapped
from dpa2.formats.table import Report
from schemas.base.errors import CheckpointError, ConversionError, first_line
from schemas.base.foreign_files import refuse_special, why_unreadable
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import LocalFile, content_of, read_directory
from schemas.text.yaml_text import load_yaml

HISTORY_KEY = "dpa_zoo"
"""Where dictionaries keep the conversions that led to them; deepmd-kit passes over it."""

_ATTRIBUTE = "json"
_VARIABLES = "@variables"
_PREFIX = "/variable_"
_WITH_PROGRAMS = ".hlo"
_MEMBER = "extra/model.json"
# What claims to hold more, for each of its bytes and besides, is a trap for the memory, no model.
_MOST_BYTES = 64 << 20
_MOST_EXPANSION = 4
_NUMBERS = "fiubV"
_CLASS = "np.ndarray"
_DTYPES = ("float16", "float32", "float64", "bfloat16", "int32", "int64")
_ANYTHING = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError),
    *(RecursionError, RuntimeError, MemoryError, yaml.YAMLError),
)


def read(path: Path, branch: str | None) -> PortableModel:
    """Read a `.dp`, `.hlo`, `.yaml`, `.pt2` or `.pte` file; no program in it is run."""
    refuse_branch(path, branch)
    containers = {".dp": read_hdf5, ".hlo": read_hdf5, ".yaml": read_yaml, ".yml": read_yaml}
    dictionary = containers.get(path.suffix.lower(), read_archive)(path)
    try:
        model, section, notes = from_dictionary(dictionary)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error.message}", hint=error.hint) from error
    ours = dictionary.get(HISTORY_KEY)
    history = ours.get("history") if isinstance(ours, Mapping) else None
    history = history if isinstance(history, list) else []
    return PortableModel(model, section, path, notes=notes, history=history)


def write(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a `.dp` or `.yaml` file."""
    del report  # it takes no time
    (write_hdf5 if path.suffix.lower() == ".dp" else write_yaml)(path, with_history(portable))


def with_history(portable: PortableModel) -> dict[str, Any]:
    """Return the dictionary of a model with the conversions that led to it."""
    tree = to_dictionary(portable.model, portable.model_params)
    return {**tree, HISTORY_KEY: {"history": portable.with_history()}}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in words that a file is damaged, whatever its reader stumbles over."""
    refuse_special(path, CheckpointError)
    try:
        yield
    except _ANYTHING as error:
        why = why_unreadable(path, error)
        if why is not None:
            raise CheckpointError(why[0], hint=why[1]) from error
        raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a model: {reason}",
        hint="the download or the copy was cut short, or it is something else; fetch it again, or "
        "give a model written by zoo convert or by dp convert-backend",
    )


def write_hdf5(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Write a dictionary as JSON text, arrays as datasets; equal models give equal bytes.

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

        file.attrs[_ATTRIBUTE] = json.dumps(mapped(dictionary, store), separators=(",", ":"))
    with atomic_write(path) as stream:
        stream.write(memory.getbuffer())


def read_hdf5(path: Path) -> dict[str, Any]:
    """Read a dictionary; nothing outside the file is ever opened.

    Raises:
        CheckpointError: If the file is damaged or holds something else.
        ConversionError: If it claims to hold far more than it can.
    """
    with _reading(path), h5py.File(path, "r") as file:
        found: dict[str, Any] = _with_datasets(
            _description(path, file), _dataset_reader(path, file)
        )
        _check_programs(path, found)
    return found


def _with_datasets(value: Any, read_one: Callable[[str], Any], *, inside: bool = False) -> Any:
    """Return a copy in which names of datasets below an `@variables` key are arrays."""
    if isinstance(value, Mapping):
        return {
            key: _with_datasets(item, read_one, inside=inside or key == _VARIABLES)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_datasets(item, read_one, inside=inside) for item in value]
    is_name = inside and isinstance(value, str) and value.startswith(_PREFIX)
    return read_one(value) if is_name else value


def _dataset_reader(path: Path, file: h5py.File) -> Callable[[str], NDArray[Any]]:
    """Return what reads datasets by name, no more of them than the file can hold.

    A compressed array, one that was never filled, and one that is named often stand for more.
    """
    size = path.stat().st_size
    left = _MOST_BYTES + _MOST_EXPANSION * size

    def read_one(name: str) -> NDArray[Any]:
        nonlocal left
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise _damaged(path, f"{name} is not in it")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise _damaged(path, f"{name} is no array, or lies in another file")
        if dataset.shape is None or dataset.dtype.kind not in _NUMBERS or dataset.dtype.names:
            raise _damaged(path, f"{name} holds no numbers")
        left -= dataset.nbytes
        if left < 0:
            raise ConversionError(
                f"{path} claims to hold far more numbers than its {size:,} bytes",
                hint="do not trust this file",
            )
        return np.asarray(dataset[()])

    return read_one


def _description(path: Path, file: h5py.File) -> dict[str, Any]:
    if _ATTRIBUTE not in file.attrs:
        raise CheckpointError(
            f"{path} is an HDF5 file without a model in it",
            hint="give a .dp file written by zoo convert or by dp convert-backend",
        )
    stored = file.attrs.get_id(_ATTRIBUTE)
    if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None:
        raise _damaged(path, "its description is no text")
    found = json.loads(file.attrs[_ATTRIBUTE])
    if not isinstance(found, dict):
        raise _damaged(path, "its description is no dictionary")
    return found


def _check_programs(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Refuse a file whose suffix and content disagree about programs (StableHLO) in it."""
    variables = dictionary.get(_VARIABLES)
    names = variables if isinstance(variables, Mapping) else {}
    has_programs = any(name.startswith("stablehlo") for name in names)
    if has_programs == (path.suffix.lower() == _WITH_PROGRAMS):
        return
    what = "holds" if has_programs else "holds no"
    right = _WITH_PROGRAMS if has_programs else ".dp"
    raise CheckpointError(
        f"{path} {what} StableHLO programs, but its name ends in {path.suffix}: it is not opened",
        hint=f"if it is what you want, rename it to end in {right}",
    )


def write_yaml(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Write a dictionary as text, arrays inline; reading the numbers gives the same bits.

    Raises:
        WriteError: If it cannot be written; an older file of that name is untouched.
    """

    def as_text(value: Any) -> Any:
        return _array_as_text(value, **{"@version": 1}) if isinstance(value, np.ndarray) else value

    text = yaml.dump(
        mapped(dictionary, as_text),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
        encoding="utf-8",
    )
    with atomic_write(path) as stream:
        stream.write(text)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a dictionary; only plain YAML is understood, no Python objects.

    Raises:
        CheckpointError: If the text is damaged or is something else.
    """
    with _reading(path):
        return _with_arrays(path, load_yaml(path.read_bytes()))


def to_json(dictionary: Mapping[str, Any]) -> str:
    """Return a dictionary as JSON, arrays as deepmd-kit's readers expect them in archives."""
    return json.dumps(dictionary, default=_array_as_text, separators=(",", ":"))


def read_archive(path: Path) -> dict[str, Any]:
    """Read the dictionary in a `.pt2` or `.pte` file; the compiled code beside it is not touched.

    Raises:
        CheckpointError: If the archive is damaged or holds no dictionary.
    """
    with _reading(path), LocalFile(path) as source:
        entries = read_directory(source, program=True)
        members = [entry for name, entry in entries.items() if name.endswith(_MEMBER)]
        if len(members) != 1:
            raise CheckpointError(
                f"{path} is an archive without the weights of a deep potential",
                hint="give the checkpoint it was made from",
            )
        most = _MOST_BYTES + _MOST_EXPANSION * source.size
        return _with_arrays(path, json.loads(content_of(source, members[0], most)))


_BASE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[misc]
    """Writes everything out where it stands, so that a person can read it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name PyYAML gives it
        return True


def _array_as_text(array: NDArray[Any], **more: Any) -> dict[str, Any]:
    numbers = {"dtype": array.dtype.name, "value": array.tolist()}
    return {"@class": _CLASS, "@is_variable": True, **more, **numbers}


def _with_arrays(path: Path, document: Any) -> dict[str, Any]:
    """Return a copy of what was read in which dictionaries that stand for arrays are arrays."""

    def as_array(value: Any) -> Any:
        if not isinstance(value, dict) or value.get("@class") != _CLASS:
            return value
        dtype = value["dtype"]
        if dtype not in _DTYPES:
            raise _damaged(path, f"an array in it has the type {dtype}")
        # float32 holds the numbers of bfloat16, which NumPy does not know
        return np.asarray(value["value"], dtype="float32" if dtype == "bfloat16" else dtype)

    if not isinstance(document, dict):
        raise _damaged(path, f"it holds a {type(document).__name__}")
    found: dict[str, Any] = mapped(document, as_array)
    return found
