"""Numbers of neighbours against the capacities of the lists (`nsel`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpa2.data.frames import IntArray
from dpa2.data.preflight.opened import Surveyed
from dpa2.data.preflight.request import REPFORMER, REPINIT, THREE_BODY, Cutoff
from dpa2.data.system import add_counts
from schemas.base.diagnostics import Finding, Group

_DEFAULT_FACTOR = 1.1
_ABSURD = 20
"""Times what the data need from which a list is no spare room any more, but a mistake."""
_RARE = 1e-3
"""Part of the atoms above which missing neighbours are an error."""
_SHORT_RCUT = 2.0
_ORDER = Group("order of capacities", "value")


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """Neighbours within one radius, over all data.

    Attributes:
        cutoff: The block.
        counts: How many atoms have 0, 1, 2, ... neighbours.
        where: System, frame and atom with most.
    """

    cutoff: Cutoff
    counts: IntArray
    where: str

    @property
    def most(self) -> int:
        """Most neighbours of an atom."""
        return len(self.counts) - 1

    @property
    def mean(self) -> float:
        """Neighbours of an atom in the mean."""
        return float(self.counts @ np.arange(len(self.counts)) / max(1, int(self.counts.sum())))

    @property
    def suggested(self) -> int:
        """A capacity with some room."""
        return enlarged(self.most, "auto")

    @property
    def is_automatic(self) -> bool:
        """Whether the capacity is taken from the data."""
        return isinstance(self.cutoff.nsel, str)

    @property
    def capacity(self) -> int:
        """The capacity, taken from the data where the input says so."""
        nsel = self.cutoff.nsel
        return nsel if isinstance(nsel, int) else enlarged(self.most, nsel or "auto")

    @property
    def told(self) -> str:
        """The capacity, and where it is from."""
        return f"{self.capacity}" + (" (from the data)" if self.is_automatic else "")


def neighborhoods(systems: Sequence[Surveyed], cutoffs: Sequence[Cutoff]) -> list[Neighborhood]:
    """Add up the neighbours of systems for each block; empty without systems.

    Systems in another unit do not count.
    """
    systems = [item for item in systems if not item.facts.unit]
    radii = sorted({cutoff.rcut for cutoff in cutoffs})
    found: list[Neighborhood] = []
    for cutoff in cutoffs if systems else ():
        place = radii.index(cutoff.rcut)
        most = max(systems, key=lambda item: len(item.facts.counts[place]))
        total = np.zeros(0, dtype=np.int64)
        for item in systems:
            total = add_counts(total, item.facts.counts[place])
        frame, atom = most.facts.most[place]
        found.append(Neighborhood(cutoff, total, f"atom {atom} of frame {frame} of {most.name}"))
    return found


def merged(found: Sequence[Neighborhood]) -> list[Neighborhood]:
    """Add up what branches with a common block see within its radius."""
    groups: dict[tuple[object, ...], Neighborhood] = {}
    for item in found:
        key = (item.cutoff.nsel_path, item.cutoff.rcut, item.cutoff.nsel)
        other = groups.get(key, item)
        where = item.where if item.most > other.most else other.where
        counts = item.counts if other is item else add_counts(item.counts, other.counts)
        groups[key] = Neighborhood(item.cutoff, counts, where)
    return list(groups.values())


def check_capacities(found: Sequence[Neighborhood]) -> Iterator[Finding]:
    """Compare each list with what it has to hold."""
    for item in found:
        nsel, rcut = item.cutoff.nsel, item.cutoff.rcut
        key = item.cutoff.nsel_path[-1] if item.cutoff.nsel_path else "nsel"
        if item.mean < 1 and rcut < _SHORT_RCUT:
            message = f"{rcut:g} Å around an atom are {item.mean:.2g} neighbours in the mean"
            hint = f"cutoffs are in Å; did you mean {10 * rcut:g}?"
            yield Finding("ZOO444", item.cutoff.rcut_path, message, hint, severity="warning")
        if not isinstance(nsel, int):
            continue
        seen = f"the data have {item.mean:.0f} in the mean, {item.most} at most"
        if item.cutoff.fixed_by is not None:
            yield from _fixed(item, nsel)
        elif item.most > nsel:
            share = int(item.counts[nsel + 1 :].sum()) / int(item.counts.sum())
            message = (
                f"{key} ({nsel}) is too small: {item.where} has {item.most} neighbours within "
                f"{rcut:g} Å, {100 * share:.3g} % of all atoms have more than {nsel}"
            )
            yield Finding(
                "ZOO442",
                item.cutoff.nsel_path,
                message,
                f"set it to {item.suggested}; {seen}",
                severity="error" if share >= _RARE else "warning",
                fix=str(item.suggested),
                safe=False,
                related_paths=(("the cutoff", item.cutoff.rcut_path),),
            )
        elif nsel > 2 * item.suggested and item.most > 0:
            times = "twice" if nsel < _ABSURD * item.most else f"{nsel // item.most} times"
            message = f"{key} ({nsel}) is more than {times} what the data need within {rcut:g} Å"
            hint = f"{item.suggested} would do and is faster; {seen}"
            yield Finding(
                "ZOO443",
                item.cutoff.nsel_path,
                message,
                hint,
                severity="warning" if nsel >= _ABSURD * item.most else "note",
                related_paths=(("the cutoff", item.cutoff.rcut_path),),
            )


def _fixed(item: Neighborhood, nsel: int) -> Iterator[Finding]:
    """Say what a capacity leaves out that cannot be changed: weights mean something with it only.

    The statistics have a row for each place in the list, and sums are divided by their number.
    """
    if item.most <= nsel:
        return
    key = item.cutoff.nsel_path[-1] if item.cutoff.nsel_path else "nsel"
    numbers = np.arange(len(item.counts))
    left_out = int(item.counts @ np.maximum(0, numbers - nsel)) / int(item.counts @ numbers)
    share = int(item.counts[nsel + 1 :].sum()) / int(item.counts.sum())
    message = (
        f"{key} ({nsel}) is that of {item.cutoff.fixed_by}, and its weights go with no other; "
        f"{100 * left_out:.3g} % of the pairs within {item.cutoff.rcut:g} Å are left out, of "
        f"{100 * share:.3g} % of all atoms: {item.where} has {item.most} neighbours"
    )
    hint = (
        f"keep {nsel}: the nearest count, in training and in use, and energies jump a little where "
        f"atoms come and go; for all of them start from a model with {key} >= {item.most}, or "
        "train from scratch"
    )
    yield Finding(
        "ZOO442",
        item.cutoff.nsel_path,
        message,
        hint,
        severity="warning",
        related_paths=(("the cutoff", item.cutoff.rcut_path),),
    )


def check_order(found: Sequence[Neighborhood]) -> Iterator[Finding]:
    """Refuse capacities taken from the data that do not fit each other or the fixed ones.

    The rules for fixed capacities are those of the schemas (ZOO205, ZOO207, ZOO208).
    """
    blocks = {item.cutoff.name: item for item in found}
    for code, inner, outer in (
        ("ZOO205", REPFORMER, REPINIT),
        ("ZOO207", THREE_BODY, REPINIT),
        ("ZOO208", THREE_BODY, REPFORMER),
    ):
        if inner not in blocks or outer not in blocks:
            continue
        one, other = blocks[inner], blocks[outer]
        if isinstance(one.cutoff.nsel, int) and isinstance(other.cutoff.nsel, int):
            continue
        excess = one.capacity - other.capacity
        further = one.cutoff.rcut - other.cutoff.rcut
        if code == "ZOO205":
            wrong = excess >= 0
        else:
            wrong = excess > 0 if code == "ZOO207" else further * excess < 0
        if wrong:
            at = one if isinstance(one.cutoff.nsel, int) or other.is_automatic else other
            message = (
                f"the {inner} would have {one.told}, {outer} {other.told}: "
                "a larger cutoff must not have fewer neighbours"
            )
            hint = "set both to numbers, the larger cutoff to the larger one"
            yield Finding(code, at.cutoff.nsel_path, message, hint, group=_ORDER)


def enlarged(most: int, rule: str) -> int:
    """Return the capacity for `auto` or `auto:F`: F times the largest number, in multiples of 4."""
    factor = float(rule.partition(":")[2] or _DEFAULT_FACTOR)
    return 4 * ((int(most * factor) + 3) // 4)
