"""Batches: frames per batch, probabilities of systems, the endless seeded stream, a plain pass."""

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpa2.data.cells import far_enough
from dpa2.data.frames import FloatArray, Frames, IntArray, stack
from dpa2.data.system import System
from schemas.base.diagnostics import Finding
from schemas.base.errors import DataError
from schemas.input.refusals import (
    SystemSize,
    batch_size_faults,
    block_faults,
    overlap_faults,
    probability_faults,
)
from schemas.input.training import AutoProb, BatchSize, parse_blocks

T = TypeVar("T")
_BATCH_SIZE: TypeAdapter[int | str | list[int]] = TypeAdapter(
    BatchSize, config=ConfigDict(strict=True)
)
_AUTO_PROB: TypeAdapter[str] = TypeAdapter(AutoProb)
_FORMS = {
    "batch_size": "give an integer of at least 1, a list of such, "
    '"auto", "auto:N", "max:N", "filter:N", "mixed:N" or "mix:N"',
    "auto_prob": 'write prob_uniform, prob_sys_size, or "prob_sys_size;0:2:0.4;2:5:0.6": systems 0 '
    "and 1 share 0.4, 2 to 4 share 0.6",
}
_DEFAULT_AUTO_ATOMS = 32


@dataclass(frozen=True, slots=True)
class Batching:
    """The rule applied to a list of systems.

    Attributes:
        systems: The systems that remain (`filter:N` drops large ones).
        sizes: Frames per batch of each.
        mixes: Whether one batch holds frames of several systems, padded (`mixed:N`, `mix:N`).
        atom_budget: Most atom slots in a mixed batch (`mix:N`); None counts frames instead.
        warnings: What was dropped or does not fit, one sentence each.
    """

    systems: list[System]
    sizes: list[int]
    mixes: bool
    atom_budget: int | None
    warnings: list[str]

    def num_batches(self) -> list[int]:
        """Return how many batches an epoch of each system has; the last one may be smaller."""
        return [
            ceil(epoch_length(system) / size)
            for system, size in zip(self.systems, self.sizes, strict=True)
        ]


def epoch_length(system: System) -> int:
    """Return how many frames an epoch of a system has, repetitions by `numb_copy` included."""
    return system.num_frames if system.copies is None else int(system.copies.sum())


