"""Tensors read from a dictionary by comparing it with what this engine would have written.

Every number that says how the model computes must agree; what does not is named with its path. So
a file is either understood whole or refused.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.formats.dictionary_tree import Slot
from schemas.base.errors import ConversionError
from schemas.input.section import SAME_PRECISION

_BFLOAT16 = np.dtype("V2")  # NumPy has no such type; in HDF5 files it is two opaque bytes


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array of the same numbers.

    bfloat16 becomes float32, which holds its numbers exactly: deepmd-kit's readers turn that back
    into bfloat16, while they cannot read the opaque bytes that they themselves write.
    """
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        values = values.to(torch.float32)
    return np.asarray(values.numpy())


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor of the same numbers and type, with a memory of its own.

    Raises:
        TypeError: If the array holds no numbers.
    """
    array = np.array(array, order="C", copy=True)
    # JAX has a NumPy type of its own for bfloat16, whose name says so.
    if array.dtype == _BFLOAT16 or array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


# What has no influence on energies, or repeats what is compared elsewhere. deepmd-kit writes a
# `protection` of 0 whatever `env_protection` is, and reads only the latter.
_PASSED_OVER = frozenset(
    {"@class", "@version", "trainable", "trainable_ln", "rcond", "layer_name", "protection"}
)
# Since which version this engine's own spelling is the newest that it knows.
_NEWEST = {"Model": 2, "Descriptor": 4, "Fitting": 4}
_SAME_ACTIVATION = {"none": "linear", "gelu_tf": "gelu"}
_COMPRESSED = "compress"
_OTHER_MODEL = "this engine runs DPA-2 energy models of deepmd-kit 3.0 to 3.2 and nothing else"


def collect_tensors(
    expected: Mapping[str, Any], found: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return the tensors of `found` by the names that the slots of `expected` have.

    Args:
        expected: What this engine writes for the model, with a `Slot` for every tensor.
        found: What a file says about it; arrays may also be nested lists.
        shapes: Shape of every tensor.

    Raises:
        ConversionError: If something is missing, surplus or different; says where.
    """
    tensors: dict[str, Tensor] = {}
    _Walk(shapes, tensors).mapping(expected, found, "model")
    return tensors


class _Walk:
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], tensors: dict[str, Tensor]) -> None:
        self.shapes = shapes
        self.tensors = tensors

    def mapping(self, expected: Mapping[str, Any], found: Any, where: str) -> None:
        if not isinstance(found, Mapping):
            raise _different(where, "a dictionary", _shown(found))
        _check_class(expected, found, where)
        for key in expected:
            if key in _PASSED_OVER:
                continue
            path = f"{where}.{key}"
            if key in found:
                self.value(expected[key], found[key], path)
            elif _holds_tensors(expected[key]):
                raise ConversionError(
                    f"{path} is missing", hint="the file is damaged or was written by hand"
                )
        for key, value in found.items():
            if key not in expected and key not in _PASSED_OVER and _says_something(value):
                raise _surplus(f"{where}.{key}", key)

    def value(self, expected: Any, found: Any, path: str) -> None:
        if isinstance(expected, Slot):
            self.tensors[expected.name] = self.tensor(expected, found, path)
        elif isinstance(expected, Mapping):
            self.mapping(expected, found, path)
        elif isinstance(expected, list) and _holds_tensors(expected):
            if not isinstance(found, Sequence) or len(found) != len(expected):
                raise _different(path, f"{len(expected)} entries", _shown(found))
            for index, (mine, theirs) in enumerate(zip(expected, found, strict=True)):
                self.value(mine, theirs, f"{path}.{index}")
        elif not same(path.rpartition(".")[2], expected, found):
            raise _different(path, _shown(expected), _shown(found))

    def tensor(self, slot: Slot, found: Any, path: str) -> Tensor:
        if found is None:
            raise ConversionError(
                f"{path} has no values", hint="the file is damaged or was written by hand"
            )
        try:
            tensor = to_tensor(np.asarray(found))
        except (TypeError, ValueError) as error:
            raise _different(path, "numbers", _shown(found)) from error
        shape = self.shapes[slot.name]
        if tuple(tensor.shape) != shape:
            raise _different(path, f"the shape {shape}", f"the shape {tuple(tensor.shape)}")
        if not tensor.dtype.is_floating_point and tensor.dtype not in (torch.int64, torch.int32):
            raise _different(path, "floating-point numbers", str(tensor.dtype))
        return tensor


def same(key: str, mine: Any, theirs: Any) -> bool:
    """Tell whether two values of an option mean the same model."""
    if key == "activation_function":
        return bool(_activation(mine) == _activation(theirs))
    if key == "precision":
        return bool(SAME_PRECISION.get(mine, mine) == SAME_PRECISION.get(theirs, theirs))
    if key in ("exclude_types", "pair_exclude_types") and _are_pairs(mine) and _are_pairs(theirs):
        return {frozenset(pair) for pair in mine} == {frozenset(pair) for pair in theirs}
    return _equal(mine, theirs)


def _activation(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    kind, _, threshold = name.lower().partition(":")
    if kind in ("silut", "custom_silu"):
        return "silut", float(threshold or 3.0)
    return _SAME_ACTIVATION.get(kind, kind)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, Sequence) for item in value)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, bool) or isinstance(theirs, bool):
        return mine is theirs or (isinstance(mine, bool) and mine == theirs)
    if isinstance(mine, int | float) and isinstance(theirs, int | float):
        return math.isclose(mine, theirs, rel_tol=1e-12)
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return mine.keys() == theirs.keys() and all(_equal(mine[k], theirs[k]) for k in mine)
    if not _says_something(mine) and not _says_something(theirs):
        return True
    return bool(mine == theirs)


def _check_class(expected: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    name = expected.get("@class")
    if name is not None and found.get("@class", name) != name:
        raise _different(f"{where}.@class", str(name), _shown(found["@class"]))
    known = max(expected.get("@version", 1), _NEWEST.get(str(name), 1))
    version = found.get("@version", 1)
    if name is not None and (not isinstance(version, int) or not 1 <= version <= known):
        raise ConversionError(
            f"{where}.@version is {_shown(version)}; versions up to {known} are known here",
            hint="the file comes from a newer deepmd-kit; write it again with deepmd-kit 3.2",
        )


def _holds_tensors(expected: Any) -> bool:
    if isinstance(expected, Slot):
        return True
    if isinstance(expected, Mapping):
        return any(map(_holds_tensors, expected.values()))
    return isinstance(expected, list) and any(map(_holds_tensors, expected))


def _says_something(value: Any) -> bool:
    """Tell a value from the empty ones that stand for an option that is not used."""
    if value is None or value is False:
        return False
    return not (isinstance(value, Mapping | list | tuple | str) and len(value) == 0)


def _surplus(path: str, key: str) -> ConversionError:
    if key == _COMPRESSED:
        return ConversionError(
            "this model is compressed (its embedding nets are tables)",
            hint="convert the uncompressed model it was made from",
        )
    return ConversionError(f"{path} is nothing that this engine knows", hint=_OTHER_MODEL)


def _different(path: str, expected: str, found: str) -> ConversionError:
    return ConversionError(f"{path} is {found} where {expected} is expected", hint=_OTHER_MODEL)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
