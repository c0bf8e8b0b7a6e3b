"""How many frames make a batch: the `batch_size` rules of an input file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from typing import Literal

from dpa2.data.system import System
from schemas.errors import DataError

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
