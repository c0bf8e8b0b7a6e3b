"""Frames per batch (`batch_size`) and probabilities of systems (`auto_prob`, `sys_probs`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpa2.data.frames import FloatArray
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
