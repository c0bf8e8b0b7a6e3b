"""Labels that are missing, outliers, all zero, or in units that do not fit each other."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from dpa2.data.frames import FloatArray
from dpa2.data.labels import LABELS
from dpa2.data.npy import NpyFolder
from dpa2.data.preflight.opened import Opened, Surveyed
from dpa2.data.stored_system import StoredSystem
from schemas.diagnostics import Finding
from schemas.rules.labels import ADD_ENERGIES

_FEW = 5
_FAR = 20.0
"""Outliers are this many standard deviations (from the median deviation) off the median, ..."""
_LEAST_ENERGY = 0.5
"""... at least this many eV per atom, ..."""
_LEAST_FORCE = 30.0
"""... or eV/Å."""
_LARGE_FORCE = 15.0

# CODATA 2018: eV per Hartree, Å per Bohr, eV per kcal/mol.
_HARTREE, _BOHR, _KCAL = 27.211386, 0.529177, 0.0433641
_SLOPES = {
    "energies are in Hartree": 1 / _HARTREE,
    "energies are in Rydberg": 2 / _HARTREE,
    "energies are in kcal/mol": 1 / _KCAL,
    "forces are in Hartree/Bohr": _HARTREE / _BOHR,
    "forces are in Rydberg/Bohr": _HARTREE / _BOHR / 2,
    "forces are in kcal/mol/Å": _KCAL,
    "energies are in Hartree and forces in Hartree/Bohr": 1 / _BOHR,
    "forces are in eV/Bohr": 1 / _BOHR,
    "forces are gradients (the sign is reversed)": -1.0,
}
"""ΔE over the work of the forces, where units are not eV and eV/Å."""


def check_labels(section: Opened, learned: Collection[str]) -> Iterator[Finding]:
    """Look at the energies and forces of each system."""
    for item in section.systems:
        yield from _missing(item, learned)
        yield from _constant(item)
        yield from _outliers(item)
        yield from _slope(item)


def check_trained(training: Opened, learned: Collection[str]) -> Iterator[Finding]:
    """Demand that training data have some label that the loss trains, energies if it does these."""
    if not training.whole or all(_is_folder(item) for item in training.systems):
        return
    present = {label for item in training.systems for label in item.system.labels}
    if "energy" in learned and not present & {"energy", "atom_energy"}:
        message = "energies are trained, but no training system has any"
        yield Finding("ZOO634", training.systems[0].entry.path, message, ADD_ENERGIES)
    elif learned and not present & set(learned):
        message = f"no training system has what the loss trains ({', '.join(sorted(learned))})"
        yield Finding("ZOO635", training.systems[0].entry.path, message)


def check_references(sections: Sequence[Opened]) -> Iterator[Finding]:
    """Warn of systems whose energies are far from those of others of the same composition."""
    groups: dict[tuple[int, ...], list[tuple[Surveyed, float, float]]] = {}
    for section in sections:
        for item in section.systems:
            energies = _energy_per_atom(item)
            rows = item.facts.composition
            if len(energies) and (rows == rows[0]).all():
                middle = float(np.median(energies))
                group = groups.setdefault(tuple(rows[0].tolist()), [])
                group.append((item, middle, _spread(energies)))
    for group in groups.values():
        usual = group[0][1] if len(group) == 2 else float(np.median([row[1] for row in group]))
        spread = max(row[2] for row in group)
        for item, middle, _ in group:
            if abs(middle - usual) > max(_LEAST_ENERGY, _FAR * spread):
                message = (
                    f"{item.name}: energies are {middle - usual:+.3g} eV per atom off those of "
                    "other systems of the same composition"
                )
                hint = "another unit, method or reference energy? Make them the same in all data"
                yield Finding("ZOO435", item.entry.path, message, hint, severity="warning")


def _is_folder(item: Surveyed) -> bool:
    return isinstance(item.system, StoredSystem) and isinstance(item.system.store, NpyFolder)


def _missing(item: Surveyed, learned: Collection[str]) -> Iterator[Finding]:
    """Labels of folders are looked for by a rule of the schemas, also without this pass."""
    if _is_folder(item):
        return
    for label in sorted(set(learned) - item.system.labels):
        file = LABELS[label].stems[0]
        message = f"{item.name} has no {file}: it is not learned there"
        yield Finding("ZOO421", item.entry.path, message, severity="warning")


def _constant(item: Surveyed) -> Iterator[Finding]:
    facts = item.facts
    path = item.entry.path
    if len(facts.force) and not facts.force.any():
        message = f"{item.name}: all forces are 0"
        yield Finding("ZOO437", path, message, "leave out force.npy", severity="warning")
    if facts.num_frames > 1 and len(facts.energy) and not facts.energy.any():
        message = f"{item.name}: all energies are 0"
        yield Finding("ZOO437", path, message, "leave out energy.npy", severity="warning")


def _outliers(item: Surveyed) -> Iterator[Finding]:
    facts = item.facts
    for label, unit, values, found in (
        ("energy", "eV per atom", _per_atom(item), _odd_energies(item)),
        ("force", "eV/Å", facts.force, _odd_forces(facts.force)),
    ):
        if not len(found):
            continue
        worst = int(found[np.argmax(np.abs(values[found] - np.nanmedian(values)))])
        message = (
            f"{item.name}: {label} of frame {worst} is {values[worst]:.4g} {unit}, "
            f"others have {np.nanmedian(values):.4g}"
        )
        hint = f"look at {len(found)} of {facts.num_frames} frames; an unconverged calculation?"
        yield Finding("ZOO435", item.entry.path, message, hint, severity="warning")
    usual = facts.force_rms[np.isfinite(facts.force_rms)]
    if len(usual) >= _FEW and np.median(usual) > _LARGE_FORCE:
        message = f"{item.name}: forces are {np.median(usual):.3g} eV/Å in the mean"
        hint = "are they in kcal/mol/Å or another unit? Forces are in eV/Å"
        yield Finding("ZOO436", item.entry.path, message, hint, severity="warning")


def _odd_energies(item: Surveyed) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return frames whose energy is far from those of the same composition in the system."""
    values = _per_atom(item)
    found: list[int] = []
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    _, kinds = np.unique(item.facts.composition, axis=0, return_inverse=True)
    for kind in range(int(kinds.max()) + 1):
        members = np.flatnonzero((kinds.reshape(-1) == kind) & np.isfinite(values))
        if len(members) >= _FEW:
            off = np.abs(values[members] - np.median(values[members]))
            limit = max(_LEAST_ENERGY, _FAR * _spread(values[members]))
            found += members[off > limit].tolist()
    return np.array(sorted(found), dtype=np.intp)


