"""Labels that are missing, outliers, all zero, or in units that do not fit each other."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dpa2.data.frames import LABELS, FloatArray
from dpa2.data.preflight.opened import Opened, Surveyed, element_names, is_folder
from dpa2.data.preflight.survey import Survey
from dpa2.data.preflight.units import GPA, energy_reason, is_right, virial_reason
from dpa2.data.preflight.work import factors_of, unexplained, virial_factor
from schemas.base.diagnostics import Finding
from schemas.check.sampling import ADD_ENERGIES

_FEW = 5
_FAR = 20.0
"""Outliers are this many standard deviations (from the median deviation) off the median, ..."""
_LEAST_ENERGY = 0.5
"""... at least this many eV per atom, ..."""
_LEAST_FORCE = 30.0
"""... or eV/Å."""
_LARGE_FORCE = 15.0
_COMPRESSED = 0.95
"""Frames whose closest atoms are nearer than this part of the usual have reason to be outliers."""
_ALIKE = 1.15
"""Surroundings whose distances and densities differ by less are of one kind."""
_UNLIKE = 30.0
"""eV per atom; no cohesion, no pressure makes energies of one composition differ by more."""
_SHORT = 0.72
"""Of the sum of the covalent radii; bonds this short go with large forces."""


def check_labels(section: Opened, learned: Collection[str]) -> Iterator[Finding]:
    """Look at the energies and forces of each system."""
    present = frozenset[str]().union(*(item.system.labels for item in section.systems))
    for item in section.systems:
        needless = {"virial"} & present if not item.system.periodic else set()
        yield from _missing(item, set(learned) - needless)
        yield from _constant(item)
        outliers = list(_outliers(item))
        yield from outliers
        yield from _slope(item)
        if not outliers:
            yield from _other_frames(item)


def check_trained(training: Opened, learned: Collection[str]) -> Iterator[Finding]:
    """Demand that training data have some label that the loss trains, energies if it does these."""
    if not training.whole or all(is_folder(item.system) for item in training.systems):
        return
    present = {label for item in training.systems for label in item.system.labels}
    if "energy" in learned and not present & {"energy", "atom_energy"}:
        message = "energies are trained, but no training system has any"
        yield Finding("ZOO634", training.systems[0].entry.path, message, ADD_ENERGIES)
    elif learned and not present & set(learned):
        message = f"no training system has what the loss trains ({', '.join(sorted(learned))})"
        yield Finding("ZOO635", training.systems[0].entry.path, message)


def check_references(sections: Sequence[Opened]) -> Iterator[Finding]:
    """Warn of systems whose energies are far from those of others of the same composition.

    An atom alone, a cluster and a crystal differ by their cohesion: where surroundings are unlike,
    only what no cohesion explains is far.
    """
    groups: dict[tuple[tuple[str, int], ...], list[tuple[Surveyed, float, float]]] = {}
    for section in sections:
        for item in section.systems:
            energies = _per_atom(item)
            energies = energies[np.isfinite(energies)]
            rows = item.facts.composition
            if len(energies) and (rows == rows[0]).all():
                middle = float(np.median(energies))
                counts = zip(element_names(item.system), rows[0].tolist(), strict=False)
                key = tuple(sorted((name, count) for name, count in counts if count))
                groups.setdefault(key, []).append((item, middle, _spread(energies)))
    for group in groups.values():
        for item, middle, _ in group:
            like = [row for row in group if _are_alike(row[0], item)]
            others = like if len(like) > 1 else group
            usual = others[0][1] if len(others) == 2 else float(np.median([o[1] for o in others]))
            least = _LEAST_ENERGY if len(like) > 1 else _UNLIKE
            spread = max(row[2] for row in others)
            if abs(middle - usual) > max(least, _FAR * spread):
                message = (
                    f"{item.name}: energies are {middle - usual:+.3g} eV per atom off those of "
                    "other systems of the same composition"
                )
                hint = "another unit, method or reference energy? Make them the same in all data"
                yield item.finding("ZOO435", message, hint)


def _are_alike(one: Surveyed, other: Surveyed) -> bool:
    """Tell whether atoms of two systems have neighbours at like distances, and as many."""
    pairs = []
    for item in (one, other):
        shortest = item.facts.shortest[np.isfinite(item.facts.shortest)]
        counts = item.facts.counts[-1] if item.facts.counts else np.ones(1)
        around = float(counts @ np.arange(len(counts))) / max(1, int(counts.sum()))
        pairs.append((float(np.median(shortest)) if len(shortest) else 0.0, around, item))
    (distance, around, _), (other_distance, other_around, _) = pairs
    if one.system.periodic != other.system.periodic:
        return False
    same = max(distance, other_distance) <= _ALIKE * min(distance, other_distance)
    return same and max(around, other_around) + 1 <= _ALIKE**3 * (min(around, other_around) + 1)


def _missing(item: Surveyed, learned: Collection[str]) -> Iterator[Finding]:
    """Labels of folders are looked for by a rule of the schemas, also without this pass."""
    if is_folder(item.system):
        return
    for label in sorted(set(learned) - item.system.labels):
        file = LABELS[label].stems[0]
        message = f"{item.name} has no {file}: it is not learned there"
        yield item.finding("ZOO421", message)


def _constant(item: Surveyed) -> Iterator[Finding]:
    facts = item.facts
    if len(facts.force) and not facts.force.any() and facts.lopsided:
        message = f"{item.name}: all forces are 0"
        yield item.finding("ZOO437", message, "leave out force.npy")
    if facts.num_frames > 1 and len(facts.energy) and not facts.energy.any():
        message = f"{item.name}: all energies are 0"
        yield item.finding("ZOO437", message, "leave out energy.npy")


def _outliers(item: Surveyed) -> Iterator[Finding]:
    facts = item.facts
    for label, unit, values, odd in (
        ("energy", "eV per atom", _per_atom(item), _odd_energies(item)),
        ("force", "eV/Å", facts.force, _odd_forces(facts.force)),
    ):
        found = _unexplained(facts, odd)
        if not len(found):
            continue
        worst = int(found[np.argmax(np.abs(values[found] - np.nanmedian(values)))])
        message = (
            f"{item.name}: {label} of frame {worst} is {values[worst]:.4g} {unit}, "
            f"others have {np.nanmedian(values):.4g}"
        )
        hint = f"look at {len(found)} of {facts.num_frames} frames; an unconverged calculation?"
        yield item.finding("ZOO435", message, hint)
    usual = facts.force_rms[np.isfinite(facts.force_rms)]
    is_short = facts.bond_ratio < _SHORT or facts.num_atoms < 3
    if len(usual) >= _FEW and np.median(usual) > _LARGE_FORCE and not is_short:
        message = f"{item.name}: forces are {np.median(usual):.3g} eV/Å in the mean"
        hint = "are they in kcal/mol/Å or another unit? Forces are in eV/Å"
        yield item.finding("ZOO436", message, hint)


def _unexplained(facts: Survey, found: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return those of some frames whose atoms are not closer to each other than in others."""
    others = np.delete(facts.shortest, found)
    if not len(found) or not len(others):
        return found
    return found[~(facts.shortest[found] < _COMPRESSED * np.median(others))]


