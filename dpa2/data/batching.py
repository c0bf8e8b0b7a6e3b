"""Frames per batch (`batch_size`) and probabilities of systems (`auto_prob`, `sys_probs`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpa2.data.frames import FloatArray
from dpa2.data.system import System
from schemas.base.errors import DataError
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
# deepmd-kit allows this much rounding in sums of probabilities.
_SUM_TOLERANCE = 1e-8


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
    if isinstance(given, int):
        return _fixed(systems, [given] * len(systems))
    if not isinstance(given, str):
        if len(given) != len(systems):
            raise DataError(
                f"batch_size lists {len(given)} numbers for {len(systems)} systems",
                hint="give one number per system found, or a single one for all",
            )
        return _fixed(systems, given)
    rule, _, text = given.partition(":")
    number = int(text or _DEFAULT_AUTO_ATOMS)
    if rule == "mixed":
        return Batching(list(systems), [number] * len(systems), True, None, [])
    if rule == "auto":
        sizes = [ceil(number / system.num_atoms) for system in systems]
        return Batching(list(systems), sizes, False, None, [])
    warnings: list[str] = []
    kept = list(systems)
    if rule == "filter":
        kept = [system for system in systems if system.num_atoms <= number]
        dropped = [system.name for system in systems if system.num_atoms > number]
        if not kept:
            raise DataError(
                f'batch_size "{batch_size}" drops all {len(systems)} systems',
                hint=f"the smallest has {min(s.num_atoms for s in systems)} atoms",
            )
        if dropped:
            warnings.append(
                f'batch_size "{batch_size}" drops {len(dropped)} systems: {", ".join(dropped[:5])}'
                + (" ..." if len(dropped) > 5 else "")
            )
    sizes = [max(1, number // system.num_atoms) for system in kept]
    return Batching(kept, sizes, rule == "mix", number if rule == "mix" else None, warnings)


def _fixed(systems: Sequence[System], sizes: list[int]) -> Batching:
    warnings = [
        f"batch_size {size} is larger than {system.name}, which has {system.num_frames} frames"
        for system, size in zip(systems, sizes, strict=True)
        if size > epoch_length(system)
    ]
    return Batching(list(systems), sizes, False, None, warnings)


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
    if len(probs) != len(batches):
        raise DataError(
            f"sys_probs lists {len(probs)} numbers for {len(batches)} systems",
            hint="give one number per system found; a negative one lets the rest be shared",
        )
    if not np.isfinite(probs).all():
        raise DataError("sys_probs has NaN or infinity")
    free = probs < 0
    assigned = float(probs[~free].sum())
    rest = 1.0 - assigned
    if rest < -_SUM_TOLERANCE:
        raise DataError(f"sys_probs sum to {assigned:g}, more than 1", hint="make them sum to 1")
    if np.isclose(rest, 0.0):
        return np.where(free, 0.0, probs)
    if not free.any():
        raise DataError(
            f"sys_probs sum to {assigned:g}, less than 1",
            hint="make them sum to 1, or give -1 to the systems that share the rest",
        )
    shares = np.where(free, batches, 0.0)
    return np.where(free, rest * shares / shares.sum(), probs)


def _blocks(style: str, batches: FloatArray) -> FloatArray:
    blocks = parse_blocks(style)
    for start, end, _ in blocks:
        if start >= end:
            raise DataError(f"auto_prob: block {start}:{end} is empty", hint=_FORMS["auto_prob"])
        if end > len(batches):
            raise DataError(
                f"auto_prob: block {start}:{end} exceeds the {len(batches)} systems",
                hint=_FORMS["auto_prob"],
            )
    for (_, end, _), (start, other, _) in pairwise(sorted(blocks)):
        if start < end:
            raise DataError(
                f"auto_prob: block {start}:{other} overlaps another", hint=_FORMS["auto_prob"]
            )
    total = sum(weight for _, _, weight in blocks)
    if not 0 < total < np.inf:
        raise DataError(f"auto_prob: all block weights are {total:g}", hint=_FORMS["auto_prob"])
    weights = np.zeros_like(batches)
    for start, end, weight in blocks:
        inside = batches[start:end]
        weights[start:end] = inside / inside.sum() * (weight / total)
    return weights
