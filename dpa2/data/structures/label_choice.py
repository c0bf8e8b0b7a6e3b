"""Which keys of a frame are its energy, forces and virial: one rule for every file.

A key that says that it is the reference (`REF_energy`, `forces_dft`) comes before a plain one,
which may be a model's; among plain energies the one whose derivative the forces are
(`free_energy`) comes first. A key with other words in it (`MACE_energy`, `energy_per_atom`) is
taken only on demand: where there is nothing else, the file is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from dpa2.data.structures import stress_units
from dpa2.data.structures.structure import (
    NONE,
    FileReport,
    Floats,
    FrameFaultError,
    LabelKeys,
)
from schemas.errors import DataError

_WORDS = {
    "energy": {"energy", "ener", "energies", "etot", "toten"},
    "force": {"force", "forces"},
    "virial": {"virial", "virials", "stress", "stresses"},
}
_OPTIONS = {"energy": "--energy-key", "force": "--forces-key", "virial": "--stress-key"}
_PLAIN = {"info", "total", "potential", "free", "tensor", "consistent"}
_REFERENCE = {"ref", "reference", "dft", "target", "true", "label", "labels", "qm"}
# What `forces_unit` and `force-unit` begin with.
_UNIT = re.compile(r"(?i)(?:(energy|forces?|stress|virials?|lengths?|positions?)[_-])?units?")


class Candidate(NamedTuple):
    """A key that may hold a label.

    Attributes:
        key: As in the file.
        value: A number, (N, 3) or (3, 3).
        rank: 0 reference, 1 plain, 2 other words in it; half a step less for a free energy.
    """

    key: str
    value: Floats
    rank: float


@dataclass(frozen=True, slots=True)
class FrameContext:
    """Where labels are looked for, for messages.

    Attributes:
        where: File and frame.
        keys: What the user asked for.
        report: Where remarks go.
    """

    where: str
    keys: LabelKeys
    report: FileReport


def labels_of(atoms: Atoms, where: str, keys: LabelKeys, report: FileReport) -> dict[str, Floats]:
    """Return energy (eV), force (N, 3) eV/Å and virial (3, 3) eV of a structure that ASE read.

    Args:
        atoms: With labels in the results of its calculator, in `info` and in `arrays`. Forces are
            those computed, whatever atoms are fixed.
        where: File and frame, for messages.
        keys: What the user asked for.
        report: Where remarks go.

    Raises:
        DataError: If it is not clear which key is a label, a unit is not known, or a stress is
            impossible; says which keys there are.
    """
    context = FrameContext(where, keys, report)
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    values = {**atoms.info, **atoms.arrays}
    for key, value in results.items():
        if key in values and not np.array_equal(values[key], value):
            values[f"info {key}"] = values[key]
        values[key] = value
    units = _units(values, where)
    labels = {}
    energy = _choose("energy", values, _number, keys.energy, context)
    if energy is not None:
        labels["energy"] = energy.value * units.get("energy", 1.0)
    elif keys.energy is None and "energies" in values:
        report.note("energies of atoms are left out: there is no energy of the whole")
    force = _choose(
        "force", values, lambda value: _vectors(value, len(atoms)), keys.forces, context
    )
    if force is not None:
        labels["force"] = force.value * units.get("force", 1.0)
    virial = _virial(atoms, values, units, context)
    if virial is not None:
        labels["virial"] = virial
    return labels


def _choose(
    label: str,
    values: Mapping[str, Any],
    parse: Callable[[Any], Floats | None],
    wanted: str | None,
    context: FrameContext,
) -> Candidate | None:
    """Return the key that holds a label and its value, None where there is none."""
    if wanted == NONE:
        return None
    if wanted is not None:
        return _demanded(label, values, parse, wanted, context)
    found = []
    for key, value in values.items():
        rank = _rank(key, _WORDS[label])
        if rank is None or value is None or isinstance(value, bool | np.bool_):
            continue  # a bare word of a comment reads as true
        parsed = parse(value)
        if parsed is not None:
            found.append(Candidate(key, parsed, rank))
        elif rank < 2:
            raise FrameFaultError(f"{key} is no {label}: {_shown(value)}")
    if not found:
        for key in values if label == "force" else ():
            if key.lower().rstrip("s") in {"gradient", "grad"}:
                context.report.note(f"{key} is left out: forces are the negative of a gradient")
        return None
    found.sort(key=lambda candidate: candidate.rank)
    best = found[0]
    if best.rank >= 2:
        listed = ", ".join(candidate.key for candidate in found)
        raise DataError(
            f"{context.where}: it is not clear which key is the {label}: there is {listed}",
            hint=f"{_OPTIONS[label]} {best.key} takes it, {_OPTIONS[label]} none leaves it out",
        )
    others = [
        candidate
        for candidate in found[1:]
        if candidate.rank < 2 and not _same(candidate.value, best.value)
    ]
    rivals = [candidate for candidate in others if candidate.rank == best.rank]
    if rivals:
        listed = ", ".join(candidate.key for candidate in (best, *rivals))
        raise DataError(
            f"{context.where}: there are several {label} keys that differ: {listed}",
            hint=f"say which: {_OPTIONS[label]} {best.key}",
        )
    if others:
        listed = ", ".join(candidate.key for candidate in others)
        why = "the one that the forces belong to" if best.rank % 1 else "the reference"
        context.report.note(
            f"the {label} is taken from {best.key}, {why}; {listed} has other values and is left "
            f"({_OPTIONS[label]} takes another)"
        )
    elif best.rank <= 0:
        context.report.note(f"the {label} is taken from {best.key}")
    context.report.take(label, best.key)
    return best


def _demanded(
    label: str,
    values: Mapping[str, Any],
    parse: Callable[[Any], Floats | None],
    wanted: str,
    context: FrameContext,
) -> Candidate | None:
    if wanted not in values:
        near = [key for key in values if _rank(key, _WORDS[label]) is not None]
        has = f"there is {', '.join(near)}" if near else "no key there looks like one"
        context.report.note(f"no {label}: the key {wanted} is missing; {has}")
        return None
    parsed = parse(values[wanted])
    if parsed is None:
        raise DataError(
            f"{context.where}: {wanted} is no {label}: {_shown(values[wanted])}",
            hint=f"{_OPTIONS[label]} needs another key",
        )
    context.report.take(label, wanted)
    return Candidate(wanted, parsed, 0.0)


def _rank(key: str, words: set[str]) -> float | None:
    """Return how surely a key names a quantity, None if it does not have its word in it."""
    parts = [part.lower() for part in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", key) if part]
    rest = [part for part in parts if part not in words]
    if len(rest) == len(parts) or "unit" in rest or "units" in rest:
        return None
    if parts in (["energies"], ["stresses"]):  # of the atoms, in ASE's vocabulary
        return None
    free = 0.5 if "free" in rest else 0.0
    if all(part in _PLAIN for part in rest):
        return 1.0 - free
    return 0.0 - free if all(part in _PLAIN | _REFERENCE for part in rest) else 2.0


def _virial(
    atoms: Atoms, values: Mapping[str, Any], units: Mapping[str, float], context: FrameContext
) -> Floats | None:
    """Return the virial (3, 3) eV from a virial or a stress, whichever there is."""
    volume = stress_units.volume_of(atoms.cell.array)
    wanted = context.keys.stress
    there = {
        key: value
        for key, value in values.items()
        if key == wanted or _rank(key, _WORDS["virial"]) is not None
    }
    if there and not (volume > 0.0 and atoms.pbc.any()):
        context.report.note(f"{', '.join(there)} is left out: it means nothing without a cell")
        return None
    unit = context.keys.stress_unit
    factor = units.get("stress", 1.0) if unit is None else stress_units.UNITS[unit]
    virials = {
        key: _as_virial(key, value, units.get("virial", 1.0), -volume * factor)
        for key, value in there.items()
    }
    chosen = _choose("virial", virials, stress_units.tensor, wanted, context)
    if chosen is None:
        return None
    if np.isfinite(chosen.value).all():
        stress_units.check_virial(chosen.value, volume, chosen.key, len(atoms), context.where)
        stress_units.remark_on_pressure(chosen.value, volume, chosen.key, context.report)
    return chosen.value


def _as_virial(key: str, value: Any, of_virial: float, of_stress: float) -> Any:
    matrix = stress_units.tensor(value)
    if matrix is None:
        return value
    return matrix * (of_virial if "virial" in key.lower() else of_stress)


def _units(values: Mapping[str, Any], where: str) -> dict[str, float]:
    """Return the factors of the units that a frame names, for energy, force, stress, virial."""
    factors: dict[str, float] = {}
    for key, value in values.items():
        named = _UNIT.fullmatch(key)
        if named is None or not isinstance(value, str):
            continue
        quantity = (named[1] or "any").lower().removesuffix("s").replace("stres", "stress")
        factor = stress_units.factor(quantity, value)
        if factor is None:
            raise DataError(
                f"{where}: {key} is {_shown(value)}, which is not converted",
                hint="write energies in eV, lengths in Å, stress in eV/Å³, and take the key out",
            )
        factors[quantity] = factor
    return factors


def _number(value: Any) -> Floats | None:
    if isinstance(value, str | bool | np.bool_) or value is None:
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(()) if array.size == 1 else None


def _vectors(value: Any, num_atoms: int) -> Floats | None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return None
    if value.shape == (num_atoms, 3) or (num_atoms == 1 and value.shape == (3,)):
        return value.reshape(num_atoms, 3).astype(np.float64)
    return None


def _same(one: Floats, other: Floats) -> bool:
    """Return whether two values agree in the digits that files keep."""
    largest = float(np.abs(one).max(initial=0.0))
    rounding = 1e-4 if one.shape == (3, 3) else 1e-9  # a stress is multiplied with a volume
    return bool(np.allclose(one, other, rtol=0, atol=rounding * largest + 1e-9, equal_nan=True))


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."
