"""One pass over a system: everything that the checks need to know, in numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import Census, census, heights
from dpa2.data.frames import LABELS, FloatArray, Frames, IntArray
from dpa2.data.preflight.units import (
    are_pulled,
    bond_ratios,
    covalent_radii,
    guess_unit,
    is_bonded,
)
from dpa2.data.preflight.work import NUM_SUMS, is_lopsided, virial_sums, work_sums
from dpa2.data.system import System, add_counts

_ATOMS_AT_ONCE = 65_536
_ANYWHERE = 1e7
"""Å; numbers beyond are no coordinates."""
_ANYTHING = 1e30
"""Numbers beyond are no labels in any unit."""
_BONDED_SHARE = 0.2
_FRAMES_LOOKED_AT = 4


@dataclass(frozen=True, slots=True)
class BadNumber:
    """The first NaN or infinity of an array, and how many frames have one."""

    array: str
    frame: int
    atom: int
    value: float
    num_frames: int


@dataclass(frozen=True, slots=True)
class ClosePair:
    """The two atoms of a system that are closest to each other; distance in Å."""

    distance: float
    frame: int
    atoms: tuple[int, int]
    elements: tuple[str, str]


def _empty() -> FloatArray:
    return np.zeros(0)


@dataclass(slots=True)
class Survey:
    """A system in numbers. F frames, N atom slots, T types, C radii.

    Attributes:
        num_atoms: Atom slots per frame.
        bad: Numbers that are not finite.
        closest: The closest pair; None where no atom has a neighbour.
        shortest: (F,) Å between the closest two atoms of each frame, infinite where unknown.
        bonds: Å between nearest neighbours, the least of each pair of elements.
        unit: In what the coordinates seem to be (`units.guess_unit`); empty for Å.
        counts: For each of C radii, how many atoms have 0, 1, 2, ... neighbours.
        most: For each radius, the frame and atom with most neighbours.
        composition: (F, T) atoms of each type.
        energy: (F,) eV; empty without energies.
        force: (F,) eV/Å, largest component; empty without forces.
        force_rms: (F,) eV/Å; empty without forces.
        work: Sums of changes of the energy and work (`work.work_sums`).
        virials: Sums that compare virials with forces (`work.virial_sums`).
        pressure: (F,) eV/Å³, largest component of the virial over the volume; empty without.
        asymmetry: (F,) largest difference of a virial from its transpose over its largest number.
        volume: Å³, mean of the cells; 0 without.
        bond_ratio: Median distance of nearest neighbours over the sum of their covalent radii.
        lopsided: Whether frames have forces of 0 on atoms with more neighbours to one side.
        hashes: (F,) of cell, coordinates (single precision) and types.
        left_handed: (F,) whether the determinant of the cell is negative.
        thinnest: Å between opposite faces, least of all cells; infinite without cells.
    """

    num_atoms: int
    bad: tuple[BadNumber, ...] = ()
    closest: ClosePair | None = None
    shortest: FloatArray = field(default_factory=_empty)
    bonds: dict[str, float] = field(default_factory=dict)
    unit: str = ""
    counts: tuple[IntArray, ...] = ()
    most: tuple[tuple[int, int], ...] = ()
    composition: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    energy: FloatArray = field(default_factory=_empty)
    force: FloatArray = field(default_factory=_empty)
    force_rms: FloatArray = field(default_factory=_empty)
    work: FloatArray = field(default_factory=lambda: np.zeros(NUM_SUMS))
    virials: FloatArray = field(default_factory=lambda: np.zeros(4))
    pressure: FloatArray = field(default_factory=_empty)
    asymmetry: FloatArray = field(default_factory=_empty)
    volume: float = 0.0
    bond_ratio: float = np.inf
    lopsided: bool = False
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    left_handed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    thinnest: float = np.inf

    @property
    def num_frames(self) -> int:
        """Frames."""
        return len(self.shortest)

    @property
    def same_number(self) -> int:
        """Atoms per frame; 0 where that varies."""
        numbers = self.composition.sum(axis=1)
        return int(numbers[0]) if (numbers == numbers[0]).all() else 0


def survey(system: System, elements: Sequence[str], radii: Sequence[float]) -> Survey:
    """Read a system once, from beginning to end.

    Args:
        system: What to read.
        elements: Name of each atom type.
        radii: Within which neighbours are counted, Å; none counts within nothing but still looks
            for the nearest atoms.
    """
    at_once = max(1, _ATOMS_AT_ONCE // max(1, system.num_atoms))
    surveyor = _Surveyor(system, elements, radii)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are reported, not summed
        for frames in system.chunks(at_once):
            surveyor.add(frames)
    return surveyor.result()


class _Surveyor:
    """Adds up chunks of frames."""

    def __init__(self, system: System, elements: Sequence[str], radii: Sequence[float]) -> None:
        self.elements = list(elements)
        self.facts = Survey(system.num_atoms)
        self.radii = list(radii)
        self.covalent = covalent_radii(self.elements)
        self.bad: dict[str, BadNumber] = {}
        self.units: set[str] = set()
        self.num_bonded = np.zeros(2)
        self.volumes: list[float] = []
        self.bond_ratios: list[float] = []
        self.counts = [np.zeros(1, dtype=np.int64) for _ in self.radii]
        self.most = [(-1, 0, 0) for _ in self.radii]
        self.names = np.array([_number_of(name) for name in self.elements], dtype=np.uint64)
        self.columns: dict[str, list[NDArray[np.generic]]] = {}

    def add(self, frames: Frames) -> None:
        """Look at some frames."""
        sound = self._finite(frames)
        energy, force = frames.energy, frames.force
        real = frames.atom_types >= 0
        types = len(self.elements)
        flat = frames.atom_types + types * np.arange(frames.num_frames)[:, None]
        counted = np.bincount(flat[real], minlength=types * frames.num_frames)
        self._append("composition", counted.reshape(frames.num_frames, types))
        self._append("hashes", np.fromiter(_hashes(frames, self.names), dtype=np.uint64))
        if energy is not None:
            self._append("energy", energy)
        if force is not None:
            size = np.maximum(real.sum(axis=1), 1) * 3
            self._append("force", np.abs(force).max(axis=(1, 2), initial=0.0))
            self._append("force_rms", np.sqrt(np.square(force).sum(axis=(1, 2)) / size))
        left = np.zeros(frames.num_frames, dtype=np.bool_)
        shortest = np.full(frames.num_frames, np.inf)
        if sound.any():
            part = frames if sound.all() else frames.select(sound)
            if part.box is not None:
                left[sound] = np.linalg.det(part.box) < 0
                self.facts.thinnest = min(self.facts.thinnest, float(heights(part.box).min()))
                self.volumes += np.abs(np.linalg.det(part.box)).tolist()
            found = census(part.coord, part.box, part.atom_types, self.radii or [1.0])
            shortest[sound] = found.nearest.min(axis=1, initial=np.inf)
            self._count(part, found)
            self._measure(part, found)
            self.facts.work += work_sums(part)
            if not self.facts.virials.any():  # of the first chunk of frames alone
                self.facts.virials = virial_sums(part)
            self._guess_units(part, found)
            self._look_around(part)
        if frames.virial is not None:
            largest = np.abs(frames.virial).max(axis=(1, 2))
            skew = np.abs(frames.virial - frames.virial.transpose(0, 2, 1)).max(axis=(1, 2))
            self._append("asymmetry", np.divide(skew, largest, where=largest > 0, out=skew * 0))
            if frames.box is not None:
                self._append("pressure", largest / np.abs(np.linalg.det(frames.box)))
        self._append("left_handed", left)
        self._append("shortest", shortest)

    def result(self) -> Survey:
        """Return what all frames say."""
        facts, (bonded, known) = self.facts, self.num_bonded
        for name, parts in self.columns.items():
            setattr(facts, name, np.concatenate(parts))
        facts.bad = tuple(self.bad.values())
        facts.bonds = dict(sorted(facts.bonds.items()))
        facts.counts = tuple(self.counts)
        facts.most = tuple((frame, atom) for _, frame, atom in self.most)
        if len(self.units) == 1 and bonded < _BONDED_SHARE * known:
            facts.unit = next(iter(self.units))
        if self.volumes:
            facts.volume = float(np.mean(self.volumes))
        if self.bond_ratios:
            facts.bond_ratio = float(np.median(self.bond_ratios))
        return facts

    def _append(self, name: str, values: NDArray[np.generic]) -> None:
        self.columns.setdefault(name, []).append(values)

    def _finite(self, frames: Frames) -> NDArray[np.bool_]:
        """Return (F,) whether structures can be looked at; note what is not finite anywhere."""
        sound = np.ones(frames.num_frames, dtype=np.bool_)
        for name in ("coord", "box", *LABELS):
            values = getattr(frames, name)
            if values is None:
                continue
            is_place = name in {"coord", "box"}
            fine = np.abs(values) < (_ANYWHERE if is_place else _ANYTHING)  # not so for NaN
            bad = ~fine.reshape(frames.num_frames, -1).all(axis=1)
            if not bad.any():
                continue
            if is_place:
                sound &= ~bad
            if (known := self.bad.get(name)) is not None:
                self.bad[name] = replace(known, num_frames=known.num_frames + int(bad.sum()))
                continue
            first = int(np.flatnonzero(bad)[0])
            place = np.argwhere(~fine[first])[0]
            per_atom = name == "coord" or (name in LABELS and LABELS[name].per_atom)
            atom = int(place[0]) if per_atom else -1
            value = float(values[first][tuple(place)])
            self.bad[name] = BadNumber(
                name, int(frames.indices[first]), atom, value, int(bad.sum())
            )
        return sound

    def _count(self, frames: Frames, found: Census) -> None:
        real = frames.atom_types >= 0
        for number in range(len(self.radii)):
            counts = found.counts[number]
            self.counts[number] = add_counts(self.counts[number], np.bincount(counts[real]))
            frame, atom = divmod(int(counts.argmax()), counts.shape[1])
            if counts[frame, atom] > self.most[number][0]:
                most = int(counts[frame, atom])
                self.most[number] = (most, int(frames.indices[frame]), atom)

    def _measure(self, frames: Frames, found: Census) -> None:
        """Collect the distances of nearest neighbours."""
        has = np.isfinite(found.nearest)
        if not has.any():
            return
        own = frames.atom_types[has]
        near = np.take_along_axis(frames.atom_types, found.partner, axis=1)[has]
        distance = found.nearest[has]
        size = len(self.elements)
        pair = np.minimum(own, near) * size + np.maximum(own, near)
        least = np.full(size * size, np.inf)
        np.minimum.at(least, pair, distance)
        for key in np.flatnonzero(np.isfinite(least)).tolist():
            name = f"{self.elements[key // size]}-{self.elements[key % size]}"
            self.facts.bonds[name] = min(self.facts.bonds.get(name, np.inf), float(least[key]))
        place = int(found.nearest.argmin())
        frame, atom = divmod(place, found.nearest.shape[1])
        if self.facts.closest is None or found.nearest[frame, atom] < self.facts.closest.distance:
            one, other = sorted((atom, int(found.partner[frame, atom])))
            kinds = frames.atom_types[frame]
            self.facts.closest = ClosePair(
                float(found.nearest[frame, atom]),
                int(frames.indices[frame]),
                (one, other),
                (self.elements[kinds[one]], self.elements[kinds[other]]),
            )

    def _guess_units(self, frames: Frames, found: Census) -> None:
        """Look closer at some frames if atoms are nowhere bonded; the frames must agree."""
        ratio = bond_ratios(found, frames.atom_types, self.covalent)
        if not len(ratio):
            self.units.add("")
            return
        self.bond_ratios.append(float(np.median(ratio)))
        bonded = int(is_bonded(ratio).sum())
        self.num_bonded += (bonded, len(ratio))
        if bonded > _BONDED_SHARE * len(ratio):
            self.units.add("")
            return
        stretched = are_pulled(frames, found)
        for frame in _some_frames(frames):
            part = slice(frame, frame + 1)
            box = None if frames.box is None else frames.box[part]
            types = frames.atom_types[part]
            coord, radii = frames.coord[part], self.covalent
            self.units.add(guess_unit(coord, box, types, radii, stretched=stretched))

    def _look_around(self, frames: Frames) -> None:
        """See whether forces of 0 are so by symmetry."""
        if frames.force is None or frames.force.any() or self.facts.lopsided:
            return
        self.facts.lopsided = any(
            is_lopsided(
                frames.coord[frame],
                None if frames.box is None else frames.box[frame],
                frames.atom_types[frame],
                self.elements,
            )
            for frame in _some_frames(frames)
        )


def _some_frames(frames: Frames) -> list[int]:
    last = frames.num_frames - 1
    steps = _FRAMES_LOOKED_AT - 1
    return sorted({last * step // steps for step in range(_FRAMES_LOOKED_AT)})


def _number_of(name: str) -> int:
    """Return a number for an element, the same whatever the order of the type_map."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _hashes(frames: Frames, names: NDArray[np.uint64]) -> Iterator[int]:
    """Yield a hash of each structure; equal structures have the same in any file.

    Args:
        frames: The structures.
        names: (T,) a number for each element.
    """
    coord = frames.coord.astype(np.float32)
    box = None if frames.box is None else frames.box.astype(np.float32)
    for frame in range(frames.num_frames):
        real = frames.atom_types[frame] >= 0
        digest = blake2b(names[frames.atom_types[frame][real]].tobytes(), digest_size=8)
        digest.update(coord[frame][real].tobytes())
        if box is not None:
            digest.update(box[frame].tobytes())
        yield int.from_bytes(digest.digest(), "little")