def _odd_energies(item: Surveyed) -> NDArray[np.intp]:
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


def _odd_forces(force: FloatArray) -> NDArray[np.intp]:
    usual = force[np.isfinite(force)]
    if len(usual) < _FEW:
        return np.zeros(0, dtype=np.intp)
    limit = max(_LEAST_FORCE, _FAR * float(np.median(usual)))
    return np.flatnonzero(np.isfinite(force) & (force > limit))


def _slope(item: Surveyed) -> Iterator[Finding]:
    """Warn where energies do not change as the forces say."""
    factor = factors_of(item.facts.work).force
    if factor is None or item.facts.unit:
        return
    reason = energy_reason(factor, item.facts.same_number)
    if reason is not None:
        message = (
            f"{item.name}: between frames, energies change by {factor:.3g} times the work of the "
            "forces"
        )
        hint = f"{reason}; energies are in eV, forces in eV/Å, coordinates in Å"
        yield item.finding("ZOO436", message, hint)


def _other_frames(item: Surveyed) -> Iterator[Finding]:
    """Warn where energies change, and forces have nothing to do with it."""
    missed = unexplained(item.facts.work)
    if missed is None or item.facts.unit:
        return
    message = (
        f"{item.name}: between frames, {100 * missed:.0f} % of the changes of the energies are not "
        "the work of the forces, in whatever units"
    )
    hint = (
        "are energies and forces those of the same frames, forces in the order of the atoms "
        "(x y z of each atom), and all energies of one method?"
    )
    yield item.finding("ZOO464", message, hint)