def _odd_forces(force: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    usual = force[np.isfinite(force)]
    if len(usual) < _FEW:
        return np.zeros(0, dtype=np.intp)
    limit = max(_LEAST_FORCE, _FAR * float(np.median(usual)))
    return np.flatnonzero(np.isfinite(force) & (force > limit))


def _slope(item: Surveyed) -> Iterator[Finding]:
    """Warn where energies do not change as the forces say."""
    number, change, work, both = item.facts.slope.tolist()
    if number < _FEW or work <= 0 or change <= 0 or both**2 < 0.9 * change * work:
        return
    slope = both / work
    if abs(slope - 1) < 0.25:
        return
    name, best = min(_SLOPES.items(), key=lambda pair: abs(slope / pair[1] - 1))
    reason = f"perhaps {name}" if abs(slope / best - 1) < 0.1 else "one of them has another unit"
    message = (
        f"{item.name}: between frames, energies change by {slope:.3g} times the work of the forces"
    )
    hint = f"{reason}; energies are in eV, forces in eV/Å, coordinates in Å"
    yield Finding("ZOO436", item.entry.path, message, hint, severity="warning")


def _per_atom(item: Surveyed) -> FloatArray:
    """Return energies in eV per atom, as long as there are any."""
    energy = item.facts.energy
    if not len(energy):
        return energy
    return np.asarray(energy / np.maximum(item.facts.composition.sum(axis=1), 1), dtype=np.float64)


def _energy_per_atom(item: Surveyed) -> FloatArray:
    values = _per_atom(item)
    return values[np.isfinite(values)]


def _spread(values: FloatArray) -> float:
    """Return a standard deviation that outliers do not move."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
