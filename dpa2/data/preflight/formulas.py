"""Which elements the data have, and what a missing `type_map.raw` means."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed
from dpa2.data.stored_system import StoredSystem
from schemas.diagnostics import Finding, Path

_RARE = 0.05
"""Part of all frames; statistics may miss an element that is in fewer."""
_MANY_ELEMENTS = 20
"""A longer type_map is meant for more than these data."""


def formula(elements: Sequence[str], counts: Sequence[int]) -> str:
    """Return a formula such as O64H128, in the order of the elements."""
    return "".join(f"{name}{n}" for name, n in zip(elements, counts, strict=False) if n)


def check_names(sections: Sequence[Opened], type_map: Sequence[str] | None) -> Iterator[Finding]:
    """Warn of systems whose type numbers have no names; an error where others say otherwise."""
    named = _named_numbers(sections)
    for section in sections:
        for item in section.systems:
            if type_map is None or not _is_nameless(item):
                continue
            counts = item.facts.composition[0].tolist()
            here = formula(type_map, counts)
            numbers = _trimmed(counts)
            message = f"{item.name} has no type_map.raw: with this type_map it is {here}"
            hint = f"write type_map.raw: {' '.join(type_map)}, if that is right"
            others = named.get(numbers, {})
            there = next((text for text in others if text != here), None)
            if there is None or here in others:
                yield Finding("ZOO438", item.entry.path, message, hint, severity="warning")
                continue
            message = f"{message} instead of {there} as in {others[there]}"
            hint = "write type_map.raw in the order of the numbers in type.raw"
            yield Finding("ZOO438", item.entry.path, message, hint)


def check_coverage(
    training: Opened | None, validation: Opened | None, type_map: Sequence[str], path: Path
) -> Iterator[Finding]:
    """Note elements that the training data do not have."""
    if training is None or not training.whole or not training.systems:
        return
    learned = _present(training)
    unlearned = [name for number, name in enumerate(type_map) if number not in learned]
    if unlearned and len(type_map) <= _MANY_ELEMENTS:
        message = f"no training data have {', '.join(unlearned)}"
        hint = "the model learns nothing about it" if len(unlearned) == 1 else None
        yield Finding("ZOO445", path, message, hint, severity="note")
    yield from _rare(training, type_map, path)
    for item in validation.systems if validation is not None else ():
        new = [
            type_map[number]
            for number in np.flatnonzero(item.facts.composition.sum(axis=0)).tolist()
            if number not in learned and number < len(type_map)
        ]
        if new:
            message = f"{item.name} has {', '.join(new)}, which no training data have"
            yield Finding("ZOO445", item.entry.path, message, severity="warning")


def _rare(training: Opened, type_map: Sequence[str], path: Path) -> Iterator[Finding]:
    """Note elements that a choice of frames for statistics may miss."""
    systems = {item.name: item.facts.composition for item in training.systems}.values()
    total = sum(len(rows) for rows in systems)
    for number, name in enumerate(type_map):
        frames = [int((rows[:, number] > 0).sum()) for rows in systems if number < rows.shape[1]]
        whole = any(rows[:, number].all() for rows in systems if number < rows.shape[1])
        if whole or not 0 < sum(frames) < _RARE * total:
            continue
        message = f"{name} is in {sum(frames)} of {total} frames"
        hint = (
            "statistics are of some frames only; zoo adds some with it where it is missing, "
            "deepmd-kit 3.2 then gives it the energy 0: raise model.data_stat_nbatch there"
        )
        yield Finding("ZOO463", path, message, hint, severity="note")


def _present(section: Opened) -> set[int]:
    return {
        number
        for item in section.systems
        for number in np.flatnonzero(item.facts.composition.sum(axis=0)).tolist()
    }


def _is_nameless(item: Surveyed) -> bool:
    return isinstance(item.system, StoredSystem) and item.system.elements is None


def _named_numbers(sections: Sequence[Opened]) -> dict[tuple[int, ...], dict[str, str]]:
    """Return, for atoms of each number in type.raw, the formulas of systems that name them."""
    found: dict[tuple[int, ...], dict[str, str]] = {}
    for section in sections:
        for item in section.systems:
            system = item.system
            if not isinstance(system, StoredSystem) or system.elements is None or system.mixed:
                continue
            names = system.type_map or system.elements
            counts = Counter(dict(zip(names, item.facts.composition[0].tolist(), strict=False)))
            numbers = _trimmed([counts[name] for name in system.elements])
            here = formula(names, item.facts.composition[0].tolist())
            found.setdefault(numbers, {}).setdefault(here, item.name)
    return found


def _trimmed(counts: Sequence[int]) -> tuple[int, ...]:
    """Return counts without zeros at the end."""
    last = max((place for place, count in enumerate(counts) if count), default=-1)
    return tuple(counts[: last + 1])
