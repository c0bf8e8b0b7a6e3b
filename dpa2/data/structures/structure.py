"""A structure of a file, its elements, how it is read, and what a person should know of that."""

import contextlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import numpy as np
from numpy.typing import NDArray

from schemas.base.errors import DataError
from schemas.base.names import SYMBOLS

if TYPE_CHECKING:
    from ase import Atoms


P = ParamSpec("P")
Floats = NDArray[np.float64]
Periodic = tuple[bool, bool, bool]

NONE = "none"
"""What stands for a key where a label is to be left out."""
VACUUM = 20.0
"""Å between images in directions that are not periodic: more than any cutoff in use."""

_SHOWN = 8


class FrameFaultError(DataError):
    """One frame of a file is of no use; the others may be."""


@dataclass(frozen=True, slots=True)
class Structure:
    """One frame with its element names.

    Attributes:
        source: File and frame, for messages.
        symbols: Element of each atom, in the order of the file; or names of the user's type map.
        coord: (N, 3) Å.
        box: (3, 3) Å, rows are cell vectors; None where no direction is periodic.
        labels: Labels by their name in `Frames`, without the frame axis.
        pbc: Which directions are periodic; the vector of another direction may be anything.
        atoms: The same as ASE read it, where it did: velocities, constraints, columns of the user.
        frame: Its number in the file, from 0.
    """

    source: str
    symbols: tuple[str, ...]
    coord: Floats
    box: Floats | None
    labels: dict[str, Floats] = field(default_factory=dict)
    pbc: Periodic = (True, True, True)
    atoms: "Atoms | None" = None
    frame: int = 0


Items = Iterator[Structure | FrameFaultError]
"""What readers yield: each frame of a file in turn, or why it is of no use."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame that is left out.

    Attributes:
        frame: Its number in the file, from 0.
        reason: Why, in words.
        hint: What to do about it.
        source: File and frame, as in `Structure`; empty where not even that is known.
    """

    frame: int
    reason: str
    hint: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class LabelKeys:
    """Which keys of a file hold its labels; None leaves it to the names, `none` takes no label.

    Attributes:
        energy: Key of the energy, eV.
        forces: Key of the forces, eV/Å.
        stress: Key of the stress, or of the virial (eV) where the key has that word in it.
        stress_unit: Of the stress: a key of `labels.UNITS`; tension is positive unless the unit
            begins with a minus.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    stress_unit: str | None = None

    def of(self, label: str) -> str | None:
        """Return the key asked for a label of `Frames`."""
        return {"energy": self.energy, "force": self.forces, "virial": self.stress}.get(label)


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file of which nothing was taken.

    Attributes:
        file: As it was given.
        reason: Why, in words.
        hint: What to do about it.
    """

    file: str
    reason: str
    hint: str | None

    def __str__(self) -> str:
        return f"{self.reason} ({self.hint})" if self.hint else self.reason


