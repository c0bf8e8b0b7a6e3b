"""The description of a checkpoint, read only as far as needed.

The pickle of 28 branches has megabytes: 28 times the name of every shared tensor, the versions of
every module, the optimiser. It begins with the model section, which names the branches, and goes on
with the tensors, branch by branch. So the beginning says what the branches are; where the tensors
of one of them stand is found by looking at a few places in between. Each look must show the branch
of the last one or the next, and everything must be understood; else all is read from the start.
"""

import io
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import locate
from schemas.checkpoint.branch_names import branch_names
from schemas.checkpoint.header import (
    EXTRA,
    Archive,
    CheckpointHeader,
    describe,
    header_of,
    open_archive,
)
from schemas.checkpoint.pickle_values import Tensor
from schemas.checkpoint.unpickler import RestrictedUnpickler, instructions
from zoo.transfer.pieces import RangeFile

_TAIL = 48 * 1024
_READ_AHEAD = 16 * 1024
_WORTH_LOOKING = 128 * 1024
_LOOK = 1536
_KEY = re.compile(rb"X(..\x00\x00)model\.([^.\x00-\x1f]{1,200})\.", re.DOTALL)
_SHORTEST = 8
"""Bytes, at least, of a value and the instruction to remember it."""
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE"})
_CLOSING = frozenset({"SETITEMS", "APPENDS", "ADDITEMS", "TUPLE"})


