"""The preflight: open the data, read them once, say what is wrong with them and what they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.preflight.capacity import (
    Neighborhood,
    check_capacities,
    check_order,
    merged,
    neighborhoods,
)
from dpa2.data.preflight.contents import (
    MANY_ELEMENTS,
    check_batches,
    check_contents,
    check_coverage,
    check_independence,
    check_names,
    check_repeats,
    formula,
)
from dpa2.data.preflight.labels import check_labels, check_references, check_trained, check_virials
from dpa2.data.preflight.opened import Opened, Opener, Surveyed, default_folder, element_names
from dpa2.data.preflight.request import Cutoff, DataRequest, Entry, Task
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from schemas.base.diagnostics import Finding, Group
from schemas.base.errors import DataError
from schemas.input.new_input import RCUT, RCUT_INNER, NetworkFacts, TaskFacts


@dataclass(frozen=True, slots=True)
class Flown:
    """A task with its data opened.

    Attributes:
        task: What was asked for.
        training: The training data; None without any.
        validation: The validation data; None without any.
        neighborhoods: Neighbours within each cutoff, over all data of the task.
    """

    task: Task
    training: Opened | None
    validation: Opened | None
    neighborhoods: list[Neighborhood]

    @property
    def sections(self) -> list[Opened]:
        """The data sections that are there."""
        return [item for item in (self.training, self.validation) if item is not None]


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found: faults with paths of the input, and the tasks with their data."""

    findings: list[Finding]
    tasks: list[Flown]


@np.errstate(over="ignore", invalid="ignore")  # wild numbers are reported, not summed
def preflight(tasks: Sequence[Task], cache: Path | None = None) -> Preflight:
    """Look at the data of all tasks.

    Args:
        tasks: What to look at, such as `request.task_of` returns it.
        cache: Folder in which results are kept (`opened.default_folder`); None keeps nothing.
    """
    findings: list[Finding] = []
    flown: list[Flown] = []
    for task in tasks:
        opener = Opener(task, cache)
        training = None if task.training is None else opener.open(task.training)
        validation = None if task.validation is None else opener.open(task.validation)
        both = [item for item in (training, validation) if item is not None]
        systems = [item for section in both for item in section.systems]
        flown.append(Flown(task, training, validation, neighborhoods(systems, task.cutoffs)))
        findings += [*opener.findings, *_check(flown[-1])]
    findings += check_capacities(merged([item for one in flown for item in one.neighborhoods]))
    return Preflight(_gathered(findings, flown), flown)


def _check(flown: Flown) -> Iterator[Finding]:
    task = flown.task
    for section in flown.sections:
        yield from check_contents(section)
        yield from check_labels(section, task.learned)
        yield from check_virials(section)
        yield from check_repeats(section)
        yield from check_batches(section)
    yield from check_references(flown.sections)
    yield from check_names(flown.sections, task.type_map)
    yield from check_independence(flown.training, flown.validation)
    if task.type_map is not None:
        yield from check_coverage(
            flown.training, flown.validation, task.type_map, task.type_map_path
        )
    if flown.training is not None:
        yield from check_trained(flown.training, task.learned)
        # `auto` is resolved by the training data alone
        yield from check_order(neighborhoods(flown.training.systems, task.cutoffs))


def _gathered(findings: Sequence[Finding], flown: Sequence[Flown]) -> list[Finding]:
    """Group what is said about several systems of one entry: a folder may have a thousand."""
    systems = Counter(item.path for item in findings if item.code == "ZOO431")
    for task in flown:
        for section in task.sections:
            systems.update(item.entry.path for item in section.systems)
    return [
        replace(item, group=_group(item)) if systems[item.path] > 1 else item for item in findings
    ]


def _group(item: Finding) -> Group:
    """Errors make an entry unusable, whatever they are; warnings are of their kind."""
    return Group("systems" if item.severity == "error" else item.code, "value")


