"""The preflight: open the data, read them once, say what is wrong with them."""

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
from dpa2.data.preflight.labels import check_labels, check_references
from dpa2.data.preflight.opened import Opened, Opener
from dpa2.data.preflight.repeats import check_independence, check_repeats
from dpa2.data.preflight.request import Task
from schemas.diagnostics import Finding

_MOST_ALIKE = 3


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
    return Preflight(_shortened(findings), flown)


def _check(flown: Flown) -> Iterator[Finding]:
    task = flown.task
    for section in flown.sections:
        yield from check_contents(section)
        yield from check_labels(section, task.learned)
        yield from check_repeats(section)
        yield from check_batches(section)
    yield from check_references(flown.sections)
    yield from check_names(flown.sections, task.type_map)
    yield from check_independence(flown.training, flown.validation)
    if task.type_map is not None:
        yield from check_coverage(
            flown.training, flown.validation, task.type_map, task.type_map_path
        )
    if flown.training is not None:  # `auto` is resolved by the training data alone
        yield from check_order(neighborhoods(flown.training.systems, task.cutoffs))


def _shortened(findings: Sequence[Finding]) -> list[Finding]:
    """Keep the first few of a kind at a place: a folder may have a thousand systems."""
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
