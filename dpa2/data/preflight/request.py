"""What the preflight is asked to look at, from a checked input; imports neither numpy nor torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from schemas.base.diagnostics import Path
from schemas.input.loss import term_is_on
from schemas.input.root import Input
from schemas.input.start import Start
from schemas.input.training import DataSection, TrainingData
from schemas.input.view import UnusableError

REPINIT, THREE_BODY, REPFORMER = "repinit", "three-body block", "repformer"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `systems`: what is written and where it is in the input."""

    written: str
    path: Path


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A data section of an input.

    Attributes:
        entries: The entries of `systems`.
        patterns: `rglob_patterns`.
        batch_size: As in the input; None is not looked at.
        batch_size_path: Where it is in the input.
        auto_prob: As in the input.
        auto_prob_path: Where it is.
        sys_probs: As in the input.
        sys_probs_path: Where they are.
        min_pair_dist: Frames with closer atoms are left out of the training, Å.
    """

    entries: tuple[Entry, ...]
    patterns: tuple[str, ...] | None = None
    batch_size: int | str | Sequence[int] | None = None
    batch_size_path: Path = ()
    auto_prob: str = "prob_sys_size"
    auto_prob_path: Path = ()
    sys_probs: tuple[float, ...] | None = None
    sys_probs_path: Path = ()
    min_pair_dist: float = 0.0


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A block of the descriptor that looks at neighbours.

    Attributes:
        name: `REPINIT`, `THREE_BODY` or `REPFORMER`.
        rcut: Å.
        nsel: Capacity of the list, `auto` or `auto:F`.
        rcut_path: Where the radius is in the input.
        nsel_path: Where the capacity is.
        fixed_by: The checkpoint from which the training starts: its weights fix the capacity.
    """

    name: str
    rcut: float
    nsel: int | str | None = None
    rcut_path: Path = ()
    nsel_path: Path = ()
    fixed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One task: the only one, or a branch of a multi-task training.

    Attributes:
        training: The data from which the model learns.
        validation: The data on which it is judged.
        type_map: Elements of the model; None takes each system's own.
        type_map_path: Where they are in the input.
        cutoffs: Radii and capacities.
        learned: Labels (attributes of `Frames`) that the loss looks at.
        name: Name of the branch, empty where there is only one task.
    """

    training: DataRequest | None
    validation: DataRequest | None = None
    type_map: tuple[str, ...] | None = None
    type_map_path: Path = ()
    cutoffs: tuple[Cutoff, ...] = ()
    learned: frozenset[str] = field(default_factory=frozenset)
    name: str = ""


_LABELS = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "ae": "atom_energy",
    "pf": "atom_pref",
    "gf": "drdq",
}
_DESCRIPTOR: Path = ("model", "descriptor")

Place = Callable[[Path], Path]
"""Returns where in the file a path of an input of one task is written."""


def task_of(
    config: Input,
    name: str = "",
    place: Place = lambda path: path,
    start: Start | None = None,
) -> Task:
    """Return what there is to look at in an input of one task, or in one branch of several.

    Args:
        config: The input; it may be partial, what is missing is not looked at.
        name: Name of the branch.
        place: Where in the file things are written.
        start: The checkpoint from which the training starts.
    """
    training = validation = None
    with suppress(UnusableError):
        training = _request(config.training.training_data, "training_data", place)
    with suppress(UnusableError):
        section = config.training.validation_data
        if section is not None:
            validation = _request(section, "validation_data", place)
    type_map = None
    with suppress(UnusableError):
        type_map = tuple(config.model.type_map)
    return Task(
        training=training,
        validation=validation,
        type_map=type_map,
        type_map_path=place(("model", "type_map")),
        cutoffs=tuple(
            replace(item, fixed_by=None if start is None else start.file)
            for item in _cutoffs(config, place)
        ),
        learned=frozenset(_learned(config)),
        name=name,
    )


def has_data(task: Task) -> bool:
    """Return whether any entry of a task exists."""
    return any(
        FilePath(entry.written.partition("#")[0]).exists()
        for request in (task.training, task.validation)
        if request is not None
        for entry in request.entries
    )


def _request(section: DataSection, key: str, place: Place) -> DataRequest:
    written = section.systems
    path: Path = ("training", key)
    where: Path = (*path, "systems")
    entries = (
        (Entry(written, place(where)),)
        if isinstance(written, str)
        else tuple(Entry(item, place((*where, index))) for index, item in enumerate(written))
    )
    patterns = section.rglob_patterns
    request = DataRequest(entries, None if patterns is None else tuple(patterns))
    with suppress(UnusableError):
        probabilities = section.sys_probs
        request = replace(
            request,
            batch_size=section.batch_size,
            batch_size_path=place((*path, "batch_size")),
            auto_prob=section.auto_prob,
            auto_prob_path=place((*path, "auto_prob")),
            sys_probs=None if probabilities is None else tuple(probabilities),
            sys_probs_path=place((*path, "sys_probs")),
        )
    with suppress(UnusableError):
        if isinstance(section, TrainingData):
            request = replace(request, min_pair_dist=section.min_pair_dist)
    return request


def _cutoffs(config: Input, place: Place) -> Iterator[Cutoff]:
    def cutoff(name: str, rcut: float, nsel: int | str, *keys: str) -> Cutoff:
        section, rcut_key, nsel_key = keys
        above = (*_DESCRIPTOR, section)
        return Cutoff(name, rcut, nsel, place((*above, rcut_key)), place((*above, nsel_key)))

    with suppress(UnusableError):
        block = config.model.descriptor.repinit
        yield cutoff(REPINIT, block.rcut, block.nsel, "repinit", "rcut", "nsel")
    with suppress(UnusableError):
        block = config.model.descriptor.repinit
        if block.use_three_body:
            keys = ("repinit", "three_body_rcut", "three_body_sel")
            yield cutoff(THREE_BODY, block.three_body_rcut, block.three_body_sel, *keys)
    with suppress(UnusableError):
        layers = config.model.descriptor.repformer
        yield cutoff(REPFORMER, layers.rcut, layers.nsel, "repformer", "rcut", "nsel")


def _learned(config: Input) -> Iterator[str]:
    for suffix, label in _LABELS.items():
        with suppress(UnusableError):
            if term_is_on(config.loss, suffix):
                yield label
