"""What is wrong with batch sizes and probabilities; the validator and the reader both ask here."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from schemas.base.diagnostics import Path, Severity
from schemas.input.training import parse_blocks

_BLOCK = "a block is first:end:weight: in `prob_sys_size;0:2:0.4;2:5:0.6` systems 0 and 1 share 0.4"
_ROUNDING = 1e-8
"""That deepmd-kit allows in sums of probabilities."""


class SystemSize(NamedTuple):
    """A system: its name, the frames of an epoch, and the atoms of a frame."""

    name: str
    frames: int
    atoms: int


class SamplingFault(NamedTuple):
    """What is wrong: code, where below the data section, in words, what to do instead."""

    code: str
    path: Path
    message: str
    hint: str | None = None
    severity: Severity = "error"


def batch_size_faults(
    given: int | str | Sequence[int], systems: Sequence[SystemSize]
) -> Iterator[SamplingFault]:
    """Yield what is wrong with a batch size for these systems, errors first."""
    if isinstance(given, str):
        yield from _filter_faults(given, systems)
        return
    is_list = not isinstance(given, int)
    sizes: Sequence[int] = [given] * len(systems) if isinstance(given, int) else given
    if len(sizes) != len(systems):
        message = f"{len(sizes)} batch sizes for {len(systems)} systems"
        hint = "write one for each system, or a single number for all"
        yield SamplingFault("ZOO411", ("batch_size",), message, hint)
        return
    for index, (size, system) in enumerate(zip(sizes, systems, strict=True)):
        if 0 < system.frames < size:
            message = f"batch_size ({size}) is more than the {system.frames} frames of"
            path = ("batch_size", index) if is_list else ("batch_size",)
            yield SamplingFault("ZOO412", path, f"{message} {system.name}", None, "warning")


def systems_left(
    given: int | str | Sequence[int], systems: Sequence[SystemSize]
) -> list[SystemSize]:
    """Return the systems that a batch size leaves: `filter:N` drops those of more atoms."""
    name, _, limit = str(given).partition(":")
    most = int(limit) if name == "filter" and limit.isdigit() else None
    return [system for system in systems if most is None or system.atoms <= most]


def sampling_faults(
    batch_size: int | str | Sequence[int],
    auto_prob: str,
    sys_probs: Sequence[float] | None,
    systems: Sequence[SystemSize],
) -> Iterator[SamplingFault]:
    """Yield what is wrong with a data section of these systems; probabilities last."""
    yield from batch_size_faults(batch_size, systems)
    number = len(systems_left(batch_size, systems)) or None
    if sys_probs is not None:
        yield from probability_faults(sys_probs, number)
    else:
        yield from block_faults(auto_prob, number)
        yield from overlap_faults(auto_prob)


def _filter_faults(given: str, systems: Sequence[SystemSize]) -> Iterator[SamplingFault]:
    left, number, limit = systems_left(given, systems), len(systems), given.partition(":")[2]
    path = ("batch_size",)
    if systems and not left:
        message = f"every system has more than {limit} atoms: none is left"
        hint = f"the smallest has {min(system.atoms for system in systems)} atoms"
        yield SamplingFault("ZOO416", path, message, hint)
    elif len(left) < number:
        message = f"{number - len(left)} of {number} systems have more than {limit} atoms"
        yield SamplingFault("ZOO416", path, f"{message}: they are left out", None, "warning")


def block_faults(auto_prob: str, number: int | None) -> Iterator[SamplingFault]:
    """Yield what is wrong with the blocks of `auto_prob` for a number of systems, if known."""
    path = ("auto_prob",)
    blocks = parse_blocks(auto_prob)
    for first, end, _ in blocks:
        if first >= end:
            yield SamplingFault("ZOO414", path, f"block {first}:{end} is empty", _BLOCK)
        elif number is not None and end > number:
            message = f"block {first}:{end} exceeds the {number} systems"
            yield SamplingFault("ZOO414", path, message, _BLOCK)
    total = sum(weight for _, _, weight in blocks)
    if blocks and not 0 < total < math.inf:
        message = f"the weights of all blocks are {total:g}"
        yield SamplingFault("ZOO414", path, message, _BLOCK)


def overlap_faults(auto_prob: str) -> Iterator[SamplingFault]:
    """Yield blocks of `auto_prob` that have a system in common: the later one silently counts."""
    for (first, end, _), (other, last, _) in pairwise(sorted(parse_blocks(auto_prob))):
        if other < end and first < end and other < last:
            message = f"blocks {first}:{end} and {other}:{last} overlap"
            hint = "a block ends before its `end`: 0:2 are systems 0 and 1"
            yield SamplingFault("ZOO425", ("auto_prob",), message, hint)


def probability_faults(given: Sequence[float], number: int | None) -> Iterator[SamplingFault]:
    """Yield what is wrong with `sys_probs` for a number of systems, if known.

    Negative entries share what the others leave.
    """
    path: Path = ("sys_probs",)
    if number is not None and len(given) != number:
        hint = "write one for each system; an entry of -1 takes the rest"
        yield SamplingFault(
            "ZOO415", path, f"{len(given)} probabilities for {number} systems", hint
        )
    fixed = sum(value for value in given if value >= 0)
    negative = [index for index, value in enumerate(given) if value < 0]
    if negative and fixed >= 1 - _ROUNDING:
        message = f"negative probability: it takes the rest, but the others sum to {fixed:g}"
        yield SamplingFault("ZOO415", (*path, negative[0]), message)
    elif not abs(fixed - 1) <= _ROUNDING and not (negative and fixed < 1):
        hint = "they must sum to 1; an entry of -1 takes the rest"
        yield SamplingFault("ZOO415", path, f"the probabilities sum to {fixed:g}", hint)
