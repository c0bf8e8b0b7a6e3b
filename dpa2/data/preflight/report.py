"""The preflight of bare data, without an input file (`zoo data check`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpa2.data.preflight.cache import default_folder
from dpa2.data.preflight.formulas import formula
from dpa2.data.preflight.opened import Surveyed, element_names
from dpa2.data.preflight.request import Cutoff, DataRequest, Entry, Task
from dpa2.data.preflight.run import preflight
from schemas.diagnostics import Finding, Severity

_MOST_ALIKE = 3


@dataclass(frozen=True, slots=True)
class DataFault:
    """A fault of one of the paths, `entry` being its number."""

    code: str
    severity: Severity
    message: str
    hint: str | None
    entry: int


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """A system in numbers; what cannot be said is None.

    Attributes:
        name: The path.
        num_frames: Frames.
        formula: Atoms of the first frame.
        closest: Å between the closest two atoms of all frames.
        energy_per_atom: Median, eV.
        max_force: Largest component, eV/Å.
    """

    name: str
    num_frames: int
    formula: str
    closest: float | None
    energy_per_atom: float | None
    max_force: float | None


@dataclass(frozen=True, slots=True)
class NeighborFacts:
    """Neighbours within a radius, over all systems; `histogram[n]` atoms have n neighbours."""

    rcut: float
    most: int
    mean: float
    suggested_nsel: int
    where: str
    histogram: list[int]


@dataclass(frozen=True, slots=True)
class DataReport:
    """Everything that is known about some data."""

    findings: list[DataFault]
    systems: list[SystemFacts]
    neighbors: list[NeighborFacts]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(item.severity == "error" for item in self.findings)


def check_data(
    paths: Sequence[str], type_map: tuple[str, ...] | None, radii: Sequence[float]
) -> DataReport:
    """Look for faults in data.

    Args:
        paths: Folders, `file.h5#/group` or `.lmdb`.
        type_map: Elements; None takes each system's own.
        radii: Within which neighbours are counted, Å.
    """
    entries = tuple(Entry(path, (number,)) for number, path in enumerate(paths))
    cutoffs = tuple(
        Cutoff(f"{radius:g} Å", radius, nsel_path=(number,)) for number, radius in enumerate(radii)
    )
    task = Task(DataRequest(entries), type_map=type_map, cutoffs=cutoffs)
    result = preflight([task], default_folder())
    (flown,) = result.tasks
    findings = [
        DataFault(
            item.code,
            item.severity,
            item.message,
            item.hint,
            item.path[0] if item.path and isinstance(item.path[0], int) else 0,
        )
        for item in _shortened(result.findings)
    ]
    systems = flown.training.systems if flown.training is not None else ()
    neighbors = [
        NeighborFacts(
            item.cutoff.rcut,
            item.most,
            item.mean,
            item.suggested,
            item.where,
            item.counts.tolist(),
        )
        for item in flown.neighborhoods
    ]
    return DataReport(findings, [_facts(item) for item in systems], neighbors)


def _shortened(findings: Sequence[Finding]) -> list[Finding]:
    """Keep the first few of a kind at a path: a folder may have a thousand systems."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for item in findings:
        groups.setdefault((item.code, item.path, item.severity), []).append(item)
    kept: list[Finding] = []
    for group in groups.values():
        shown = group[:_MOST_ALIKE]
        if len(group) > _MOST_ALIKE:
            more = f"{shown[-1].message} (and {len(group) - _MOST_ALIKE} more like this)"
            shown[-1] = replace(shown[-1], message=more)
        kept += shown
    return kept


def _facts(item: Surveyed) -> SystemFacts:
    facts = item.facts
    atoms = np.maximum(facts.composition.sum(axis=1), 1)
    energies = facts.energy / atoms if len(facts.energy) else facts.energy
    energies = energies[np.abs(energies) < np.sqrt(np.finfo(np.float64).max)]
    forces = facts.force[np.isfinite(facts.force)]
    return SystemFacts(
        name=item.name,
        num_frames=facts.num_frames,
        formula=formula(element_names(item.system), facts.composition[0].tolist()),
        closest=None if facts.closest is None else facts.closest.distance,
        energy_per_atom=_finite(np.median(energies)) if len(energies) else None,
        max_force=float(forces.max()) if len(forces) else None,
    )


def _finite(value: float | np.floating[Any]) -> float | None:
    """Return a number that JSON has."""
    return float(value) if np.isfinite(value) else None
