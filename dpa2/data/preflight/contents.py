"""Numbers that no training survives: NaN, overlapping atoms, odd cells."""

from collections.abc import Iterator

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed
from dpa2.data.preflight.radii import covalent_radii
from schemas.diagnostics import Finding, Severity

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
                yield Finding("ZOO446", item.entry.path, note, severity="warning")


def _unit(item: Surveyed) -> Finding:
    bonds = ", ".join(f"{pair} {length:.3g}" for pair, length in item.facts.bonds.items())
    message = f"{item.name}: {item.facts.unit}? In Å, neighbours are nowhere at bonding distance"
    hint = f"coordinates and cells are in Å; as they are, the closest atoms are {bonds} Å apart"
    return Finding("ZOO434", item.entry.path, message, hint, severity="warning")


def _bad_numbers(item: Surveyed) -> Iterator[Finding]:
    for bad in item.facts.bad:
        atom = f", atom {bad.atom}" if bad.atom >= 0 else ""
        message = f"{item.name}: {bad.array} of frame {bad.frame}{atom} is {bad.value}"
        frames = f"{bad.num_frames} of {item.facts.num_frames} frames"
        yield Finding(
            "ZOO432", item.entry.path, message, f"remove {frames}: they have such numbers"
        )


def _overlaps(item: Surveyed, min_pair_dist: float) -> Iterator[Finding]:
    facts = item.facts
    left_out = int((facts.shortest < min_pair_dist).sum())
    path = item.entry.path
    if left_out == facts.num_frames:
        message = f"{item.name}: min_pair_dist ({min_pair_dist:g} Å) leaves no frame"
        yield Finding("ZOO433", path, message, f"the closest pairs are {_range(facts.shortest)}")
    elif left_out:
        message = f"{item.name}: min_pair_dist leaves out {left_out} of {facts.num_frames} frames"
        yield Finding("ZOO433", path, message, severity="note")
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
        yield Finding("ZOO433", path, message, hint)
    elif pair.distance < _CLOSE * float(covalent_radii(pair.elements).sum()):
        hint = "less than half of the sum of their covalent radii: is that meant?"
        yield Finding("ZOO433", path, message, hint, severity="warning")


def _cells(item: Surveyed) -> Iterator[Finding]:
    left = np.flatnonzero(item.facts.left_handed)
    if len(left):
        message = (
            f"{item.name}: {len(left)} of {item.facts.num_frames} cells are left-handed "
            f"(determinant < 0), first that of frame {left[0]}"
        )
        hint = "swap two cell vectors; deepmd-kit computes wrong energies for such cells"
        yield Finding("ZOO439", item.entry.path, message, hint, severity="warning")
    if item.facts.thinnest < _THIN and not item.facts.unit:
        message = f"{item.name}: a cell is only {item.facts.thinnest:.2g} Å thick"
        hint = "are the cell vectors in Å, one a row?"
        severity: Severity = "error" if item.facts.thinnest < _OVERLAP else "warning"
        yield Finding("ZOO439", item.entry.path, message, hint, severity=severity)


def _range(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return f"{values.min():.3g} to {values.max():.3g} Å apart"
