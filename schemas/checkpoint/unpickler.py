"""Read the pickle inside a PyTorch checkpoint without running anything.

A pickle is a program for a small stack machine that may call any function by name. Here the
machine knows only the instructions and names that a checkpoint of plain containers and tensors
needs; every call builds one of our own descriptions. Anything else is refused and named, and so
is a program that builds more than a checkpoint could hold.
"""

import pickletools
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from schemas.base.errors import CheckpointError
from schemas.checkpoint.pickle_values import (
    CALLS,
    CONSTANTS,
    Name,
    OutsideStorageError,
    Tensor,
    check_key,
    storage_of,
)

_MEMORY = 128 * 2**20
"""Bytes that the values of a pickle may take; 28 large branches and their optimiser take 17 MB."""

_LONGEST_NUMBER = 1024
"""Bits; states of random generators have 128."""

_MARK = Name("mark")
"""Stands on the stack where a group of values begins."""


def read_pickle(content: "bytes | IO[bytes]", name: str, machine: "Machine | None" = None) -> Any:
    """Return what a pickle describes: plain containers, numbers, texts and `Tensor`s.

    Args:
        content: The pickle.
        name: The file's name, for messages.
        machine: What runs it; None: one for checkpoints.

    Raises:
        CheckpointError: It is damaged, or asks for more than a checkpoint needs.
    """
    machine = machine or Machine(name)
    for instruction, _ in machine.steps(content):
        if instruction == "STOP":
            return machine.result()
    raise machine.damaged()


