"""Checks of what systems hold: numbers, elements, repeated frames, batches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed, is_folder
from dpa2.data.preflight.units import covalent_radii
from dpa2.data.sampler import epoch_length
from dpa2.data.stored_system import StoredSystem
from schemas.base.diagnostics import Finding, Path, Severity
from schemas.input.refusals import SystemSize, sampling_faults

_OVERLAP = 0.1
"""Å; no two nuclei are as close as this."""
_CLOSE = 0.5
"""Part of the sum of the covalent radii, below which a pair is worth a look."""
_THIN = 1.0
_SAID_ELSEWHERE = ("left-handed", "no type_map.raw", "type_map.raw of", "listed more than once")


def check_contents(section: Opened) -> Iterator[Finding]:
    """Look at each system by itself."""
    for item in section.systems:
        yield from _bad_numbers(item)
        if item.facts.unit:
            yield _unit(item)
        else:
            yield from _overlaps(item, section.request.min_pair_dist)
        yield from _cells(item)
        for note in item.system.warnings:
            if not any(phrase in note for phrase in _SAID_ELSEWHERE):
                yield item.finding("ZOO446", note)


def _unit(item: Surveyed) -> Finding:
    bonds = ", ".join(f"{pair} {length:.3g}" for pair, length in item.facts.bonds.items())
    message = f"{item.name}: {item.facts.unit}? In Å, neighbours are nowhere at bonding distance"
    hint = f"coordinates and cells are in Å; as they are, the closest atoms are {bonds} Å apart"
    return item.finding("ZOO434", message, hint)


def _bad_numbers(item: Surveyed) -> Iterator[Finding]:
    for bad in item.facts.bad:
        atom = f", atom {bad.atom}" if bad.atom >= 0 else ""
        message = f"{item.name}: {bad.array} of frame {bad.frame}{atom} is {bad.value}"
        frames = f"{bad.num_frames} of {item.facts.num_frames} frames"
        yield item.finding(
            "ZOO432", message, f"remove {frames}: they have such numbers", severity="error"
        )


def _overlaps(item: Surveyed, min_pair_dist: float) -> Iterator[Finding]:
    facts = item.facts
    left_out = int((facts.shortest < min_pair_dist).sum())
    if left_out == facts.num_frames:
        message = f"{item.name}: min_pair_dist ({min_pair_dist:g} Å) leaves no frame"
        least, most = facts.shortest.min(), facts.shortest.max()
        hint = f"the closest pairs are {least:.3g} to {most:.3g} Å apart"
        yield item.finding("ZOO433", message, hint, severity="error")
    elif left_out:
        message = f"{item.name}: min_pair_dist leaves out {left_out} of {facts.num_frames} frames"
        yield item.finding("ZOO433", message, severity="note")
    pair = facts.closest
    if pair is None or pair.distance < min_pair_dist:
        return
    first, second = pair.atoms
    names = " and ".join(
        f"{atom} ({name})" for atom, name in zip(pair.atoms, pair.elements, strict=True)
    )
    if first == second:
        names = f"{first} ({pair.elements[0]}) and its own image"
    message = f"{item.name}: atoms {names} of frame {pair.frame} are {pair.distance:.3g} Å apart"
    if pair.distance < _OVERLAP:
        overlapping = int((facts.shortest < _OVERLAP).sum())
        hint = f"atoms overlap in {overlapping} of {facts.num_frames} frames; remove them"
        yield item.finding("ZOO433", message, hint, severity="error")
    elif pair.distance < _CLOSE * float(covalent_radii(pair.elements).sum()):
        hint = "less than half of the sum of their covalent radii: is that meant?"
        yield item.finding("ZOO433", message, hint)


def _cells(item: Surveyed) -> Iterator[Finding]:
    left = np.flatnonzero(item.facts.left_handed)
    if len(left):
        message = (
            f"{item.name}: {len(left)} of {item.facts.num_frames} cells are left-handed "
            f"(determinant < 0), first that of frame {left[0]}"
        )
        hint = "swap two cell vectors; deepmd-kit computes wrong energies for such cells"
        yield item.finding("ZOO439", message, hint)
    if item.facts.thinnest < _THIN and not item.facts.unit:
        message = f"{item.name}: a cell is only {item.facts.thinnest:.2g} Å thick"
        hint = "are the cell vectors in Å, one a row?"
        severity: Severity = "error" if item.facts.thinnest < _OVERLAP else "warning"
        yield item.finding("ZOO439", message, hint, severity=severity)


_RARE = 0.05
"""Part of all frames; statistics may miss an element that is in fewer."""
MANY_ELEMENTS = 20
"""A longer type_map is meant for more than these data."""


def formula(elements: Sequence[str], counts: Sequence[int]) -> str:
    """Return a formula such as O64H128, in the order of the elements."""
    return "".join(f"{name}{n}" for name, n in zip(elements, counts, strict=False) if n)


def check_names(sections: Sequence[Opened], type_map: Sequence[str] | None) -> Iterator[Finding]:
    """Warn of systems whose type numbers have no names; an error where others say otherwise."""
    named = _named_numbers(sections)
    for section in sections:
        for item in section.systems:
            nameless = isinstance(item.system, StoredSystem) and item.system.elements is None
            if type_map is None or not nameless:
                continue
            counts = item.facts.composition[0].tolist()
            here = formula(type_map, counts)
            numbers = _trimmed(counts)
            message = f"{item.name} has no type_map.raw: with this type_map it is {here}"
            hint = f"write type_map.raw: {' '.join(type_map)}, if that is right"
            others = named.get(numbers, {})
            there = next((text for text in others if text != here), None)
            if there is None or here in others:
                yield item.finding("ZOO438", message, hint)
                continue
            message = f"{message} instead of {there} as in {others[there]}"
            hint = "write type_map.raw in the order of the numbers in type.raw"
            yield item.finding("ZOO438", message, hint, severity="error")


def check_coverage(
    training: Opened | None, validation: Opened | None, type_map: Sequence[str], path: Path
) -> Iterator[Finding]:
    """Note elements that the training data do not have."""
    if training is None or not training.whole or not training.systems:
        return
    learned = set().union(*map(_present, training.systems))
    unlearned = [name for number, name in enumerate(type_map) if number not in learned]
    if unlearned and len(type_map) <= MANY_ELEMENTS:
        message = f"no training data have {', '.join(unlearned)}"
        hint = "the model learns nothing about it" if len(unlearned) == 1 else None
        yield Finding("ZOO445", path, message, hint, severity="note")
    yield from _rare(training, type_map, path)
    for item in validation.systems if validation is not None else ():
        new = [type_map[n] for n in _present(item) if n not in learned and n < len(type_map)]
        if new:
            message = f"{item.name} has {', '.join(new)}, which no training data have"
            yield item.finding("ZOO445", message)


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


def _present(item: Surveyed) -> list[int]:
    """Return the numbers of the types that a system has atoms of."""
    return [int(kind) for kind in np.flatnonzero(item.facts.composition.sum(axis=0))]


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
    return tuple(np.trim_zeros(list(counts), "b"))


def check_repeats(section: Opened) -> Iterator[Finding]:
    """Warn of frames that occur twice; a system listed twice is for a rule of the schemas."""
    seen: dict[int, tuple[str, int]] = {}
    listed: set[str] = set()
    for item in section.systems:
        if item.name in listed:
            continue
        listed.add(item.name)
        repeated: list[tuple[int, str, int]] = []
        for frame, value in enumerate(item.facts.hashes.tolist()):
            known = seen.setdefault(value, (item.name, frame))
            if known != (item.name, frame):
                repeated.append((frame, *known))
        if repeated:
            frame, other, first = repeated[0]
            where = f"frame {first}" + ("" if other == item.name else f" of {other}")
            message = (
                f"{item.name}: {len(repeated)} of {item.facts.num_frames} frames occur before, "
                f"such as frame {frame}, which is {where}"
            )
            hint = "they weigh double; remove them"
            yield item.finding("ZOO440", message, hint)


def check_independence(training: Opened | None, validation: Opened | None) -> Iterator[Finding]:
    """Warn of validation frames that are trained on; the same system is for a rule."""
    if training is None or validation is None:
        return
    nothing = np.zeros(0, dtype=np.uint64)
    trained = np.concatenate([nothing, *(item.facts.hashes for item in training.systems)])
    names = {item.system.path.resolve() for item in training.systems}
    for item in validation.systems:
        common = np.flatnonzero(np.isin(item.facts.hashes, trained))
        if len(common) and item.system.path.resolve() not in names:
            message = (
                f"{item.name}: {len(common)} of {item.facts.num_frames} frames are in "
                f"training_data too, such as frame {common[0]}"
            )
            hint = "their error says nothing; validate on other frames"
            yield item.finding("ZOO441", message, hint)


def check_batches(section: Opened) -> Iterator[Finding]:
    """Look at batch sizes and probabilities; rules see those of folders alone."""
    request = section.request
    folders = all(is_folder(item.system) for item in section.systems)
    if not section.whole or folders or request.batch_size is None:
        return
    sizes = [
        SystemSize(item.name, epoch_length(item.system), item.system.num_atoms)
        for item in section.systems
    ]
    found = {
        item.code: item
        for item in sampling_faults(request.batch_size, request.auto_prob, request.sys_probs, sizes)
    }
    for item in found.values():
        yield replace(item, path=request.place(item.path[0]))
