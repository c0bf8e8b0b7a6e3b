"""Files that hold the dictionary of a model: `.dp` (HDF5), `.yaml`, and archives of deepmd-kit.

docs/deepmd-format.md, 9, 10.1.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from dpa2.formats.conversion import PortableModel, refuse_branch
from dpa2.formats.dictionary import from_dictionary, to_dictionary
from dpa2.formats.table import Report
from schemas.base.errors import CheckpointError, ConversionError
from schemas.base.foreign_files import refuse_special, why_unreadable
from schemas.base.writing import atomic_write
from schemas.checkpoint.archive import content_of, read_directory
from schemas.checkpoint.random_access import LocalFile
from schemas.text.yaml_reader import load_yaml

_ATTRIBUTE = "json"
_VARIABLES = "@variables"
_PREFIX = "/variable_"
_WITH_PROGRAMS = ".hlo"
# An array that claims to hold more is a trap for the memory, not a model.
_MOST_EXPANSION = 64 * 2**20
_MOST_EXPANSIONS = 4
_NUMBERS = "fiubV"


HISTORY_KEY = "dpa_zoo"
"""Where dictionaries keep the conversions that led to them; deepmd-kit passes over it."""


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
    refuse_special(path, CheckpointError)
    try:
        with h5py.File(path, "r") as file:
            dictionary = _description(path, file)
            found: dict[str, Any] = _variables(dictionary, _Arrays(path, file).read)
            _check_programs(path, found)
            return found
    except (
        OSError,
        ValueError,
        TypeError,
        RecursionError,
        KeyError,
        RuntimeError,
        MemoryError,
    ) as error:
        why = why_unreadable(path, error)
        if why is not None:
            raise CheckpointError(why[0], hint=why[1]) from error
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


class _Arrays:
    """Reads the arrays that a description names, no more of them than the file can hold.

    A compressed array, one that was never filled, and one that is named often stand for more.

    Args:
        path: The file, for messages.
        file: The opened file.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self._left = _MOST_EXPANSION + _MOST_EXPANSIONS * path.stat().st_size

    def read(self, name: Any) -> Any:
        """Return the array of a name, anything else as it is.

        Raises:
            CheckpointError: It is no array of numbers in this file.
            ConversionError: Together they are far larger than the file.
        """
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            return name
        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            raise _damaged(self._path, f"{name} is not in it")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise _damaged(self._path, f"{name} is no array, or lies in another file")
        if dataset.shape is None or dataset.dtype.kind not in _NUMBERS or dataset.dtype.names:
            raise _damaged(self._path, f"{name} holds no numbers")
        self._left -= dataset.nbytes
        if self._left < 0:
            raise ConversionError(
                f"{self._path} claims to hold far more numbers than its "
                f"{self._path.stat().st_size:,} bytes",
                hint="do not trust this file",
            )
        return np.asarray(dataset[()])


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


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a model: {reason}",
        hint="the download or the copy was cut short, or it is no .dp file; fetch it again",
    )


_CLASS = "np.ndarray"
_DTYPES = ("float16", "float32", "float64", "bfloat16", "int32", "int64")


def write_yaml(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Write the dictionary of a model; the file has its name only once it is complete.

    Numbers are written so that reading them gives the same bits.

    Raises:
        WriteError: If it cannot be written; an older file of that name is untouched.
    """
    text = yaml.dump(
        _changed(dictionary, _to_text),
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
    """Read the dictionary of a model; only plain YAML is understood, no Python objects.

    Raises:
        CheckpointError: If the text is damaged or is something else.
    """
    refuse_special(path, CheckpointError)
    try:
        document = load_yaml(path.read_bytes())
        if not isinstance(document, dict):
            raise _yaml_file_damaged(path, f"it holds a {type(document).__name__}")
        found: dict[str, Any] = with_arrays(document)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise _yaml_file_damaged(path, str(error).splitlines()[0]) from error
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise _yaml_file_damaged(path, f"an array in it: {error}") from error
    return found


def with_arrays(document: Any) -> Any:
    """Return a copy in which dictionaries that stand for arrays are arrays.

    Raises:
        ValueError, TypeError, KeyError: One of them is none.
    """
    return _changed(document, _from_text)


_BASE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[misc]
    """Writes everything out where it stands, so that a person can read it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name PyYAML gives it
        return True


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    value = change(value)
    if isinstance(value, dict) and value.get("@class") != _CLASS:
        return {key: _changed(item, change) for key, item in value.items()}
    return [_changed(item, change) for item in value] if isinstance(value, list | tuple) else value


def _to_text(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return dict(value) if isinstance(value, Mapping) else value
    return {
        "@class": _CLASS,
        "@is_variable": True,
        "@version": 1,
        "dtype": value.dtype.name,
        "value": value.tolist(),
    }


def _from_text(value: Any) -> Any:
    if not isinstance(value, dict) or value.get("@class") != _CLASS:
        return value
    dtype = value["dtype"]
    if dtype not in _DTYPES:
        raise ValueError(f"its type is {dtype}")
    # float32 holds the numbers of bfloat16, which NumPy does not know
    return np.asarray(value["value"], dtype="float32" if dtype == "bfloat16" else dtype)


def _yaml_file_damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a model: {reason}",
        hint="give a .yaml model written by zoo convert or by dp convert-backend",
    )


_MEMBER = "extra/model.json"
_MOST_BYTES = 64 << 20
_ARCHIVE_FILE_MOST_EXPANSION = 4


def read_archive(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model; the compiled code beside it is not touched.

    Raises:
        CheckpointError: If the archive is damaged or holds no dictionary.
    """
    try:
        with LocalFile(path) as source:
            entries = read_directory(source, program=True)
            members = [entry for name, entry in entries.items() if name.endswith(_MEMBER)]
            if len(members) != 1:
                raise CheckpointError(
                    f"{path} is an archive without the weights of a deep potential",
                    hint="give the checkpoint it was made from",
                )
            most = _MOST_BYTES + _ARCHIVE_FILE_MOST_EXPANSION * source.size
            document = json.loads(content_of(source, members[0], most))
        found: dict[str, Any] = with_arrays(dict(document))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    return found
