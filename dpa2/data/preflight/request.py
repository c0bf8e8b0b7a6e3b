"""What the preflight is asked to look at: data sections, cutoffs and elements of each task."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.diagnostics import Path

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
