"""Which keys of a frame are its energy, forces and virial, and in which units.

A key that says that it is the reference (`REF_energy`, `forces_dft`) comes before a plain one,
which may be a model's; among plain energies the one whose derivative the forces are
(`free_energy`) comes first. A key with other words in it (`MACE_energy`, `energy_per_atom`) is
taken only on demand: where there is nothing else, the file is refused.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from dpa2.data.structures.structure import NONE, Floats, FrameFaultError, LabelKeys, Reading
from schemas.base.errors import DataError

_GPA = 160.21766208
UNITS = {
    "eV/A^3": 1.0,
    "GPa": 1.0 / _GPA,
    "kbar": 0.1 / _GPA,
    "bar": 1e-4 / _GPA,
    "-eV/A^3": -1.0,
    "-GPa": -1.0 / _GPA,
    "-kbar": -0.1 / _GPA,
    "-bar": -1e-4 / _GPA,
}
"""Units of stress in eV/Å³; those with a minus count compression positive, as VASP prints it."""

_HARTREE, _RYDBERG, _BOHR, _MOL = 27.211386245988, 13.605693122994, 0.529177210903, 96.48533212331
# In eV and Å, in lower case.
_ENERGIES = {
    "ev": 1.0, "electronvolt": 1.0,
    "hartree": _HARTREE, "ha": _HARTREE, "au": _HARTREE, "a.u.": _HARTREE, "eh": _HARTREE,
    "ry": _RYDBERG, "rydberg": _RYDBERG, "kcal/mol": 4.184 / _MOL, "kj/mol": 1.0 / _MOL,
}  # fmt: skip
_LENGTHS = {"a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "bohr": _BOHR, "au": _BOHR,
            "a.u.": _BOHR, "nm": 10.0}  # fmt: skip
_STRESSES = {name.lower(): value for name, value in UNITS.items()}

# eV/Å³. Diamond at the centre of the Earth has 360 GPa; 480 GPa are 3 eV/Å³.
_ABSURD = 3.0
_HIGH = 0.3
# eV; no static compression puts more work into an atom.
_ABSURD_PER_ATOM = 50.0

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


def labels_of(atoms: Atoms, reading: Reading) -> dict[str, Floats]:
    """Return energy (eV), force (N, 3) eV/Å and virial (3, 3) eV of a structure that ASE read.

    Args:
        atoms: With labels in the results of its calculator, in `info` and in `arrays`. Forces are
            those computed, whatever atoms are fixed.
        reading: What the user asked for, and where remarks go.

    Raises:
        DataError: If it is not clear which key is a label, a unit is not known, or a stress is
            impossible; says which keys there are.
    """
    keys = reading.keys
    if keys is None:
        return {}
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    values = {**atoms.info, **atoms.arrays}
    for key, value in results.items():
        if key in values and not np.array_equal(values[key], value):
            values[f"info {key}"] = values[key]
        values[key] = value
    units = _units(values, reading)
    labels = {}
    energy = _choose("energy", values, _number, reading)
    if energy is not None:
        labels["energy"] = energy.value * units.get("energy", 1.0)
    elif keys.energy is None and "energies" in values:
        reading.note("energies of atoms are left out: there is no energy of the whole")
    force = _choose("force", values, lambda value: _vectors(value, len(atoms)), reading)
    if force is not None:
        labels["force"] = force.value * units.get("force", 1.0)
    virial = _virial(atoms, values, units, keys, reading)
    if virial is not None:
        labels["virial"] = virial
    return labels


def _choose(
    label: str,
    values: Mapping[str, Any],
    parse: Callable[[Any], Floats | None],
    reading: Reading,
) -> Candidate | None:
    """Return the key that holds a label and its value, None where there is none."""
    wanted = reading.keys.of(label) if reading.keys is not None else NONE
    if wanted == NONE:
        return None
    if wanted is not None:
        return _demanded(label, values, parse, wanted, reading)
    found = _candidates(label, values, parse)
    if not found:
        for key in values if label == "force" else ():
            if key.lower().rstrip("s") in {"gradient", "grad"}:
                reading.note(f"{key} is left out: forces are the negative of a gradient")
        return None
    best = found[0]
    option = _OPTIONS[label]
    if best.rank >= 2:
        raise DataError(
            f"{reading.where}: it is not clear which key is the {label}: there is {_listed(found)}",
            hint=f"{option} {best.key} takes it, {option} none leaves it out",
        )
    others = [c for c in found[1:] if c.rank < 2 and not _same(c.value, best.value)]
    rivals = [candidate for candidate in others if candidate.rank == best.rank]
    if rivals:
        raise DataError(
            f"{reading.where}: there are several {label} keys that differ: "
            f"{_listed([best, *rivals])}",
            hint=f"say which: {option} {best.key}",
        )
    if others:
        why = "the one that the forces belong to" if best.rank % 1 else "the reference"
        reading.note(
            f"the {label} is taken from {best.key}, {why}; {_listed(others)} has other values and "
            f"is left ({option} takes another)"
        )
    elif best.rank <= 0:
        reading.note(f"the {label} is taken from {best.key}")
    reading.take(label, best.key)
    return best


def _candidates(
    label: str, values: Mapping[str, Any], parse: Callable[[Any], Floats | None]
) -> list[Candidate]:
    """Return the keys whose names and values may be a label, the best first."""
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
    return sorted(found, key=lambda candidate: candidate.rank)


def _listed(candidates: list[Candidate]) -> str:
    return ", ".join(candidate.key for candidate in candidates)


def _demanded(
    label: str,
    values: Mapping[str, Any],
    parse: Callable[[Any], Floats | None],
    wanted: str,
    reading: Reading,
) -> Candidate | None:
    if wanted not in values:
        near = [key for key in values if _rank(key, _WORDS[label]) is not None]
        has = f"there is {', '.join(near)}" if near else "no key there looks like one"
        reading.note(f"no {label}: the key {wanted} is missing; {has}")
        return None
    parsed = parse(values[wanted])
    if parsed is None:
        raise DataError(
            f"{reading.where}: {wanted} is no {label}: {_shown(values[wanted])}",
            hint=f"{_OPTIONS[label]} needs another key",
        )
    reading.take(label, wanted)
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
    atoms: Atoms,
    values: Mapping[str, Any],
    units: Mapping[str, float],
    keys: LabelKeys,
    reading: Reading,
) -> Floats | None:
    """Return the virial (3, 3) eV from a virial or a stress, whichever there is."""
    volume = volume_of(atoms.cell.array)
    there = {
        key: value
        for key, value in values.items()
        if key == keys.stress or _rank(key, _WORDS["virial"]) is not None
    }
    if there and not (volume > 0.0 and atoms.pbc.any()):
        reading.note(f"{', '.join(there)} is left out: it means nothing without a cell")
        return None
    factor = units.get("stress", 1.0) if keys.stress_unit is None else UNITS[keys.stress_unit]
    virials = {
        key: _as_virial(key, value, units.get("virial", 1.0), -volume * factor)
        for key, value in there.items()
    }
    chosen = _choose("virial", virials, _tensor, reading)
    if chosen is None:
        return None
    if np.isfinite(chosen.value).all():
        _check_virial(chosen.value, volume, chosen.key, len(atoms), reading)
    return chosen.value


def _as_virial(key: str, value: Any, of_virial: float, of_stress: float) -> Any:
    matrix = _tensor(value)
    if matrix is None:
        return value
    return matrix * (of_virial if "virial" in key.lower() else of_stress)


def _check_virial(
    virial: Floats, volume: float, key: str, num_atoms: int, reading: Reading
) -> None:
    """Refuse a virial that no material has, and note one that is possible and rare.

    Raises:
        DataError: If it is more than 3 eV/Å³ or 50 eV an atom.
    """
    largest = float(np.abs(virial).max())
    pressure = largest / volume
    is_virial = "virial" in key.lower()
    if pressure > _ABSURD or largest > _ABSURD_PER_ATOM * num_atoms:
        hint = "leave it out: --stress-key none"
        if not is_virial:
            hint = f"say its unit: --stress-unit GPa, bar, or -kbar as VASP prints it; or {hint}"
        raise DataError(
            f"{reading.where}: {key}, taken in {'eV' if is_virial else 'eV/Å³'}, makes a pressure "
            f"of {pressure * _GPA:.4g} GPa and a virial of {largest / num_atoms:.4g} eV an atom, "
            "which no material bears: is it in another unit (GPa, kbar)?",
            hint=hint,
        )
    if pressure > _HIGH:
        reading.note(
            f"{key} makes pressures of more than {_HIGH * _GPA:.0f} GPa: if that is not meant, its "
            "unit is not the one assumed (--stress-unit)"
        )


def _units(values: Mapping[str, Any], reading: Reading) -> dict[str, float]:
    """Return the factors of the units that a frame names, for energy, force, stress, virial."""
    factors: dict[str, float] = {}
    for key, value in values.items():
        named = _UNIT.fullmatch(key)
        if named is None or not isinstance(value, str):
            continue
        quantity = (named[1] or "any").lower().removesuffix("s").replace("stres", "stress")
        factor = _unit(quantity, value)
        if factor is None:
            raise DataError(
                f"{reading.where}: {key} is {_shown(value)}, which is not converted",
                hint="write energies in eV, lengths in Å, stress in eV/Å³, and take the key out",
            )
        factors[quantity] = factor
    return factors


def _unit(quantity: str, unit: str) -> float | None:
    """Return what turns a value in a unit into eV, Å, eV/Å or eV/Å³; None if that is not known.

    Args:
        quantity: energy, virial, force, stress; anything else is taken in ours only.
        unit: As in a file: `eV`, `hartree/bohr`, `GPa`, `kcal/mol/ang`, in any case.
    """
    text = unit.strip().lower().replace("angstrom", "ang")
    if quantity in {"energy", "virial"}:
        return _ENERGIES.get(text)
    if quantity == "force":
        energy, _, length = ("au", "/", "au") if text in {"au", "a.u."} else text.rpartition("/")
        known = energy in _ENERGIES and length in _LENGTHS
        return _ENERGIES[energy] / _LENGTHS[length] if known else None
    if quantity == "stress":
        return _STRESSES.get(re.sub(r"/(ang|å)\^?3$", "/a^3", text).replace("å^3", "a^3"))
    return 1.0 if _LENGTHS.get(text) == 1.0 or text in {"ev", "metal", "ase"} else None


def volume_of(cell: Floats) -> float:
    """Return the volume (Å³) of a cell (3, 3) of either handedness; nan where the cell is none."""
    with np.errstate(all="ignore"):
        return abs(float(np.linalg.det(cell)))


def _tensor(value: object) -> Floats | None:
    """Return the matrix (3, 3) of nine numbers, or of six in the order xx yy zz yz xz xy."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    if array.size == 6:
        array = array[[0, 5, 4, 5, 1, 3, 4, 3, 2]]
    return array.reshape(3, 3) if array.size == 9 else None


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
