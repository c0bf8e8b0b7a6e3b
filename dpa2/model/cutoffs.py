"""Radii and capacities of a model's neighbour lists, and the pairs of types that it leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.base.errors import ConfigError
from schemas.input.model import Model


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Radii (Å) and capacities of the lists: repinit's is searched, the others are cut from it.

    Attributes:
        rcut: Radius of the repinit list.
        nsel: Its capacity; the nearest are kept.
        three_body: (radius, capacity) or None without a three-body part.
        repformer: (radius, capacity).
        keep: (T, T) bool, False where the model removes a pair of types; None: none is removed.
        keep_slots: A removed pair leaves its slot empty, as in deepmd-kit; otherwise later pairs
            move up, which changes nothing unless slots have statistics of their own.
    """

    rcut: float
    nsel: int
    three_body: tuple[float, int] | None
    repformer: tuple[float, int]
    keep: NDArray[np.bool_] | None = None
    keep_slots: bool = False

    @classmethod
    def of(cls, config: Model, *, keep_slots: bool = False) -> Self:
        """Return the lists of a model section.

        Raises:
            ConfigError: If a capacity is still `auto`.
        """
        repinit, repformer = config.descriptor.repinit, config.descriptor.repformer
        three_body = None
        if repinit.use_three_body:
            sel = capacity(repinit.three_body_sel, "repinit.three_body_sel")
            three_body = (repinit.three_body_rcut, sel)
        return cls(
            repinit.rcut,
            capacity(repinit.nsel, "repinit.nsel"),
            three_body,
            (repformer.rcut, capacity(repformer.nsel, "repformer.nsel")),
            kept_pairs(len(config.type_map), config.pair_exclude_types),
            keep_slots,
        )

    def capacity(self, rcut: float, nsel: int) -> int:
        """Return the neighbours that survive the cutting of shorter lists from longer ones."""
        lists = [(self.rcut, self.nsel), self.repformer]
        if self.three_body is not None:
            lists.append(self.three_body)
        return min([nsel, *(n for r, n in lists if r > rcut)])

    @property
    def far(self) -> float:
        """A distance beyond every cutoff, Å, at which switch and environment matrix vanish."""
        return 2.0 * max(self.rcut, self.repformer[0], *(self.three_body or (0.0,))[:1])


def capacity(selection: int | str, where: str) -> int:
    """Return a neighbour capacity, which must be a number by now.

    Raises:
        ConfigError: If it is still `auto`; `where` names it below `model.descriptor`.
    """
    if isinstance(selection, str):
        raise ConfigError(
            f"model.descriptor.{where} is `{selection}`, which needs the training data to resolve",
            hint="train with this input, or write the number of neighbours",
        )
    return selection


def kept_pairs(num_types: int, excluded: Sequence[Sequence[int]]) -> NDArray[np.bool_] | None:
    """Return (T, T) bool, False where a pair of types is excluded; None if nothing is."""
    if not excluded:
        return None
    keep_TT = np.ones((num_types, num_types), dtype=np.bool_)
    for a, b in excluded:
        if 0 <= a < num_types and 0 <= b < num_types:
            keep_TT[a, b] = keep_TT[b, a] = False
    return keep_TT
