"""The description of a checkpoint, read only as far as needed.

The pickle of 28 branches has megabytes: 28 times the name of every shared tensor, the versions of
every module, the optimiser. It begins with the model section, which names the branches, and goes on
with the tensors, branch by branch. So the beginning says what the branches are; where the tensors
of one of them stand is found by looking at a few places in between. Each look must show the branch
of the last one or the next, and everything must be understood; else all is read from the start.
"""

import io
import re
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
from schemas.checkpoint.random_access import Stream
from schemas.checkpoint.unpickler import Machine
from zoo.transfer.pieces import RangeFile

_TAIL = 48 * 1024
_READ_AHEAD = 16 * 1024
_WORTH_LOOKING = 128 * 1024
_LOOK = 1536
_KEY = re.compile(rb"X(..\x00\x00)model\.([^.\x00-\x1f]{1,200})\.", re.DOTALL)
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINGET", "LONG_BINGET"})


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
        self._reader = _Reader(source, self._start, self._end, Machine(source.name))
        self._reader.read(lambda key: key.startswith("model."))
        self._first = self._reader.key_position
        self._params = self._reader.model_params

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
        state = {EXTRA: self._reader.extra, **tensors}
        return header_of(self._source, self._archive, {"model": state}, complete=False)

    def _tensors_of(self, branch: str) -> dict[str, Tensor]:
        order = branch_names(self._params or {})
        index = order.index(branch)
        prefixes = {f"model.{name}.": number for number, name in enumerate(order)}
        self._reader.read(lambda key: _number(prefixes, key) not in (0, None))
        length = max(1, self._reader.key_position - self._first)
        if index > 1 and self._first + length * index - self._reader.position > _WORTH_LOOKING:
            start = self._look_for(index, order, length)
            self._reader = self._reader.from_within(start)
        self._reader.read(lambda key: (_number(prefixes, key) or 0) > index)
        prefix = f"model.{branch}."
        return {name: t for name, t in self._reader.tensors.items() if name.startswith(prefix)}

    def _look_for(self, index: int, order: list[str], length: int) -> int:
        """Return where an entry of the branch before stands: the wanted ones begin after it."""
        step = max(length * 2 // 3, _LOOK)
        places = list(range(self._reader.key_position, self._end, step))
        last, start = 1, self._reader.key_position
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


def _number(prefixes: dict[str, int], key: str) -> int | None:
    parts = key.split(".", 2)
    return prefixes.get(f"{parts[0]}.{parts[1]}.") if len(parts) == 3 else None


class _Section:
    """A part of a file as a file."""

    def __init__(self, source: RangeFile, start: int, end: int) -> None:
        self.name, self.size = source.name, end - start
        self._source, self._start = source, start

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on."""
        return self._source.read_at(self._start + offset, min(length, self.size - offset))


class _Reader:
    """Runs the pickle until a key says that it is enough, and can go on from there."""

    def __init__(self, source: RangeFile, start: int, end: int, machine: Machine) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.extra: dict[str, Any] = {}
        self.key_position = start
        self._source, self._start, self._end = source, start, end
        self._machine = machine
        stream = Stream(_Section(source, start, end))
        self._stream = io.BufferedReader(stream, _READ_AHEAD)
        self._steps = machine.steps(self._stream)

    @property
    def model_params(self) -> dict[str, Any] | None:
        """The model section, if the pickle has begun with it."""
        found = self.extra.get("model_params")
        return found if isinstance(found, dict) else None

    @property
    def position(self) -> int:
        """Where in the file the next instruction stands."""
        return self._start + self._stream.tell()

    def from_within(self, position: int) -> "_Reader":
        """Return a reader of entries that begin elsewhere; what was remembered stays known."""
        if self._machine.protocol >= 4:
            raise _LostError  # numbers of remembered values follow from the number of those before
        machine = Machine(self._source.name)
        machine.memo = dict(self._machine.memo)
        machine.start_entries()
        reader = _Reader(self._source, position, self._end, machine)
        reader.extra = self.extra
        return reader

    def read(self, enough: Any) -> None:
        """Go on until an entry's key is enough, or the entries end; then stand behind that key."""
        stack = self._machine.stack
        before, last = self.position, ""
        for name, _ in self._steps:
            stack = self._machine.stack
            if name in _TEXTS and self._is_key():
                self.key_position = before
                if enough(stack[-1]):
                    return
            elif last == "SETITEMS" and name != "MARK" and self.tensors:
                return
            elif len(stack) > 1 and isinstance(stack[-1], Tensor) and isinstance(stack[-2], str):
                self.tensors[stack[-2]] = stack[-1]
            before, last = self.position, name

    def _is_key(self) -> bool:
        """Tell whether the last value begins an entry of the state dict."""
        stack = self._machine.stack
        if len(stack) < 2 or not isinstance(stack[-1], str):
            return False
        if len(stack) > 2 and stack[-3] == EXTRA and isinstance(stack[-2], dict):
            self.extra = stack[-2]
            return True
        return bool(self.extra) and self._machine.is_between_entries(stack[-2])
