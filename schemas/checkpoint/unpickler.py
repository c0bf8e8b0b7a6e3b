"""Read the pickle inside a PyTorch checkpoint without running anything.

A pickle is a program that may call any function by name. Before it runs, every instruction is
compared with the few that a checkpoint of plain containers and tensors needs, and the memory that
all of them take is added up. Python's unpickler then gets, for every name in it, a description of
ours: what is called builds such a description, and nothing is ever looked up or imported.
"""

import io
import pickle
import pickletools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from schemas.base.errors import CheckpointError
from schemas.checkpoint.pickle_values import CALLS, CONSTANTS, Name, OutsideStorageError, storage_of

_MEMORY = 128 * 2**20
"""Bytes that the values of a pickle may take; 28 large branches and their optimiser take 17 MB."""

_LONGEST_NUMBER = 1024
"""Bits; states of random generators have 128."""

_MOST_LARGE_NUMBERS = 10_000
"""Whole numbers of more than 32 bits; they can be chosen so that keys of a dictionary collide."""

_COSTS = {
    **dict.fromkeys(["NONE", "NEWTRUE", "NEWFALSE", "MARK", "PROTO", "FRAME", "STOP", "POP"], 16),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG"], 16),
    **dict.fromkeys(["BINFLOAT", "FLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"], 16),
    **dict.fromkeys(["UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINGET", "LONG_BINGET", "GET"], 16),
    **dict.fromkeys(["BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"], 100),
    **dict.fromkeys(["TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"], 72),
    **dict.fromkeys(["APPEND", "APPENDS", "ADDITEMS", "SETITEMS", "BUILD"], 32),
    **dict.fromkeys(["GLOBAL", "STACK_GLOBAL", "BINPERSID"], 160),
    "EMPTY_DICT": 80,
    "EMPTY_LIST": 72,
    "EMPTY_TUPLE": 16,
    "EMPTY_SET": 230,
    "REDUCE": 320,
    "SETITEM": 100,
}
"""Bytes of memory that an instruction takes, about; no other instruction may occur."""

_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, LookupError, ValueError, ArithmeticError),
    *(RecursionError, MemoryError),
)
"""What instructions in the wrong order lead to."""

_OBJECT_COSTS = {"NEWOBJ": 400}
"""The same for objects of TorchScript's classes, each of which costs a class of ours."""


class Allowed:
    """What a pickle may say.

    Args:
        calls: What may be called, and what is built instead of it.
        constants: What may be named, but not called.
        costs: Bytes of memory of each instruction that may occur.
        class_of: Returns what stands for a class of that name, or None; with such a class objects
            may be made.
    """

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]] = CALLS,
        class_of: Callable[[str], type | None] | None = None,
    ) -> None:
        self.calls = calls
        self.costs = _COSTS if class_of is None else _COSTS | _OBJECT_COSTS
        self._class_of = class_of

    def named(self, full: str) -> Any:
        """Return what stands for a name; None if it may not occur."""
        if full in self.calls:
            return Name(full, self.calls[full])
        if full in CONSTANTS:
            return Name(full)
        return None if self._class_of is None else self._class_of(full)


CHECKPOINT = Allowed()


def read_pickle(content: bytes, name: str, allowed: Allowed = CHECKPOINT) -> Any:
    """Return what a pickle describes: plain containers, numbers, texts and `Tensor`s.

    Args:
        content: The pickle.
        name: The file's name, for messages.
        allowed: What it may say.

    Raises:
        CheckpointError: It is damaged, or asks for more than a checkpoint needs.
    """
    for _ in instructions(content, name, allowed):
        pass
    return RestrictedUnpickler(content, name, allowed).load()


def instructions(
    content: bytes | IO[bytes], name: str, allowed: Allowed = CHECKPOINT, *, remembered: int = 0
) -> Iterator[tuple[str, Any, int]]:
    """Yield the instructions of a pickle, their arguments and where they stand, each one checked.

    Args:
        content: The pickle, or a part of it.
        name: The file's name, for messages.
        allowed: What it may say.
        remembered: How many values may have been remembered before this part.

    Raises:
        CheckpointError: It is damaged, or asks for more than a checkpoint needs.
    """
    spent = large = 0
    with _damage(name):
        for instruction, argument, position in pickletools.genops(content):
            if instruction.name not in allowed.costs:
                raise _refused(name, f"the instruction {instruction.name}")
            spent += allowed.costs[instruction.name]
            if instruction.name == "GLOBAL":
                _allowed(name, allowed, str(argument).replace(" ", ".", 1))
            elif instruction.name in ("BINPUT", "LONG_BINPUT", "PUT"):
                remembered += 1
                if argument is None or argument > 2 * remembered:
                    raise ValueError("a place in the memo that would have to be made")
            elif isinstance(argument, str | bytes | int):
                spent += sys.getsizeof(argument)
                large += _checked(argument)
            if spent > _MEMORY or large > _MOST_LARGE_NUMBERS:
                raise CheckpointError(
                    f"{name} describes more values than a checkpoint has: it is not opened",
                    hint="it would fill the memory; use a file from a source that you trust",
                )
            yield instruction.name, argument, position or 0


class RestrictedUnpickler(pickle.Unpickler):
    """Builds what checked instructions say, from nothing but descriptions of ours.

    Args:
        content: The pickle; `instructions` has passed it.
        name: The file's name, for messages.
        allowed: What it may say.
    """

    def __init__(self, content: bytes, name: str, allowed: Allowed = CHECKPOINT) -> None:
        super().__init__(io.BytesIO(content))
        self._name = name
        self._allowed = allowed

    def load(self) -> Any:
        """Return the value.

        Raises:
            CheckpointError: It is damaged, or asks for more than a checkpoint needs.
        """
        with _damage(self._name):
            return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        return _allowed(self._name, self._allowed, f"{module}.{name}")

    def persistent_load(self, description: Any) -> Any:
        """Return the storage that is described."""
        return storage_of(description)


def _damaged(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: the description of its content is damaged",
        hint="get the file again; it may be truncated",
    )


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turn what instructions in the wrong order lead to into an error that names the file."""
    try:
        yield
    except OutsideStorageError as error:
        raise CheckpointError(
            f"{name} describes {error}: it is not opened",
            hint="no program writes such a file; use one from a source that you trust",
        ) from error
    except AttributeError as error:  # of BUILD, for whatever takes no attributes
        raise _refused(name, "attributes of an object") from error
    except TypeError as error:
        called, found, _ = str(error).partition(" is not callable")
        if found:
            raise _refused(name, f"a call of `{called}`") from error
        raise _damaged(name) from error
    except _DAMAGE as error:
        raise _damaged(name) from error


def _allowed(name: str, allowed: Allowed, full: str) -> Any:
    found = allowed.named(full)
    if found is None:
        shown = "".join(c if c.isprintable() else "?" for c in full[:200])
        raise _refused(name, f"`{shown}`")
    return found


def _refused(name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{name} asks for {what}, which no checkpoint needs: it is not opened",
        hint="such a file could run a program; use one from a source that you trust",
    )


def _checked(value: str | bytes | int) -> bool:
    """Refuse a number or text that cannot be printed; tell whether it is a large number."""
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_NUMBER:
            raise ValueError("a number without end")
        return value.bit_length() > 32
    if isinstance(value, str) and not value.isascii():
        value.encode()  # lone surrogates are no text
    return False