@dataclass(slots=True)
class Reading:
    """The reading of one file: how it is asked for, and what a person should know of it.

    Attributes:
        file: The file as it was given.
        format_name: A format of dpdata or ASE, or `deepmd`; None goes by name and content, until
            the file is read.
        type_names: Names of the types 1, 2, ... (from 0 in deepmd data) of files that number them.
        known_names: Names that are taken as they stand though they may be no elements: those of a
            model's or a user's type map.
        deepmd_names: Names of the types in deepmd data without a `type_map.raw`.
        keys: Which labels are read; None reads none.
        frame: Number of the frame that is being read.
        num_frames: Frames that were read and kept.
        taken: For energy, force and virial: from how many frames' which keys they come.
        dropped: Frames left out.
    """

    file: str
    format_name: str | None = None
    type_names: Sequence[str] | None = None
    known_names: Sequence[str] = ()
    deepmd_names: Sequence[str] | None = None
    keys: LabelKeys | None = LabelKeys()
    frame: int = 0
    num_frames: int = 0
    taken: dict[str, Counter[str]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    _notes: Counter[str] = field(default_factory=Counter)

    @property
    def where(self) -> str:
        """What messages call the frame that is being read."""
        return f"{self.file} frame {self.frame}"

    def note(self, text: str) -> None:
        """Remember a remark on a frame; the same one on many frames is said once."""
        self._notes[text] += 1

    def take(self, label: str, key: str) -> None:
        """Count a frame whose label comes from a key."""
        self.taken.setdefault(label, Counter())[key] += 1

    def wants(self, label: str) -> bool:
        """Tell whether a label is to be read where it is there."""
        return self.keys is not None and self.keys.of(label) != NONE

    def wanted(self, labels: Mapping[str, tuple[str, Any]]) -> dict[str, Floats]:
        """Return the labels to be read of those that a frame has as key and value; count them."""
        found = {}
        for label, (key, value) in labels.items():
            if self.wants(label):
                found[label] = np.asarray(value, dtype=np.float64)
                self.take(label, key)
        return found

    def sentences(self) -> list[str]:
        """Return the remarks, one sentence each."""
        found = []
        by_reason: dict[str, list[int]] = {}
        for item in self.dropped:
            by_reason.setdefault(item.reason, []).append(item.frame)
        for reason, frames in by_reason.items():
            found.append(f"{self.file}: {_frames(frames)} left out: {reason}")
        for text, count in self._notes.items():
            total = f" ({count} frames)" if count > 1 else ""
            found.append(f"{self.file}: {text}{total}")
        for label, keys in self.taken.items():
            if len(keys) > 1:
                parts = ", ".join(f"{key} in {count} frames" for key, count in keys.items())
                found.append(
                    f"{self.file}: the {label} comes from different keys: {parts}; "
                    "are they the same quantity?"
                )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {
            "file": self.file,
            "format": self.format_name or "",
            "frames": self.num_frames,
            "keys": {label: dict(keys) for label, keys in self.taken.items()},
            "dropped": [{"frame": item.frame, "reason": item.reason} for item in self.dropped],
        }


def _frames(numbers: list[int]) -> str:
    """Return `frame 3 is` or `frames 3, 5, 6 are`."""
    if len(numbers) == 1:
        return f"frame {numbers[0]} is"
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"frames {shown}{more} are"


def attempt(
    read: Callable[P, Structure], *args: P.args, **kwargs: P.kwargs
) -> Structure | FrameFaultError:
    """Return what a function reads, or why the frame is of no use."""
    try:
        return read(*args, **kwargs)
    except FrameFaultError as error:
        return error


@contextlib.contextmanager
def foreign(
    error_type: type[DataError] = FrameFaultError,
    said: str = "it cannot be read: ",
    hint: str | None = None,
) -> Iterator[list[warnings.WarningMessage]]:
    """Let another library read: it prints nothing, and whatever it raises becomes words.

    Yields its warnings, which are there when it is done.
    """
    sink = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("always")
        try:
            yield caught
        except (DataError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # whatever goes wrong inside them
            raise error_type(f"{said}{short_reason(error)}", hint=hint) from error


def short_reason(error: BaseException) -> str:
    """Return what an exception of another library says, in one short line."""
    text = " ".join(str(error).split()).removesuffix(".")
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, StopIteration):
        return "it ends too early"
    if isinstance(error, AssertionError):
        return "a part of it is missing"
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 200 else f"{text[:200]}..."


def open_text(path: Path) -> TextIO:
    """Open a text file as it comes: any line ends, a byte order mark, bytes that are no UTF-8."""
    return path.open(encoding="utf-8-sig", errors="replace")


_ELEMENTS = frozenset(SYMBOLS)
_ISOTOPES = {"D": "H", "T": "H"}
_GHOSTS = {"x", "xx", "bq", "gh", "vac", "du", "lp", "ep", "mw", "m"}
# A mass number before; a number, a charge, a tag after: 2H, H1, O2-, Fe3+, Fe_pv, Cu+2, C:1, N(am).
# Not a point: H.5 is VASP's hydrogen of half a charge, no element.
_DECORATED = re.compile(r"\d{0,3}([A-Z][a-z]?)(?:\d*[+-]?\d*|[_:'*].*|\(.*\))")
_GHOST = re.compile(r"(?i)(gh|ghost|bq|x)[-_:(@]?[A-Za-z]{0,2}\d*\)?")

MASSES = {"D": 2.01410177812, "T": 3.01604928199}
"""Masses (u) of the isotopes that have names of their own."""


def element_of(label: str) -> str | None:
    """Return the element that a label means, or None if it means none for sure."""
    if label in _ELEMENTS:
        return label
    if label in _ISOTOPES:
        return _ISOTOPES[label]
    if label.isalpha() and len(label) <= 2:
        return label.capitalize() if label.capitalize() in _ELEMENTS else None
    found = _DECORATED.fullmatch(label)
    return element_of(found[1]) if found and len(found[1]) < len(label) else None


def symbols_of(labels: Iterable[object], reading: Reading) -> tuple[str, ...]:
    """Return the names of atoms: those known as they stand, else elements.

    Raises:
        FrameFaultError: If a label is no element; says which atom's.
    """
    named = [str(label) for label in labels]
    meant: dict[str, str] = {}
    for label in dict.fromkeys(named):
        element = label if label in reading.known_names else element_of(label)
        if element is None:
            raise _no_element(label, named.index(label))
        if element != label:
            reading.note(f"atoms called {label} are taken as {element}")
        meant[label] = element
    return tuple(meant[label] for label in named)


def known_to_ase(symbols: Iterable[str]) -> list[str]:
    """Return the names with X, which ASE reads, in the place of those that are no elements."""
    return [name if name in _ELEMENTS else "X" for name in symbols]


def numbered(
    types: Iterable[int], names: Sequence[str] | None, what: str, first: int
) -> tuple[str, ...]:
    """Return the names of numbered types.

    Args:
        types: Number of each atom's type.
        names: Name of each type, in order.
        what: Of what kind the file is, for messages.
        first: The number of the first type.

    Raises:
        DataError: If there are no names, or too few of them.
    """
    numbers = [int(kind) for kind in types]
    highest = max(numbers, default=first) - first + 1
    if min(numbers, default=first) < first:
        raise DataError(f"the {what} has the type {min(numbers)}, below {first}")
    if names is None or len(names) < highest:
        count = len(set(numbers))
        given = "" if names is None else f" and {len(names)} names are given"
        raise DataError(
            f"the {what} numbers its {count} atom types (up to {max(numbers, default=first)}) and "
            f"does not name them{given}",
            hint="name the element of each, in order: --type-map 'O H' (zoo data convert, predict)",
        )
    return tuple(names[number - first] for number in numbers)


def _no_element(label: str, atom: int) -> FrameFaultError:
    shown = label if len(label) <= 20 else f"{label[:20]}..."
    where = f"atom {atom} (counted from 0) is called {shown!r}"
    if label.lower() in _GHOSTS or _GHOST.fullmatch(label):
        return FrameFaultError(
            f"{where}: a ghost or dummy atom, no element",
            hint="take such atoms out of the file; they carry no electrons and no forces",
        )
    if label.lstrip("-").isdigit():
        return FrameFaultError(
            f"{where}: a number, either of an element or of a type",
            hint="write element symbols, or name the types 1, 2, ... in order: --type-map 'O H'",
        )
    return FrameFaultError(
        f"{where}, which is no element", hint="write element symbols: H, C, Fe; or --type-map names"
    )


def with_word(line: str, column: int, word: str) -> str:
    """Return a line of words with one of them replaced."""
    words = line.split()
    words[column] = word
    return " ".join(words) + "\n"


def column_of(lines: Sequence[str], column: int) -> list[str]:
    """Return one word of each line; empty where a line is too short."""
    found = []
    for line in lines:
        words = line.split(None, column + 1)
        found.append(words[column] if len(words) > column else "")
    return found
