"""The preflight: open the data, read them once, say what is wrong with them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpa2.data.preflight.batches import check_batches
from dpa2.data.preflight.capacity import (
    Neighborhood,
    check_capacities,
    check_order,
    merged,
    neighborhoods,
)
from dpa2.data.preflight.contents import check_contents
from dpa2.data.preflight.formulas import check_coverage, check_names
from dpa2.data.preflight.labels import check_labels, check_references, check_trained
from dpa2.data.preflight.opened import Opened, Opener
from dpa2.data.preflight.repeats import check_independence, check_repeats
from dpa2.data.preflight.request import Task
from dpa2.data.preflight.virials import check_virials
from schemas.diagnostics import Finding, Group


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


def preflight(tasks: Sequence[Task], cache: Path | None = None) -> Preflight:
    """Look at the data of all tasks.

    Args:
        tasks: What to look at, such as `inputs.task_of` returns it.
        cache: Folder in which results are kept (`cache.default_folder`); None keeps nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # wild numbers are reported, not summed
        return _preflight(tasks, cache)


def _preflight(tasks: Sequence[Task], cache: Path | None) -> Preflight:
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
