"""Frames that cannot be used: whoever notices one, it is called by its system and its number there.

What looks at several frames knows only their positions among those it was given: it raises a
`FrameError` by position. `named` and `one_frame` say which frames of the data set these are.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from dpa2.data.frames import Frames
from schemas.errors import DataError

T = TypeVar("T")


class Fault(NamedTuple):
    """Why a frame cannot be used, the frame not being named, and what to do."""

    reason: str
    hint: str | None = None


class FrameError(DataError):
    """Some of the frames given cannot be used; the others can.

    Args:
        faults: What is wrong, by position among the frames given.
        message: The sentence; None names the first by its position.
    """

    def __init__(self, faults: Mapping[int, Fault], message: str | None = None) -> None:
        self.faults = dict(sorted(faults.items()))
        first, fault = next(iter(self.faults.items()))
        text = f"frame {first} (counted from 0): {fault.reason}" if message is None else message
        super().__init__(text, hint=fault.hint)

    def moved(self, offset: int) -> "FrameError":
        """Return the error for frames that begin `offset` earlier."""
        return FrameError({offset + place: fault for place, fault in self.faults.items()})


def each_frame(num_frames: int, look: Callable[[int], T]) -> list[T]:
    """Return what `look` finds in every frame, by position.

    Raises:
        FrameError: If it raises a `DataError` for any; has all of them.
    """
    found: list[T] = []
    faults: dict[int, Fault] = {}
    for position in range(num_frames):
        try:
            found.append(look(position))
        except DataError as error:
            faults[position] = Fault(error.message, error.hint)
    if faults:
        raise FrameError(faults, faults[0].reason if num_frames == 1 else None)
    return found


@contextmanager
def named(frames: Frames) -> Iterator[None]:
    """Name, in errors about positions, the frames of a batch by system and number."""
    try:
        yield
    except FrameError as error:
        first, fault = next(iter(error.faults.items()))
        message = f"{frames.name_of(first)}: {fault.reason}"
        if len(error.faults) > 1:
            message += f" ({len(error.faults) - 1} more of the frames read with it are bad)"
        raise FrameError(error.faults, message) from error


@contextmanager
def one_frame(frames: Frames, position: int) -> Iterator[None]:
    """Say of which frame of a batch an error is that was found while looking at it alone."""
    try:
        yield
    except DataError as error:
        fault = Fault(error.message, error.hint)
        message = f"{frames.name_of(position)}: {fault.reason}"
        raise FrameError({position: fault}, message) from error