_MOST_ALIKE = 3


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
class DataReport:
    """Everything that is known about some data; a finding's path is the number of its entry."""

    findings: list[Finding]
    systems: list[SystemFacts]
    neighbors: list[Neighborhood]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(item.severity == "error" for item in self.findings)

    def document(self) -> dict[str, Any]:
        """Return the report as the JSON document of `zoo data check`."""
        keys = ("code", "severity", "message", "hint")
        return {
            "ok": self.ok,
            "findings": [
                {key: getattr(item, key) for key in keys} | {"entry": item.path[0]}
                for item in self.findings
            ],
            "systems": [asdict(item) for item in self.systems],
            "neighbors": [
                {
                    "rcut": item.cutoff.rcut,
                    "most": item.most,
                    "mean": item.mean,
                    "suggested_nsel": item.suggested,
                    "where": item.where,
                    "histogram": item.counts.tolist(),
                }
                for item in self.neighbors
            ],
        }


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
        Cutoff(f"{radius:g} Å", radius, rcut_path=(0,), nsel_path=(number,))
        for number, radius in enumerate(radii)
    )
    task = Task(DataRequest(entries), type_map=type_map, type_map_path=(0,), cutoffs=cutoffs)
    result = preflight([task], default_folder())
    (flown,) = result.tasks
    systems = flown.training.systems if flown.training is not None else ()
    facts = [_facts(item) for item in systems]
    return DataReport(_shortened(result.findings), facts, flown.neighborhoods)


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
        energy_per_atom=float(np.median(energies)) if len(energies) else None,
        max_force=float(forces.max()) if len(forces) else None,
    )


_VALIDATION_FOLDERS = ("validation", "valid", "val", "test")


def task_facts(paths: Sequence[str], validation: str | float | None) -> TaskFacts:
    """Look at the data of a task.

    A single folder with `train` and `validation` in it, such as `zoo data convert` writes, is
    taken apart.

    Args:
        paths: Training data, or all data where `validation` is a fraction.
        validation: Path of the validation data, the fraction of systems set aside for it, or None.

    Raises:
        DataError: The data cannot be read, or there are too few systems to set one aside.
    """
    training = list(paths)
    parts: list[str] = []
    if validation is None and len(training) == 1:
        training, parts = _known_parts(training[0])
    elif isinstance(validation, str):
        parts = [validation]
    elif validation is not None:
        training, parts = _split([system.name for system in open_systems(training)], validation)
    labels = [system.labels for system in open_systems(training)]
    if parts:
        open_systems(parts)  # so that a wrong path is known before anything is written
    return TaskFacts(training, parts, frozenset.union(*labels))


def network_facts(tasks: Sequence[TaskFacts], type_map: Sequence[str] | None) -> NetworkFacts:
    """Return elements and numbers of neighbours over the data of all tasks.

    Args:
        tasks: The tasks.
        type_map: Elements; None takes those of the data.

    Raises:
        DataError: The data do not name their elements, or not all atoms are of `type_map`.
    """
    paths = [path for task in tasks for path in (*task.training, *task.validation)]
    elements = list(type_map) if type_map is not None else _elements(open_systems(paths))
    open_systems(paths, elements)
    facts = check_data(paths, tuple(elements), (RCUT, RCUT_INNER)).neighbors
    nsel = {item.cutoff.rcut: item.suggested for item in facts}
    if not nsel:
        raise DataError(
            "the neighbours of the data cannot be counted",
            hint=f"`zoo data check {' '.join(paths)}` says what is wrong with them",
        )
    return NetworkFacts(elements, nsel[RCUT], nsel[RCUT_INNER])


def _elements(systems: Sequence[System]) -> list[str]:
    """Return the common type_map of systems, or the elements that they have, sorted by name."""
    present: set[str] = set()
    for system in systems:
        if system.type_map is None:
            raise DataError(
                f"{system.name} does not name its elements: it has no type_map.raw",
                hint="name them in the order of the numbers in type.raw: --type-map 'O H'",
            )
        present |= {system.type_map[number] for number in system.type_counts()}
    first = systems[0].type_map or []
    common = all(system.type_map == first for system in systems)
    return first if common and len(first) <= MANY_ELEMENTS else sorted(present)


def _known_parts(path: str) -> tuple[list[str], list[str]]:
    root = Path(path)
    if not (root / "train").is_dir():
        return [path], []
    parts = [str(root / name) for name in _VALIDATION_FOLDERS if (root / name).is_dir()]
    return ([str(root / "train")], parts[:1]) if parts else ([path], [])


def _split(names: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """Set whole systems aside, evenly over the list: neighbouring ones are often alike."""
    if len(names) < 2:
        raise DataError(
            "a single system cannot be split by whole systems",
            hint="split its frames: `zoo data convert DATA -o FOLDER --from deepmd --split 0.9/0.1`"
            ", then `zoo init FOLDER`",
        )
    count = min(len(names) - 1, max(1, round(fraction * len(names))))
    chosen = {(2 * number + 1) * len(names) // (2 * count) for number in range(count)}
    training = [name for number, name in enumerate(names) if number not in chosen]
    return training, [name for number, name in enumerate(names) if number in chosen]
