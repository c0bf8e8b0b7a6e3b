"""Facts about data that a new input needs: elements, labels, neighbours, parts."""

from collections.abc import Sequence
from pathlib import Path

from dpa2.data.preflight.run import check_data
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError
from schemas.input.new_input import RCUT, RCUT_INNER, NetworkFacts, TaskFacts

_MANY_ELEMENTS = 20
"""A longer type_map of the data is meant for more than these data."""
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
    return first if common and len(first) <= _MANY_ELEMENTS else sorted(present)


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