class RemoteDescription:
    """What the pickle of a checkpoint on the network says.

    Args:
        source: The checkpoint.

    Raises:
        CheckpointError: It is no checkpoint, or one that no program writes.
        TransferError: It cannot be read.
    """

    def __init__(self, source: RangeFile) -> None:
        self._source = source
        source.fetch([(max(0, source.size - _TAIL), source.size)])
        self._archive: Archive = open_archive(source)
        self._start = locate(source, self._archive.description)
        self._end = self._start + self._archive.description.num_bytes
        self._entries = _Entries(source, self._start)
        self._extra: dict[str, Any] = {}
        with suppress(_LostError):
            self._entries.read(lambda key: key.startswith("model."))
            found = self._entries.state().get(EXTRA)
            self._extra = found if isinstance(found, dict) else {}
        self._first = self._entries.key_position
        params = self._extra.get("model_params")
        self._params = params if isinstance(params, dict) else None

    def header(self) -> CheckpointHeader:
        """Return what is known so far; `complete` says whether that is everything."""
        if self._params is None or self._end - self._start <= _WORTH_LOOKING:
            return self._all()
        return self._partial({})

    def with_tensors_of(self, branch: str) -> CheckpointHeader:
        """Return a header that has the tensors of one branch at least.

        Args:
            branch: Its exact name.

        Raises:
            CheckpointError: It is damaged, or asks for more than a checkpoint needs.
            TransferError: It cannot be read.
        """
        if self._params is None:
            return self._all()
        try:
            found = self._tensors_of(branch)
            return self._partial(found) if found else self._all()
        except (_LostError, CheckpointError):
            return self._all()

    def _all(self) -> CheckpointHeader:
        return header_of(self._source, self._archive, describe(self._source, self._archive))

    def _partial(self, tensors: dict[str, Tensor]) -> CheckpointHeader:
        state = {EXTRA: self._extra, **tensors}
        return header_of(self._source, self._archive, {"model": state}, complete=False)

    def _tensors_of(self, branch: str) -> dict[str, Tensor]:
        order = branch_names(self._params or {})
        index = order.index(branch)
        numbers = {name: number for number, name in enumerate(order)}
        entries = self._entries
        entries.read(lambda key: numbers.get(_branch_of(key), 0) > 0)
        length = max(1, entries.key_position - self._first)
        if index > 1 and self._first + length * index - entries.position > _WORTH_LOOKING:
            start = self._look_for(entries.key_position, index, order, length)
            entries = _Entries(self._source, start, entries)
        entries.read(lambda key: numbers.get(_branch_of(key), 0) > index)
        prefix = f"model.{branch}."
        found = {key: value for key, value in entries.state().items() if key.startswith(prefix)}
        if not all(isinstance(value, Tensor) for value in found.values()):
            raise _LostError
        return found

    def _look_for(self, begin: int, index: int, order: list[str], length: int) -> int:
        """Return where an entry of the branch before stands: the wanted ones begin after it."""
        step = max(length * 2 // 3, _LOOK)
        places = list(range(begin, self._end, step))
        last, start = 1, begin
        for first in range(0, len(places), 8):
            group = places[first : first + 8]
            wanted = [place for place in group if place <= self._first + (index + 2) * length]
            self._source.fetch((place, place + _LOOK) for place in wanted)
            for place in group:
                found = self._look(place)
                if found is None or order[last : last + 2].count(found[1]) == 0:
                    raise _LostError
                last = order.index(found[1])
                if last >= index:
                    return start
                start = found[0]
        raise _LostError

    def _look(self, place: int) -> tuple[int, str] | None:
        """Return where the next entry after a place begins, and the branch that it names."""
        window = self._source.read_at(place, min(_LOOK, self._end - place))
        for match in _KEY.finditer(window):
            length = int.from_bytes(match[1], "little")
            text = window[match.start() + 5 : match.start() + 5 + length]
            if 10 < length == len(text) and text.isascii() and text.decode().isprintable():
                return place + match.start(), match[2].decode()
        return None


class _LostError(Exception):
    """The entries do not stand where they were expected."""


def _branch_of(key: str) -> str:
    """Return the branch that a key names; nothing for a key of another form."""
    parts = key.split(".", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "model" else ""


class _Stream(io.RawIOBase):
    """A file from an offset on, as a stream."""

    def __init__(self, source: RangeFile, start: int) -> None:
        super().__init__()
        self._source, self._position = source, start

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the file."""
        return self._position

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Fill a buffer, and return how many bytes it got."""
        view = memoryview(buffer)
        content = self._source.read_at(self._position, len(view))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


class _Entries:
    """The entries of a state dictionary, read until a key says that it is enough.

    Args:
        source: The checkpoint.
        start: Where the pickle, or an entry within it, begins.
        before: Entries in front, whose remembered values are known here; None: nothing is in front.

    Attributes:
        start: Where its first instruction stands.
        key_position: Where the last key stands.
    """

    def __init__(self, source: RangeFile, start: int, before: "_Entries | None" = None) -> None:
        self._source, self.start, self.key_position = source, start, start
        self._stream = io.BufferedReader(_Stream(source, start), _READ_AHEAD)
        skipped = 0 if before is None else (start - before.start) // _SHORTEST
        self._steps = instructions(self._stream, source.name, remembered=skipped)
        self._marks = 0 if before is None else 1
        self._depth = None if before is None else 1
        self._memo = None if before is None else before.unpickled()[1]

    @property
    def position(self) -> int:
        """Where in the file the next instruction stands."""
        return self._stream.tell()

    def read(self, enough: Callable[[str], bool]) -> None:
        """Go on until an entry's key is enough, or the entries end; then stand behind that key."""
        last = ""
        for name, argument, offset in self._steps:
            if name == "PROTO" and argument >= 4:
                raise _LostError  # numbers of remembered values follow from those before them
            if last == "SETITEMS" and self._depth == self._marks + 1 and name != "MARK":
                self.key_position = offset
                return
            if name == "MARK":
                self._marks += 1
            elif name in _CLOSING:
                self._marks -= 1
            elif name in _TEXTS and self._depth is None and argument == EXTRA:
                self._depth = self._marks
            elif name in _TEXTS and self._depth == self._marks:
                self.key_position = offset
                if enough(argument):
                    return
            last = name

    def unpickled(self) -> tuple[Any, Any]:
        """Return what the pickle says up to the last key, and the values that it remembers."""
        content = self._source.read_at(self.start, self.key_position - self.start)
        begin = b"" if self._memo is None else b"\x80\x02}("
        ends = b"u" * self._marks + b"."
        reader = RestrictedUnpickler(begin + content + ends, self._source.name)
        if self._memo is not None:
            reader.memo = self._memo
        # the proxy itself: a copy of it, a dictionary, would be taken for an empty memory
        return reader.load(), reader.memo

    def state(self) -> dict[Any, Any]:
        """Return the entries up to the last key."""
        found = self.unpickled()[0]
        inner = found.get("model", found) if isinstance(found, dict) else None
        if not isinstance(inner, dict):
            raise _LostError
        return inner
