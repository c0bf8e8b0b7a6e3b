"""Frames per batch (`batch_size`) and probabilities of systems (`auto_prob`, `sys_probs`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from typing import Literal

import numpy as np

from dpa2.data.frames import FloatArray
from dpa2.data.system import System
from schemas.base.errors import DataError

Rule = Literal["auto", "max", "filter", "mixed", "mix"]
_RULES = ("auto", "max", "filter", "mixed", "mix")
_DEFAULT_AUTO_ATOMS = 32
_FORMS = 'an integer, a list, "auto", "auto:N", "max:N", "filter:N", "mixed:N" or "mix:N"'


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
    if isinstance(batch_size, bool):
        raise DataError(f"batch_size is {batch_size}", hint=f"give {_FORMS}")
    if isinstance(batch_size, int):
        return _fixed(systems, [_at_least_one(batch_size)] * len(systems))
    if not isinstance(batch_size, str):
        if len(batch_size) != len(systems):
            raise DataError(
                f"batch_size lists {len(batch_size)} numbers for {len(systems)} systems",
                hint="give one number per system found, or a single one for all",
            )
        return _fixed(systems, [_at_least_one(size) for size in batch_size])
    rule, number = parse_rule(batch_size)
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


def parse_rule(text: str) -> tuple[Rule, int]:
    """Split a rule such as `"auto:128"` into its name and number.

    Raises:
        DataError: If it is no rule, or its number is missing or below 1.
    """
    name, colon, number = text.partition(":")
    if name not in _RULES:
        close = get_close_matches(name, _RULES, n=1)
        raise DataError(
            f'batch_size "{text}" is no rule',
            hint=f'did you mean "{close[0]}"?' if close else f"give {_FORMS}",
        )
    if not colon and name == "auto":
        return "auto", _DEFAULT_AUTO_ATOMS
    if not re.fullmatch(r"\+?[0-9]+", number) or int(number) < 1:
        raise DataError(
            f'batch_size "{text}" needs a whole number of at least 1 after the colon',
            hint=f'for example "{name}:128"',
        )
    rule: Rule = name  # type: ignore[assignment] # one of _RULES, checked above
    return rule, int(number)


def _fixed(systems: Sequence[System], sizes: list[int]) -> Batching:
    warnings = [
        f"batch_size {size} is larger than {system.name}, which has {system.num_frames} frames"
        for system, size in zip(systems, sizes, strict=True)
        if size > epoch_length(system)
    ]
    return Batching(list(systems), sizes, False, None, warnings)


def _at_least_one(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"batch_size has {size!r}", hint="a batch has at least 1 frame")
    return size


_STYLES = ("prob_uniform", "prob_sys_size")
_BLOCK_HINT = 'write "prob_sys_size;0:2:0.4;2:5:0.6": systems 0 and 1 share 0.4, 2 to 4 share 0.6'
# deepmd-kit allows this much rounding in sums of probabilities.
_SUM_TOLERANCE = 1e-8


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
    style, _, blocks = auto_prob.partition(";")
    if style != "prob_sys_size":
        close = get_close_matches(style, _STYLES, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"give one of {', '.join(_STYLES)}"
        raise DataError(f'auto_prob "{auto_prob}" is unknown', hint=hint)
    return _blocks(blocks, batches)


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


def _blocks(text: str, batches: FloatArray) -> FloatArray:
    weights = np.zeros_like(batches)
    shares: list[tuple[int, int, float]] = []
    for block in text.split(";"):
        start, end, weight = _parse_block(block, len(batches))
        if any(start < other_end and other_start < end for other_start, other_end, _ in shares):
            raise DataError(f'auto_prob: block "{block}" overlaps another', hint=_BLOCK_HINT)
        shares.append((start, end, weight))
    total = sum(weight for _, _, weight in shares)
    if total <= 0:
        raise DataError("auto_prob: all block weights are 0", hint=_BLOCK_HINT)
    for start, end, weight in shares:
        inside = batches[start:end]
        weights[start:end] = inside / inside.sum() * (weight / total)
    return weights


def _parse_block(block: str, num_systems: int) -> tuple[int, int, float]:
    parts = block.split(":")
    try:
        start, end, weight = int(parts[0]), int(parts[1]), float(parts[2])
    except (ValueError, IndexError) as error:
        raise DataError(
            f'auto_prob: "{block}" is no block start:end:weight', hint=_BLOCK_HINT
        ) from error
    if len(parts) != 3 or not 0 <= weight < np.inf:
        raise DataError(
            f'auto_prob: "{block}" is no block start:end:weight with a weight >= 0',
            hint=_BLOCK_HINT,
        )
    if not 0 <= start < end:
        raise DataError(f'auto_prob: block "{block}" is empty', hint=_BLOCK_HINT)
    if end > num_systems:
        raise DataError(
            f'auto_prob: block "{block}" exceeds the {num_systems} systems', hint=_BLOCK_HINT
        )
    return start, end, weight
