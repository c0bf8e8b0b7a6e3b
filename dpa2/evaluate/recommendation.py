"""How branches compare on some data, and which one to start from."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dpa2.evaluate.comparison import BadFrame
from dpa2.evaluate.figures import COLOURS, GREY, new_figure, save_figure
from schemas.base.errors import DataError

_COUNTS = ("num_frames", "num_energy_frames", "num_force_frames", "num_descriptors")
CLOSE = 1.02
"""Scores within this factor of the best one are too close to choose by."""

_NO_ERROR = 1e-12
"""Errors below this are rounding: they count as equal (eV, eV/Å)."""


@dataclass(frozen=True, slots=True)
class BranchFit:
    """How a branch describes the data.

    Attributes:
        branch: Its name.
        aliases: Other names that it answers to.
        missing: Elements of the data for which it has no type.
        unseen: Elements of the data that its training data did not hold, as far as it says.
        problem: Why it could not be evaluated, or None.
        force_rmse: eV/Å, or None where the data have no forces.
        num_force: Force components compared.
        energy_rmse: eV per atom, after the shift; None without energies, or where the shift fits
            them exactly, however wrong the branch is.
        num_energy: Energies compared, less those that the shift takes up.
        shift: Energy per element that was added to the branch's, eV.
        score: Error relative to the best branch: 1 is best in everything (see `rank`).
    """

    branch: str
    aliases: list[str]
    missing: list[str]
    unseen: list[str]
    problem: str | None = None
    force_rmse: float | None = None
    num_force: int = 0
    energy_rmse: float | None = None
    num_energy: int = 0
    shift: dict[str, float] | None = None
    score: float | None = None

    @property
    def is_covered(self) -> bool:
        """Whether it was evaluated and knows all elements of the data."""
        return self.problem is None and not self.missing and not self.unseen

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {
            "branch": self.branch,
            "aliases": self.aliases,
            "score": _finite(self.score),
            "force_rmse": _finite(self.force_rmse),
            "energy_rmse_per_atom": _finite(self.energy_rmse),
            "energy_shift": self.shift,
            "missing_elements": self.missing,
            "unseen_elements": self.unseen,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The branches of a model, best first.

    Attributes:
        branches: Branch by branch.
        elements: Elements of the data.
        num_frames: Frames looked at.
        num_energy_frames: Frames whose energies were compared.
        num_force_frames: Frames whose forces were compared.
        num_descriptors: Distinct descriptors, each computed once per frame.
        warnings: What is odd about the data or the comparison, one sentence each.
        bad: Frames that could not be evaluated.
    """

    branches: list[BranchFit]
    elements: list[str]
    num_frames: int
    num_energy_frames: int
    num_force_frames: int
    num_descriptors: int
    warnings: list[str]
    bad: list[BadFrame] = field(default_factory=list)

    @property
    def best(self) -> BranchFit:
        """The branch to start from; look at its `is_covered`."""
        return self.branches[0]

    @property
    def rivals(self) -> list[str]:
        """Branches that are as good as the best one, as far as these frames tell."""
        best = self.best
        if best.score is None or not best.is_covered:
            return []
        return [
            fit.branch
            for fit in self.branches[1:]
            if fit.is_covered and fit.score is not None and fit.score <= CLOSE * best.score
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {
            "recommended": self.best.branch,
            "all_elements_known": self.best.is_covered,
            "rivals": self.rivals,
            **{name: getattr(self, name) for name in ("elements", *_COUNTS)},
            "branches": [fit.to_json() for fit in self.branches],
            "warnings": self.warnings,
            "bad_frames": [frame.to_json() for frame in self.bad],
        }


def rank(fits: Sequence[BranchFit]) -> list[BranchFit]:
    """Score branches and sort them: the best first, then those that lack elements.

    The score is the geometric mean of (error / smallest error of any branch) over all numbers that
    were compared, force components and energies alike. That is the likelihood per number of a
    normal error whose width is the branch's own RMSE, so forces, being many, weigh more; energies
    decide where there are no forces.
    """
    best_force = _smallest([fit.force_rmse for fit in fits])
    best_energy = _smallest([fit.energy_rmse for fit in fits])
    scored = [
        replace(
            fit,
            score=_score(
                (fit.force_rmse, best_force, fit.num_force),
                (fit.energy_rmse, best_energy, fit.num_energy),
            ),
        )
        for fit in fits
    ]
    return sorted(scored, key=_order)


def _score(*terms: tuple[float | None, float | None, int]) -> float | None:
    logarithm = weight = 0.0
    for error, best, number in terms:
        if error is None or best is None:
            continue
        logarithm += number * math.log(max(error, _NO_ERROR) / max(best, _NO_ERROR))
        weight += number
    return math.exp(logarithm / weight) if weight else None


def _smallest(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return min(known, default=None)


def _order(fit: BranchFit) -> tuple[bool, int, float]:
    score = math.inf if fit.score is None or math.isnan(fit.score) else fit.score
    return fit.problem is not None, len(fit.missing) + len(fit.unseen), score


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def plot_recommendation(recommendation: Recommendation, path: str | os.PathLike[str]) -> None:
    """Draw the RMSE of forces and energies of each branch, best first.

    Args:
        recommendation: From `recommend`.
        path: Image to write: .png, .pdf or .svg.

    Raises:
        DataError: If the name ends in no image format, or there is nothing to draw.
        WriteError: If the file cannot be written.
    """
    fits = [fit for fit in recommendation.branches if fit.problem is None]
    panels = [
        ("Force RMSE (eV/Å)", [fit.force_rmse for fit in fits]),
        ("Energy RMSE (eV/atom)", [fit.energy_rmse for fit in fits]),
    ]
    panels = [(label, values) for label, values in panels if any(v is not None for v in values)]
    if not panels:
        raise DataError("no errors to draw: give more frames with labels")
    figure, axes = new_figure(len(panels), width=4.5, height=1.2 + 0.3 * len(fits))
    for axis, (label, values) in zip(axes, panels, strict=True):
        colours = [COLOURS[0] if fit.is_covered else GREY for fit in fits]
        axis.barh(range(len(fits)), [value or 0.0 for value in values], color=colours)
        axis.set_yticks(range(len(fits)), [fit.branch for fit in fits])
        axis.invert_yaxis()
        axis.set_xlabel(label)
    if any(not fit.is_covered for fit in fits):
        figure.suptitle("grey: some elements of the data unknown", fontsize="small")
    save_figure(figure, path)