def apply_batch_size(
    systems: Sequence[System], batch_size: int | str | Sequence[int] = "auto"
) -> Batching:
    """Turn a `batch_size` of an input file into frames per batch of each system.

    docs/deepmd-format.md, 1.8b: `auto:N` takes at least N atoms per batch, `max:N` at most
    N but one frame at least, `filter:N` also drops systems with more than N atoms, `mixed:N` puts N
    frames of different systems into one batch, and `mix:N` as many as fit N atom slots.

    Raises:
        DataError: If the rule is unknown, a number is below 1, a list has the wrong length, or no
            system remains.
    """
    given = _known(_BATCH_SIZE, "batch_size", batch_size)
    sizes = [SystemSize(item.name, epoch_length(item), item.num_atoms) for item in systems]
    warnings = _warnings(batch_size_faults(given, sizes))
    if isinstance(given, int):
        return Batching(list(systems), [given] * len(systems), False, None, warnings)
    if not isinstance(given, str):
        return Batching(list(systems), given, False, None, warnings)
    rule, _, text = given.partition(":")
    number = int(text or _DEFAULT_AUTO_ATOMS)
    kept = [item for item in systems if rule != "filter" or item.num_atoms <= number]
    if rule == "mixed":
        return Batching(kept, [number] * len(kept), True, None, warnings)
    if rule == "auto":
        return Batching(kept, [ceil(number / x.num_atoms) for x in kept], False, None, warnings)
    frames = [max(1, number // item.num_atoms) for item in kept]
    return Batching(kept, frames, rule == "mix", number if rule == "mix" else None, warnings)


def _warnings(faults: Iterable[Finding]) -> list[str]:
    """Return what is only odd; raise what is wrong."""
    found = []
    for item in faults:
        if item.severity == "error":
            hint = item.hint or _FORMS.get(str(item.path[0]))
            raise DataError(f"{item.path[0]}: {item.message}", hint=hint)
        found.append(item.message)
    return found


def _known(kind: TypeAdapter[T], name: str, value: object) -> T:
    """Return a value of the input file that is of its kind, as `zoo validate` has it.

    Raises:
        DataError: Else; says what it may be.
    """
    try:
        return kind.validate_python(list(value) if isinstance(value, tuple) else value)
    except ValidationError as error:
        fault = error.errors()[0]
        hint = fault.get("ctx", {}).get("hint") or _FORMS[name]
        raise DataError(f"{name} {value!r}: {fault['msg']}", hint=hint) from error


def system_probabilities(
    num_batches: Sequence[int],
    auto_prob: str = "prob_sys_size",
    sys_probs: Sequence[float] | None = None,
) -> FloatArray:
    """Return the probability of each system; `sys_probs` goes before `auto_prob`.

    Args:
        num_batches: Batches in an epoch of each system.
        auto_prob: `prob_uniform`, `prob_sys_size` (in proportion to `num_batches`), or
            `prob_sys_size;i:j:w;...` (systems i to j - 1 share the weight w in that proportion).
        sys_probs: One number per system; negative ones share what the others leave, in proportion
            to `num_batches`.

    Raises:
        DataError: If lengths, names or sums are wrong.
    """
    batches = np.asarray(num_batches, dtype=np.float64)
    if sys_probs is not None:
        return _assigned(np.asarray(sys_probs, dtype=np.float64), batches)
    if auto_prob == "prob_uniform":
        return np.full(len(batches), 1.0 / len(batches))
    if auto_prob == "prob_sys_size":
        return np.asarray(batches / batches.sum(), dtype=np.float64)
    return _blocks(_known(_AUTO_PROB, "auto_prob", auto_prob), batches)


def _assigned(probs: FloatArray, batches: FloatArray) -> FloatArray:
    if not np.isfinite(probs).all():
        raise DataError("sys_probs has NaN or infinity", hint="write a number for each system")
    _warnings(probability_faults(probs.tolist(), len(batches)))
    free = probs < 0
    rest = 1.0 - float(probs[~free].sum())
    if np.isclose(rest, 0.0):
        return np.where(free, 0.0, probs)
    shares = np.where(free, batches, 0.0)
    return np.where(free, rest * shares / shares.sum(), probs)


def _blocks(style: str, batches: FloatArray) -> FloatArray:
    _warnings([*block_faults(style, len(batches)), *overlap_faults(style)])
    blocks = parse_blocks(style)
    weights = np.zeros_like(batches)
    total = sum(weight for _, _, weight in blocks)
    for start, end, weight in blocks:
        inside = batches[start:end]
        weights[start:end] = inside / inside.sum() * (weight / total)
    return weights


_MAX_EMPTY_DRAWS = 1000
_UNKNOWN = -1


class Sampler:
    """Draws a system by probability and takes the next frames of its shuffled epoch.

    The order of frames in epoch e of system i follows from (seed, i, e) alone, so that the state is
    a few numbers whatever the size of the data, and a restored sampler continues bit by bit.

    Args:
        systems: Where frames come from.
        batch_size: A number, a list with one number per system, or a rule such as `"auto:128"`.
        auto_prob: How likely each system is (`system_probabilities`).
        sys_probs: Explicit probabilities, before `auto_prob`.
        seed: Seed of the stream; None draws one from the operating system.
        min_pair_dist: Leave out frames with two atoms closer than this, in Å.
        need: Labels to read (names as in `Frames`); None reads all that the data have.

    Attributes:
        systems: The systems drawn from (`filter:N` drops large ones).
        batch_sizes: Frames per batch of each system.
        num_batches: Batches in an epoch of each system.
        probabilities: (number of systems,) sums to 1.
        need: Labels that are read; None: all that the data have.
        num_skipped: Frames left out so far because of `min_pair_dist`.
        warnings: What is odd about these systems and this batch size, one sentence each.

    Raises:
        DataError: If `batch_size` or the probabilities do not fit the systems.
    """

    def __init__(
        self,
        systems: Sequence[System],
        batch_size: int | str | Sequence[int] = "auto",
        *,
        auto_prob: str = "prob_sys_size",
        sys_probs: Sequence[float] | None = None,
        seed: int | None = None,
        min_pair_dist: float = 0.0,
        need: Collection[str] | None = None,
    ) -> None:
        if not systems:
            raise DataError("there is no system to draw from")
        self._batching = apply_batch_size(systems, batch_size)
        self.systems = self._batching.systems
        self.batch_sizes = self._batching.sizes
        self.warnings = list(self._batching.warnings)
        self.num_batches = self._batching.num_batches()
        self.probabilities = system_probabilities(self.num_batches, auto_prob, sys_probs)
        self.min_pair_dist = min_pair_dist
        self.num_skipped = 0
        self.need = None if need is None else frozenset(need)
        self._seed = secrets.randbits(128) if seed is None else seed
        self._draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed)))
        self._epochs = [0] * len(self.systems)
        self._positions = [0] * len(self.systems)
        self._orders: dict[int, IntArray] = {}
        self._verdicts: dict[int, NDArray[np.int8]] = {}
        self._families = _families(self.systems, self.need) if self._batching.mixes else []

    def __iter__(self) -> Iterator[Frames]:
        """Yield batches without end."""
        while True:
            yield self.next()

    def next(self) -> Frames:
        """Return the next batch.

        Raises:
            DataError: If `min_pair_dist` leaves nothing over.
        """
        for _ in range(_MAX_EMPTY_DRAWS):
            batch = self._next_mixed() if self._batching.mixes else self._next_plain()
            if batch is not None:
                return batch
        raise DataError(
            f"no frame is left: min_pair_dist {self.min_pair_dist} Å excludes all of "
            f"{_MAX_EMPTY_DRAWS} batches",
            hint="lower training_data/min_pair_dist, or check that coordinates are in Å",
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every system was seen once on average: ceil(max_i n_i / p_i)."""
        chosen = self.probabilities > 0
        return int(np.ceil((np.array(self.num_batches)[chosen] / self.probabilities[chosen]).max()))

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers of numbers and texts."""
        return {
            "seed": self._seed,
            "draws": self._draws.bit_generator.state,
            "epochs": list(self._epochs),
            "positions": list(self._positions),
            "lengths": [epoch_length(system) for system in self.systems],
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: dict[str, Any], kind: str = "training") -> None:
        """Continue a stream exactly where `state_dict` was taken.

        Args:
            state: What `state_dict` returned.
            kind: What the data are for, `training` or `validation`.

        Raises:
            DataError: If the state was taken with other data.
        """
        lengths = [epoch_length(system) for system in self.systems]
        if list(state["lengths"]) != lengths:
            raise DataError(
                f"the checkpoint's place in the {kind} data was taken in other {kind} data "
                f"({other_lengths(state['lengths'], lengths)})",
                hint="restart with the same systems in the same order, or use --init-model to "
                "begin a new run",
            )
        self._seed = int(state["seed"])
        self._draws.bit_generator.state = state["draws"]
        self._epochs = [int(value) for value in state["epochs"]]
        self._positions = [int(value) for value in state["positions"]]
        self._orders.clear()
        self.num_skipped = int(state["num_skipped"])

    def _next_plain(self) -> Frames | None:
        number = int(self._draws.choice(len(self.systems), p=self.probabilities))
        return self._read(number, self._take(number, self.batch_sizes[number]))

    def _next_mixed(self) -> Frames | None:
        """Draw frames one by one from systems whose frames can share a batch."""
        weights = [float(self.probabilities[family].sum()) for family in self._families]
        family = self._families[int(self._draws.choice(len(weights), p=weights))]
        inside = self.probabilities[family] / self.probabilities[family].sum()
        budget = self._batching.atom_budget
        largest = int(max(self.systems[i].num_atoms for i in family)) if budget else 0
        count = max(1, budget // largest) if budget else self.batch_sizes[0]
        drawn = family[self._draws.choice(len(family), size=count, p=inside)]
        parts = [
            self._read(number, self._take(number, int((drawn == number).sum())))
            for number in dict.fromkeys(drawn.tolist())
        ]
        kept = [part for part in parts if part is not None]
        return stack(kept) if kept else None

    def _take(self, number: int, count: int) -> IntArray:
        """Return the next frame numbers of a system; an epoch's last batch may be smaller."""
        order = self._orders.get(number)
        if order is None:
            order = self._orders[number] = self._order(number)
        start = self._positions[number]
        taken = order[start : start + count]
        self._positions[number] = start + len(taken)
        if self._positions[number] >= len(order):
            self._epochs[number] += 1
            self._positions[number] = 0
            del self._orders[number]
        return taken

    def _order(self, number: int) -> IntArray:
        system = self.systems[number]
        frames = np.arange(system.num_frames, dtype=np.int64)
        if system.copies is not None:
            frames = np.repeat(frames, system.copies)
        key = (number, self._epochs[number])
        sequence = np.random.SeedSequence(self._seed, spawn_key=key)
        return np.random.Generator(np.random.PCG64(sequence)).permutation(frames)

    def _read(self, number: int, indices: IntArray) -> Frames | None:
        frames = self.systems[number].frames(indices, self.need)
        if self.min_pair_dist <= 0:
            return frames
        keep = self._keep(number, frames)
        self.num_skipped += int((~keep).sum())
        return frames.select(keep) if keep.any() else None

    def _keep(self, number: int, frames: Frames) -> NDArray[np.bool_]:
        """Return (F,) which frames have all atoms far enough apart; each frame is measured once."""
        known = self._verdicts.setdefault(
            number, np.full(self.systems[number].num_frames, _UNKNOWN, dtype=np.int8)
        )
        new = known[frames.indices] == _UNKNOWN
        if new.any():
            fresh = frames.select(new)
            known[fresh.indices] = far_enough(fresh, self.min_pair_dist)
        return np.asarray(known[frames.indices] == 1, dtype=np.bool_)


def iterate(
    systems: Sequence[System],
    batch_size: int | str | Sequence[int] = "auto",
    need: Collection[str] | None = None,
) -> Iterator[Frames]:
    """Yield every frame once, system by system, in the order of the files.

    Args:
        systems: Where frames come from.
        batch_size: As for `Sampler`; the mixing rules give single-system batches here.
        need: Labels to read; None reads all that the data have.
    """
    batching = apply_batch_size(systems, batch_size)
    for system, size in zip(batching.systems, batching.sizes, strict=True):
        yield from system.chunks(size, need)


def _families(systems: Sequence[System], need: frozenset[str] | None) -> list[IntArray]:
    """Group systems whose frames can share a batch: same boundaries, same labels."""
    groups: dict[tuple[bool, frozenset[str]], list[int]] = {}
    for number, system in enumerate(systems):
        labels = system.labels if need is None else system.labels & need
        groups.setdefault((system.periodic, labels), []).append(number)
    return [np.array(members, dtype=np.int64) for members in groups.values()]


def other_lengths(before: Sequence[int], now: Sequence[int]) -> str:
    """Return words for the systems of a run that is continued, and how those here differ."""
    ours = f"{len(before)} systems of {sum(before)} frames"
    if sorted(before) == sorted(now):
        return f"{ours} in another order"
    theirs = f"here are {len(now)} of {sum(now)}"
    is_alike = (len(before), sum(before)) == (len(now), sum(now))
    return f"{ours}; {theirs}" + (", shared out otherwise" if is_alike else "")
