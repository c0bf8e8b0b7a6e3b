"""What the preflight is asked to look at, from a checked input; imports neither numpy nor torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from schemas.base.diagnostics import Path
from schemas.check.data_folders import exists
from schemas.input.optimization import term_is_on
from schemas.input.root import Input
from schemas.input.start import Start
from schemas.input.view import UnusableError

REPINIT, THREE_BODY, REPFORMER = "repinit", "three-body block", "repformer"
_BLOCKS = (
    (REPINIT, "repinit", "rcut", "nsel"),
    (THREE_BODY, "repinit", "three_body_rcut", "three_body_sel"),
    (REPFORMER, "repformer", "rcut", "nsel"),
)
"""Blocks that look at neighbours: name, section of the descriptor, keys of cutoff and capacity."""
_LABELS = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "ae": "atom_energy",
    "pf": "atom_pref",
    "gf": "drdq",
}
Place = Callable[[Path], Path]
"""Returns where in the file a path of an input of one task is written."""


def _as_it_is(path: Path) -> Path:
    return path


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
        auto_prob: As in the input.
        sys_probs: As in the input.
        min_pair_dist: Frames with closer atoms are left out of the training, Å.
        path: Of the section in the input.
        locate: Where in the file a path of the input is.
    """

    entries: tuple[Entry, ...]
    patterns: Sequence[str] | None = None
    batch_size: int | str | Sequence[int] | None = None
    auto_prob: str = "prob_sys_size"
    sys_probs: Sequence[float] | None = None
    min_pair_dist: float = 0.0
    path: Path = ()
    locate: Place = _as_it_is

    def place(self, *keys: str | int) -> Path:
        """Return where in the file something of the section is."""
        return self.locate((*self.path, *keys))


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
    learned: frozenset[str] = frozenset()
    name: str = ""

    @property
    def has_data(self) -> bool:
        """Whether any entry of the data exists."""
        requests = [item for item in (self.training, self.validation) if item is not None]
        entries = [entry for request in requests for entry in request.entries]
        return any(exists(FilePath(item.written.partition("#")[0])) for item in entries)


def task_of(
    config: Input, name: str = "", place: Place = _as_it_is, start: Start | None = None
) -> Task:
    """Return what there is to look at in an input of one task, or in one branch of several.

    Args:
        config: The input; it may be partial, what is missing is not looked at.
        name: Name of the branch.
        place: Where in the file things are written.
        start: The checkpoint from which the training starts.
    """
    type_map = None
    with suppress(UnusableError):
        type_map = tuple(config.model.type_map)
    return Task(
        training=_request(config, "training_data", place),
        validation=_request(config, "validation_data", place),
        type_map=type_map,
        type_map_path=place(("model", "type_map")),
        cutoffs=tuple(_cutoffs(config, place, None if start is None else start.file)),
        learned=frozenset(_learned(config)),
        name=name,
    )


def _request(config: Input, key: str, place: Place) -> DataRequest | None:
    path: Path = ("training", key)
    try:
        section = getattr(config.training, key)
        if section is None:
            return None
        written, patterns = section.systems, section.rglob_patterns
    except UnusableError:
        return None
    where: Path = (*path, "systems")
    entries = (
        (Entry(written, place(where)),)
        if isinstance(written, str)
        else tuple(Entry(item, place((*where, index))) for index, item in enumerate(written))
    )
    request = DataRequest(entries, patterns, path=path, locate=place)
    with suppress(UnusableError):
        request = replace(
            request,
            sys_probs=section.sys_probs,
            batch_size=section.batch_size,
            auto_prob=section.auto_prob,
        )
    with suppress(UnusableError, AttributeError):
        request = replace(request, min_pair_dist=config.training.training_data.min_pair_dist)
    return request if key == "training_data" else replace(request, min_pair_dist=0.0)


def _cutoffs(config: Input, place: Place, fixed_by: str | None) -> Iterator[Cutoff]:
    for name, block, rcut, nsel in _BLOCKS:
        above: Path = ("model", "descriptor", block)
        paths = (place((*above, rcut)), place((*above, nsel)))
        with suppress(UnusableError):
            section = getattr(config.model.descriptor, block)
            if name != THREE_BODY or section.use_three_body:
                yield Cutoff(name, getattr(section, rcut), getattr(section, nsel), *paths, fixed_by)


def _learned(config: Input) -> Iterator[str]:
    for suffix, label in _LABELS.items():
        with suppress(UnusableError):
            if term_is_on(config.loss, suffix):
                yield label
