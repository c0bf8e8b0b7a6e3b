"""Values that a pickle may hold, bounded in depth and size."""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_MOST_NODES = 5_000_000
_DEEPEST = 100


class TooLargeError(ValueError):
    """A value that is too deep, too large when written out, or a part of itself."""


def check_tree(value: Any, *, most: int = _MOST_NODES) -> int:
    """Return the number of values in a tree of dictionaries, lists and tuples, repeated ones again.

    Whatever walks the tree later (a copy, JSON, a printed card) meets each value as often as this
    counts it, and recurses as deep.

    Args:
        value: The tree.
        most: How many values it may have.

    Raises:
        TooLargeError: It has more, nests deeper than 100, or contains itself.
    """
    return _Counter(most).count(value, 0)[0]


class _Counter:
    def __init__(self, most: int) -> None:
        self.most = most
        self.known: dict[int, tuple[int, int]] = {}

    def count(self, value: Any, depth: int) -> tuple[int, int]:
        """Return the number of values, and how deep they nest."""
        if isinstance(value, Tensor) or not isinstance(value, dict | list | tuple | set):
            return 1, 1
        if id(value) in self.known:
            found = self.known[id(value)]
        else:
            found = self._count_parts(value, depth)
        if depth + found[1] > _DEEPEST:
            raise TooLargeError(f"its values nest deeper than {_DEEPEST}, or contain themselves")
        if found[0] > self.most:
            raise TooLargeError(f"its values are more than {self.most:,} when written out")
        return found

    def _count_parts(self, value: Any, depth: int) -> tuple[int, int]:
        if depth >= _DEEPEST:
            raise TooLargeError(f"its values nest deeper than {_DEEPEST}, or contain themselves")
        total, deepest = 1, 0
        for part in value.values() if isinstance(value, dict) else value:
            number, below = self.count(part, depth + 1)
            total, deepest = total + number, max(deepest, below)
        self.known[id(value)] = total, deepest + 1
        return total, deepest + 1


ITEM_SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one element of each type."""

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
"""Torch's name of a storage of each type."""

_MOST_AXES = 64
_LARGEST = 2**62


class Name(NamedTuple):
    """A function, a class or a constant that the pickle names; it is never looked up.

    Named tuples, because no instruction of a pickle can change one that is made.

    Attributes:
        name: In full.
        stands_for: What a call of it returns the result of; None: it cannot be called.
    """

    name: str
    stands_for: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Build what a call would return.

        Raises:
            TypeError: It cannot be called.
        """
        if self.stands_for is None:
            raise TypeError(f"{self.name} is not callable")
        return self.stands_for(*arguments)


class Storage(NamedTuple):
    """A run of numbers that one or more tensors look at: an entry `data/<key>` of the file."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A tensor as the file describes it, without its numbers.

    Attributes:
        storage: Where the numbers are; tensors that are shared have the same.
        offset: Elements of the storage before the first.
        shape: Length of each axis.
        strides: Elements between neighbours along each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The type of an element, such as `float64`."""
        return self.storage.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Elements of the storage up to and with the last that it looks at."""
        if not self.size:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + 1 + sum((length - 1) * stride for length, stride in steps)


class OutsideStorageError(ValueError):
    """A tensor that looks at memory beyond its storage, or that no memory could hold."""


def storage_of(description: Any) -> Storage:
    """Return the storage that `('storage', type, key, device, elements)` describes.

    Raises:
        TypeError: It is something else.
        ValueError: Its size or key is impossible.
    """
    kind, cls, key, _, size = description
    if kind != "storage" or not isinstance(cls, Name) or not isinstance(key, str):
        raise TypeError
    dtype = STORAGES[cls.name.rpartition(".")[2]]
    if not _is_count(size):
        raise OutsideStorageError(f"a storage of {str(size)[:30]} elements")
    return Storage(key, dtype, size)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _MOST_AXES or not all(map(_is_count, numbers)):
        shown = f"shape {_shown(shape)} and strides {_shown(strides)} from {str(offset)[:30]}"
        raise OutsideStorageError(f"a tensor of {shown}")
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if tensor.end > storage.size:
        raise OutsideStorageError(
            f"a tensor of shape {_shown(shape)}, which reaches beyond the {storage.size} elements "
            f"of its storage `{storage.key}`"
        )
    return tensor


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _shown(values: Sequence[Any]) -> str:
    return "(" + ", ".join(str(value)[:30] for value in values[:8]) + ")"


class StateDict(OrderedDict[Any, Any]):
    """An ordered dictionary without the attributes that torch gives it: versions of modules."""

    def __setstate__(self, state: Any) -> None:
        """Leave the attributes out."""


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TypeError
    return text.encode("latin1")


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": StateDict,
    "collections.defaultdict": lambda *_: defaultdict(None),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch.Size": tuple,
    "torch.device": lambda *arguments: f"device({', '.join(map(str, arguments))[:80]})",
    "_codecs.encode": _encoded,
}
"""What may be called, and what is built instead of it."""

CONSTANTS = frozenset(
    {"torch.bool", "builtins.int", "builtins.float", "builtins.bool", "builtins.list"}
    | {"builtins.dict", "builtins.str", "__builtin__.dict", "__builtin__.list"}
    | {f"torch.{name}" for name in ITEM_SIZES}
    | {f"torch.{name}" for name in STORAGES}
)
"""What may be named, but not called."""
