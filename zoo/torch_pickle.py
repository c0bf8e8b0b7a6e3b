"""Read the pickle inside a PyTorch checkpoint without running anything.

A pickle is a program for a small stack machine that may call any function by name. Here the
machine knows only the instructions and names that a checkpoint of plain containers and tensors
needs; every call builds one of our own descriptions. Anything else is refused and named.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.errors import CheckpointError

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

_STORAGES = {
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
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers that one or more tensors look at: an entry `data/<key>` of the file."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file describes it, without its numbers.

    Args:
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
        number = 1
        for length in self.shape:
            number *= length
        return number


class _Mark:
    """Stands on the stack where a group of values begins."""


_MARK = _Mark()


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class that the pickle names."""

    name: str


def read_pickle(content: bytes, name: str) -> Any:
    """Return what a pickle describes: plain containers, numbers, texts and `Tensor`s.

    Args:
        content: The pickle.
        name: The file's name, for messages.

    Raises:
        CheckpointError: It is damaged, or asks for more than a checkpoint needs.
    """
    try:
        return _Machine(name).run(content)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"{name}: the description of its content is damaged",
            hint="get the file again; it may be truncated",
        ) from error


_DAMAGE = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What instructions in the wrong order lead to."""


class _Machine:
    """The stack machine, with the instructions that PyTorch writes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                return self.stack.pop()
            self._step(instruction.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _WITH_VALUE:
            self.stack.append(argument)
        elif name in _IGNORED:
            return
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in _STEPS:
            _STEPS[name](self)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._global(name, argument)
        else:
            raise self._refused(f"the instruction {name}")

    def _global(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
        else:
            attribute, module = self.stack.pop(), self.stack.pop()
        full = f"{module}.{attribute}"
        known = full in _CALLS or (module.startswith("torch") and attribute in _STORAGES)
        if not known:
            raise self._refused(f"`{full}`")
        self.stack.append(_Name(full))

    def _refused(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.name} asks for {what}, which no checkpoint needs: it is not opened",
            hint="such a file could run a program; use one from a source that you trust",
        )

    def group(self) -> list[Any]:
        """Remove the values above the last mark, and the mark, and return them."""
        index = len(self.stack) - 1
        while self.stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise ValueError("no mark")
        values = self.stack[index + 1 :]
        del self.stack[index:]
        return values

    def group_of(self, length: int) -> list[Any]:
        """Remove the last values and return them."""
        values = self.stack[-length:]
        del self.stack[-length:]
        return values

    def tuple_of(self, length: int) -> None:
        """Replace the last values by a tuple of them."""
        self.stack.append(tuple(self.group_of(length)))

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        target.update(zip(values[::2], values[1::2], strict=True))

    def append_items(self, values: list[Any]) -> None:
        """Put values into the list on the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(values)

    def call(self) -> None:
        """Build what a function of the short list would return."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or function.name not in _CALLS:
            raise self._refused("a call of what is no function of a checkpoint")
        self.stack.append(_CALLS[function.name](*arguments))

    def build(self) -> None:
        """Leave out the attributes of an object: the versions of modules, of no use here."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise self._refused("attributes of an object")

    def storage(self) -> None:
        """Replace the description of a storage on the stack by a `Storage`."""
        kind, cls, key, _, size = self.stack.pop()
        if kind != "storage" or not isinstance(cls, _Name):
            raise TypeError
        dtype = _STORAGES[cls.name.rpartition(".")[2]]
        self.stack.append(Storage(str(key), dtype, int(size)))

    def drop(self) -> None:
        """Remove the last value."""
        self.stack.pop()

    def set_of(self) -> None:
        """Put values into the set on the stack."""
        values = self.group()
        self.stack[-1].update(values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError
    sizes = tuple(int(length) for length in shape)
    return Tensor(storage, int(offset), sizes, tuple(int(step) for step in strides))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered(*pairs: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*pairs)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_WITH_VALUE = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "INT",
    "LONG",
    "BINFLOAT",
    "FLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "UNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
}
_IGNORED = {"PROTO", "FRAME"}
_STEPS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.group())),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "SETITEM": lambda machine: machine.set_items(machine.group_of(2)),
    "SETITEMS": lambda machine: machine.set_items(machine.group()),
    "APPEND": lambda machine: machine.append_items(machine.group_of(1)),
    "APPENDS": lambda machine: machine.append_items(machine.group()),
    "ADDITEMS": _Machine.set_of,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
    "POP": _Machine.drop,
}