def _per_atom(item: Surveyed) -> FloatArray:
    """Return energies in eV per atom, as long as there are any."""
    energy = item.facts.energy
    if not len(energy):
        return energy
    return np.asarray(energy / np.maximum(item.facts.composition.sum(axis=1), 1), dtype=np.float64)


def _spread(values: FloatArray) -> float:
    """Return a standard deviation that outliers do not move."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


_MOST_PRESSURE = 500.0
"""GPa; the centre of the Earth has 360. Atoms that are not pressed together have less."""
_MOST_AT_ALL = 5000.0
_PRESSED = 0.75
"""Of the sum of the covalent radii."""
_SKEW = 0.05
_ESTIMATE = 1.5
"""Factor by which pair potentials may be off where they name a unit."""
_FAR_FACTOR = 20.0
"""A factor beyond is another unit although no known one."""
_RIGHT_BY_PAIRS = (0.35, 1.8)
"""Factors in between are 1 where pair potentials stand for the forces: in metals they are low."""


def check_virials(section: Opened) -> Iterator[Finding]:
    """Compare virials with energies, with forces, and with what matter bears."""
    for item in section.systems:
        if item.facts.unit or not item.system.has("virial"):
            continue
        found = _by_work(item) or _by_forces(item) or _by_size(item)
        if found is not None:
            yield found
        skew = item.facts.asymmetry
        if len(skew) and np.nanmedian(skew) > _SKEW:
            frame = int(np.nanargmax(skew))
            message = f"{item.name}: virials are not symmetric, such as that of frame {frame}"
            hint = "nine numbers a frame, row by row: xx xy xz yx yy yz zx zy zz"
            yield item.finding("ZOO462", message, hint)


def _by_work(item: Surveyed) -> Finding | None:
    """Compare with energies of cells that differ a little."""
    factors, facts = factors_of(item.facts.work), item.facts
    if factors.virial is None:
        return None
    factor = factors.virial / (factors.force or 1.0)
    seen = f"between cells, energies change by {factors.virial:.3g} times the work of the stress"
    right = factors.force is not None
    reason = virial_reason(factor, facts.volume, facts.same_number, energies_are_right=right)
    return _finding(item, seen, reason)


def _by_forces(item: Surveyed) -> Finding | None:
    facts, periodic = item.facts, item.system.periodic
    factor = virial_factor(facts.virials, periodic=periodic)
    of_forces = factors_of(facts.work).force
    if factor is None or not (of_forces is None or is_right(of_forces)):
        return None
    if periodic and _RIGHT_BY_PAIRS[0] < factor < _RIGHT_BY_PAIRS[1]:
        return None
    reason = virial_reason(
        factor,
        facts.volume,
        facts.same_number,
        energies_are_right=True,
        tolerance=_ESTIMATE if periodic else 1.2,
    )
    is_named = reason is not None and reason.startswith("perhaps")
    is_far = not 1 / _FAR_FACTOR < abs(factor) < _FAR_FACTOR
    if periodic and not (is_named or is_far):  # an estimate only
        return None
    return _finding(item, f"forces make about {factor:.3g} times these virials", reason)


def _by_size(item: Surveyed) -> Finding | None:
    pressure = item.facts.pressure * GPA
    pressure = pressure[np.isfinite(pressure)]
    most = _MOST_PRESSURE if item.facts.bond_ratio > _PRESSED else _MOST_AT_ALL
    if not len(pressure) or np.median(pressure) < most:
        return None
    seen = (
        f"virials are those of a pressure of {np.median(pressure):.3g} GPa, in atoms "
        "that are not pressed together"
    )
    return _finding(item, seen, "are they stresses in kB or GPa?")


def _finding(item: Surveyed, seen: str, reason: str | None) -> Finding | None:
    """Return what is wrong with virials; None without a reason."""
    if reason is None:
        return None
    hint = (
        f"{reason}; a virial is -volume * stress in eV, positive under pressure: stress in eV/Å³, "
        "tension positive"
    )
    return item.finding("ZOO461", f"{item.name}: {seen}", hint)
