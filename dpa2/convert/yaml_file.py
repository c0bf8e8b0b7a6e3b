"""`.yaml` files: the dictionary of a model as text, arrays inline (docs/deepmd-format.md, 10.1)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from schemas.atomic import atomic_write
from schemas.errors import CheckpointError
from schemas.special_files import refuse_special
from schemas.yaml_text import load_yaml

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
            raise _damaged(path, f"it holds a {type(document).__name__}")
        found: dict[str, Any] = with_arrays(document)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise _damaged(path, f"an array in it: {error}") from error
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


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a model: {reason}",
        hint="give a .yaml model written by zoo convert or by dp convert-backend",
    )
