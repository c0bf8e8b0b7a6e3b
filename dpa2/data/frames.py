"""Frames: a batch of structures with their labels, and errors that name frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.base.errors import DataError


@dataclass(frozen=True, slots=True)
class Label:
    """One quantity stored per frame beside coordinates and cell.

    Attributes:
        field: Attribute of `Frames` that carries it.
        stems: Accepted file names without `.npy`; the first is the canonical one (deepmd-kit takes
            the prefixes `atom_` and `atomic_` for the same).
        unit: Unit of the stored numbers.
        per_atom: Whether the width counts per atom or per frame.
        width: Numbers per atom or frame; None where the data decide (fparam, aparam, drdq).
        shape: Trailing shape in `Frames`, `N` being the number of atoms; () for a scalar.
        repeats: Whether a file may hold one number in place of `width` equal ones.
    """

    field: str
    stems: tuple[str, ...]
    unit: str
    per_atom: bool
    width: int | None
    shape: tuple[int, ...]
    repeats: bool = False

    def widths(self) -> tuple[int, ...]:
        """Numbers per atom or frame that a file may hold; empty where the data decide."""
        if self.width is None:
            return ()
        return (self.width, 1) if self.repeats else (self.width,)


# docs/deepmd-format.md, 2.1.
LABELS: dict[str, Label] = {
    label.field: label
    for label in (
        Label("energy", ("energy",), "eV", per_atom=False, width=1, shape=()),
        Label("force", ("force",), "eV/Å", per_atom=True, width=3, shape=(3,)),
        Label("virial", ("virial",), "eV", per_atom=False, width=9, shape=(3, 3)),
        Label("atom_energy", ("atom_ener", "atomic_ener"), "eV", per_atom=True, width=1, shape=()),
        Label(
            "atom_pref",
            ("atom_pref", "atomic_pref"),
            "1",
            per_atom=True,
            width=3,
            shape=(3,),
            repeats=True,  # deepmd-kit documents one weight an atom; its trainer reads three
        ),
        Label(
            "atom_energy_coeff",
            ("atom_ener_coeff", "atomic_ener_coeff"),
            "1",
            per_atom=True,
            width=1,
            shape=(),
        ),
        Label("drdq", ("drdq",), "Å", per_atom=True, width=None, shape=(-1,)),
        Label("fparam", ("fparam",), "any", per_atom=False, width=None, shape=(-1,)),
        Label("aparam", ("aparam",), "any", per_atom=True, width=None, shape=(-1,)),
    )
}

_BY_STEM = {stem: label for label in LABELS.values() for stem in label.stems}


def find_label(name: str) -> Label:
    """Return the label of a field name (`atom_energy`) or a file name (`atom_ener`).

    Raises:
        ValueError: If no label has this name.
    """
    label = LABELS.get(name) or _BY_STEM.get(name)
    if label is None:
        close = get_close_matches(name, [*LABELS, *_BY_STEM], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown label {name!r}{hint}")
    return label


FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PADDING = -1
"""Atom type of a slot that holds no atom."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Structures of equal (padded) size; float64 throughout, a missing label is None.

    Atoms stay in the order of the file unless `sorted_by_type` is asked. Axes: F frames, N atoms.

    Attributes:
        system: Name of the system that the frames come from.
        indices: (F,) frame numbers within that system.
        coord: (F, N, 3) Å.
        box: (F, 3, 3) Å, rows are cell vectors; None without periodic boundaries.
        atom_types: (F, N) indices into the model's type_map, -1 where there is no atom.
        energy: (F,) eV.
        force: (F, N, 3) eV/Å.
        virial: (F, 3, 3) eV.
        atom_energy: (F, N) eV.
        atom_pref: (F, N, 3) weights of the force loss.
        atom_energy_coeff: (F, N) coefficients of the energies of atoms in the energy.
        drdq: (F, N, 3 * G) Å per unit of the G generalised coordinates.
        fparam: (F, P) frame parameters.
        aparam: (F, N, Q) atom parameters.
        mixed: Whether types may differ from frame to frame within a system.
        sources: Name of the system of each frame where a batch mixes systems, else empty.
        records: (F,) numbers of the records that hold the frames, where they are stored under
            other numbers (parts of an LMDB data base); None elsewhere.
        places: (F, N) number of each atom in the file where they were sorted, else None.
    """

    system: str
    indices: IntArray
    coord: FloatArray
    box: FloatArray | None
    atom_types: IntArray
    energy: FloatArray | None = None
    force: FloatArray | None = None
    virial: FloatArray | None = None
    atom_energy: FloatArray | None = None
    atom_pref: FloatArray | None = None
    atom_energy_coeff: FloatArray | None = None
    drdq: FloatArray | None = None
    fparam: FloatArray | None = None
    aparam: FloatArray | None = None
    mixed: bool = False
    sources: tuple[str, ...] = ()
    records: IntArray | None = None
    places: IntArray | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return int(self.coord.shape[0])

    @property
    def num_atoms(self) -> int:
        """Number of atom slots N, padding included."""
        return int(self.coord.shape[1])

    @property
    def real_atoms(self) -> IntArray:
        """(F,) number of atoms per frame, padding left out."""
        return np.asarray((self.atom_types != PADDING).sum(axis=1), dtype=np.int64)

    def source(self, frame: int) -> str:
        """Return the name of the system that a frame of this batch comes from."""
        return self.sources[frame] if self.sources else self.system

    def name_of(self, frame: int) -> str:
        """Return how messages call a frame of this batch: by its system and its number there."""
        record = "" if self.records is None else f" (record {int(self.records[frame])})"
        return f"{self.source(frame)}: frame {int(self.indices[frame])}{record}"

    def place(self, frame: int, atom: int) -> int:
        """Return the number that an atom has in the file."""
        return atom if self.places is None else int(self.places[frame, atom])

    def sorted_by_type(self) -> "Frames":
        """Return the frames as deepmd-kit trains on them: atoms by type, else as in the file.

        A system of mixed type stays as it is. The order matters where empty slots of a neighbour
        list contribute (a mean other than zero: they take the type of the first atom), and where
        a full list has to choose between neighbours at equal distance.
        """
        # Padding (-1) goes behind all atoms: the largest of unsigned numbers.
        order = np.argsort(self.atom_types.astype(np.uint64), axis=1, kind="stable")
        if self.mixed or (np.diff(order, axis=1) > 0).all():
            return self
        return replace(self._ordered(order), places=order)

    def in_file_order(self) -> "Frames":
        """Return the frames as they are stored, before `sorted_by_type`."""
        if self.places is None:
            return self
        return replace(self._ordered(np.argsort(self.places, axis=1)), places=None)

    def _ordered(self, order: IntArray) -> "Frames":
        """Return the frames with what belongs to atoms in another order, (F, N)."""
        rows = np.arange(self.num_frames)[:, np.newaxis]
        changes: dict[str, object] = {
            name: values[rows, order]
            for name, values in self._arrays().items()
            if values is not None and name in _PER_ATOM
        }
        return replace(self, **changes)  # type: ignore[arg-type]

    def select(self, mask: NDArray[np.bool_] | IntArray) -> "Frames":
        """Return the frames that a boolean mask (F,) or an array of positions names."""
        positions = np.flatnonzero(mask) if mask.dtype == np.bool_ else mask
        changes: dict[str, object] = {
            name: None if value is None else value[positions]
            for name, value in self._arrays().items()
        }
        if self.sources:
            changes["sources"] = tuple(self.sources[i] for i in positions)
        return replace(self, **changes)  # type: ignore[arg-type]

    def _arrays(self) -> dict[str, NDArray[np.generic] | None]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_ARRAYS}


_NOT_ARRAYS = {"system", "mixed", "sources"}
_PER_ATOM = {"coord", "atom_types", "places"} | {x.field for x in LABELS.values() if x.per_atom}


def stack(batches: Sequence[Frames]) -> Frames:
    """Join frames of several systems into one batch, padding to the largest frame.

    Padding has atom type -1 and zeros elsewhere. A label that any of the frames lacks is None.

    Raises:
        ValueError: If periodic and non-periodic frames would be joined, or nothing is given.
    """
    if not batches:
        raise ValueError("no frames to join")
    if len({batch.box is None for batch in batches}) > 1:
        raise ValueError("periodic and non-periodic frames cannot share a batch")
    if len(batches) == 1:
        return batches[0]
    num_atoms = max(batch.num_atoms for batch in batches)
    tables = [batch._arrays() for batch in batches]  # noqa: SLF001 - same class
    joined: dict[str, object] = {}
    for name in tables[0]:
        columns = [table[name] for table in tables]
        present = [column for column in columns if column is not None]
        if len(present) < len(columns):
            joined[name] = None
            continue
        if name in _PER_ATOM:
            fill = PADDING if name == "atom_types" else 0
            present = [_pad_atoms(column, num_atoms, fill) for column in present]
        joined[name] = np.concatenate(present)
    names = list(dict.fromkeys(batch.system for batch in batches))
    sources = tuple(batch.source(i) for batch in batches for i in range(batch.num_frames))
    mixed = any(batch.mixed for batch in batches)
    return Frames(system=" + ".join(names), mixed=mixed, sources=sources, **joined)  # type: ignore[arg-type]


def _pad_atoms(array: NDArray[np.generic], num_atoms: int, fill: int) -> NDArray[np.generic]:
    """Lengthen axis 1 to `num_atoms`."""
    missing = num_atoms - array.shape[1]
    if missing == 0:
        return array
    widths = [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, widths, constant_values=fill)


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