class Machine:
    """The stack machine, with the instructions that PyTorch writes.

    Args:
        name: The file's name, for messages.

    Attributes:
        stack: Values that are not yet part of another.
        memo: Values that may be referred to again, by number.
        protocol: Version of the pickle format.
        calls: What may be called, and what is built instead of it.
    """

    calls = CALLS

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self._spent = 0

    def steps(self, content: "bytes | IO[bytes]") -> Iterator[tuple[str, Any]]:
        """Run instruction after instruction, and yield each one and its argument once it has run.

        Raises:
            CheckpointError: It is damaged, or asks for more than a checkpoint needs.
        """
        try:
            for instruction, argument, _ in pickletools.genops(content):
                self._step(instruction.name, argument)
                yield instruction.name, argument
        except OutsideStorageError as error:
            raise CheckpointError(
                f"{self.name} describes {error}: it is not opened",
                hint="no program writes such a file; use one from a source that you trust",
            ) from error
        except _DAMAGE as error:
            raise self.damaged() from error

    def damaged(self) -> CheckpointError:
        """Return the error for a pickle that makes no sense."""
        return CheckpointError(
            f"{self.name}: the description of its content is damaged",
            hint="get the file again; it may be truncated",
        )

    def result(self) -> Any:
        """Return the value that is left in the end.

        Raises:
            CheckpointError: There is none.
        """
        if len(self.stack) != 1:
            raise self.damaged()
        return self.stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        self._spend(_COSTS.get(name, 16))
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _WITH_VALUE:
            self._spend(sys.getsizeof(argument))
            self.stack.append(_checked(argument))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._global(name, argument)
        elif name == "PROTO":
            self.protocol = argument
        elif name in _STEPS:
            _STEPS[name](self)
        else:
            raise self.refused(f"the instruction {name}")

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > _MEMORY:
            raise CheckpointError(
                f"{self.name} describes more values than a checkpoint has: it is not opened",
                hint="it would fill the memory; use a file from a source that you trust",
            )

    def _global(self, instruction: str, argument: Any) -> None:
        if instruction == "GLOBAL":
            module, _, attribute = argument.partition(" ")
        else:
            attribute, module = self.stack.pop(), self.stack.pop()
        full = f"{module}.{attribute}"
        if not self.allows(full):
            shown = "".join(c if c.isprintable() else "?" for c in full[:200])
            raise self.refused(f"`{shown}`")
        self.stack.append(Name(full))

    def allows(self, full: str) -> bool:
        """Tell whether a name may stand in the pickle."""
        return full in self.calls or full in CONSTANTS

    def refused(self, what: str) -> CheckpointError:
        """Return the error for what no checkpoint needs."""
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
        self._spend(8 * len(values))
        return values

    def group_of(self, length: int) -> list[Any]:
        """Remove the last values and return them."""
        values = self.stack[-length:]
        if len(values) < length or _MARK in values:
            raise ValueError("not enough values")
        del self.stack[-length:]
        return values

    def mark(self) -> None:
        """Let a group of values begin."""
        self.stack.append(_MARK)

    def memoize(self) -> None:
        """Remember the last value under the next number."""
        self.memo[len(self.memo)] = self.stack[-1]

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        self._spend(100 * len(values) // 2)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[check_key(key)] = value

    def append_items(self, values: list[Any]) -> None:
        """Put values into the list on the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(values)

    def call(self) -> None:
        """Build what a function of the short list would return."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or function.name not in self.calls:
            what = f"`{function.name}`" if isinstance(function, Name) else "a value"
            raise self.refused(f"a call of {what}")
        if not isinstance(arguments, tuple):
            raise TypeError
        self.stack.append(self.calls[function.name](*arguments))

    def build(self) -> None:
        """Leave out the attributes of an object: the versions of modules, of no use here."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise self.refused("attributes of an object")

    def new_object(self) -> None:
        """Refuse an object of a class: a checkpoint has none."""
        raise self.refused("the instruction NEWOBJ")

    def storage(self) -> None:
        """Replace the description of a storage on the stack by a `Storage`."""
        self.stack.append(storage_of(self.stack.pop()))

    @staticmethod
    def is_between_entries(value: Any) -> bool:
        """Tell whether a value is one after which a dictionary of tensors has its next key."""
        return value is _MARK or isinstance(value, Tensor)

    def start_entries(self) -> None:
        """Forget all but the memo, and expect entries of a dictionary: for reading from within."""
        self.stack = [{}, _MARK]

    def set_of(self) -> None:
        """Put values into the set on the stack."""
        values = self.group()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise TypeError
        target.update(check_key(value) for value in values)

    def _pop(self) -> None:
        self.stack.pop()


def _checked(value: Any) -> Any:
    """Return a number or text that can be printed."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
        raise ValueError("a number without end")
    if isinstance(value, str) and not value.isascii():
        value.encode()  # lone surrogates are no text
    return value


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

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_COSTS = {"EMPTY_DICT": 80, "EMPTY_LIST": 72, "EMPTY_SET": 230, "REDUCE": 320, "GLOBAL": 160} | {
    "BINPUT": 100,
    "LONG_BINPUT": 100,
    "PUT": 100,
    "MEMOIZE": 100,
    "STACK_GLOBAL": 160,
    "BINPERSID": 160,
    "TUPLE": 64,
    "TUPLE1": 64,
    "TUPLE2": 64,
    "TUPLE3": 72,
}
"""Bytes of memory that an instruction takes, about."""

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
_STEPS: dict[str, Callable[[Machine], None]] = {
    "FRAME": lambda _: None,
    "STOP": lambda _: None,
    "MARK": Machine.mark,
    "MEMOIZE": Machine.memoize,
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.group())),
    "TUPLE1": lambda machine: machine.stack.append(tuple(machine.group_of(1))),
    "TUPLE2": lambda machine: machine.stack.append(tuple(machine.group_of(2))),
    "TUPLE3": lambda machine: machine.stack.append(tuple(machine.group_of(3))),
    "SETITEM": lambda machine: machine.set_items(machine.group_of(2)),
    "SETITEMS": lambda machine: machine.set_items(machine.group()),
    "APPEND": lambda machine: machine.append_items(machine.group_of(1)),
    "APPENDS": lambda machine: machine.append_items(machine.group()),
    "ADDITEMS": Machine.set_of,
    "REDUCE": Machine.call,
    "BUILD": lambda machine: machine.build(),
    "NEWOBJ": lambda machine: machine.new_object(),
    "BINPERSID": Machine.storage,
    "POP": Machine._pop,  # noqa: SLF001 - its own method
}
