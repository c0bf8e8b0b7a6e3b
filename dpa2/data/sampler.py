"""The endless, seeded stream of training batches, and a plain pass over all frames."""

from collections.abc import Collection, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.batching import apply_batch_size, epoch_length, system_probabilities
from dpa2.data.cells import far_enough
from dpa2.data.frames import Frames, IntArray, stack
from dpa2.data.system import System
from schemas.base.errors import DataError

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
        self._num_batches = self._batching.num_batches()
        self.probabilities = system_probabilities(self._num_batches, auto_prob, sys_probs)
        self.min_pair_dist = min_pair_dist
        self.num_skipped = 0
        self.need = None if need is None else frozenset(need)
        self._seed = _entropy(seed)
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

    def num_batches(self, system: int) -> int:
        """Return how many batches an epoch of a system (by position) has."""
        return self._num_batches[system]

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every system was seen once on average: ceil(max_i n_i / p_i)."""
        steps: list[float] = [
            count / probability
            for count, probability in zip(
                self._num_batches, self.probabilities.tolist(), strict=True
            )
            if probability > 0
        ]
        return ceil(max(steps))

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
        if keep.all():
            return frames
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


def _entropy(seed: int | None) -> int:
    entropy = np.random.SeedSequence(seed).entropy
    assert isinstance(entropy, int)
    return entropy


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
