"""From the type numbers of a system to those of the model."""

from collections.abc import Callable, Sequence

import numpy as np

from dpa2.data.frames import PADDING, IntArray
from schemas.base.errors import DataError


def type_index(
    name: str,
    elements: list[str] | None,
    type_map: Sequence[str] | None,
    counts: IntArray,
    *,
    first_with: Callable[[int], str] | None = None,
    source: str = "type_map.raw",
) -> tuple[IntArray, str | None]:
    """Return the model's number of each type of a system, and a note on what was odd.

    Args:
        name: The system, for messages.
        elements: The system's own element names, None if it has no `type_map.raw`.
        type_map: The model's elements; None keeps the system's numbers.
        counts: How many atoms have each of the system's types.
        first_with: Returns which frame is the first with a type, where they differ in that.
        source: Where the system would name its elements.

    Returns:
        An array that maps the system's numbers to the model's (-1 for an element that no atom uses
        and the model does not have), and a warning or None.

    Raises:
        DataError: If a type number has no name, or an element in use is not in `type_map`.
    """
    names = elements if elements is not None else type_map
    if names is not None and len(counts) > len(names):
        where = source if elements is not None else "the model's type_map"
        count = int(counts[len(names) :].sum())
        raise DataError(
            f"{name} has {count} atoms of type {len(counts) - 1}, but {where} names only "
            f"{len(names)} types ({' '.join(names)})",
            hint="types count from 0",
        )
    if elements is None or type_map is None:
        note = None
        if type_map is not None:
            note = (
                f"{name} has no {source}; its type numbers are taken as positions in the "
                f"model's type_map ({' '.join(type_map)})"
            )
        return np.arange(max(len(counts), len(names or ())), dtype=np.int64), note
    known = {element: number for number, element in enumerate(type_map)}
    index = np.array([known.get(element, -1) for element in elements], dtype=np.int64)
    used = np.pad(counts, (0, len(elements) - len(counts)))
    missing = np.flatnonzero((index < 0) & (used > 0)).tolist()
    if missing:
        listed = ", ".join(f"{elements[kind]} ({used[kind]} atoms)" for kind in missing)
        where = f" (first in {first_with(missing[0])})" if first_with is not None else ""
        raise DataError(
            f"{name} has {listed}{where}, not in the model's type_map ({' '.join(type_map)})",
            hint="add the element to model/type_map, or leave this system out",
        )
    unused = [element for element in elements if element not in known]
    note = (
        f"type_map.raw of {name} names {', '.join(unused)}, which the model's type_map lacks "
        "and no atom uses"
    )
    return index, note if unused else None


def count_types(types: IntArray) -> IntArray:
    """Return how many atoms have each type, padding (-1) left out."""
    return np.bincount(types[types >= 0].reshape(-1)).astype(np.int64)


def add_counts(one: IntArray, other: IntArray) -> IntArray:
    """Return the sum of two `count_types`, of which one may know fewer types."""
    longer, shorter = sorted((one, other), key=len, reverse=True)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def check_range(where: str, types: IntArray) -> None:
    """Refuse negative types other than padding.

    Raises:
        DataError: Naming the type.
    """
    if types.size and types.min() < -1:
        raise DataError(f"{where} has the type {types.min()}; -1 is padding, less means nothing")


def translate(types: IntArray, index: IntArray) -> IntArray:
    """Translate type numbers by `index`, keeping -1 (padding)."""
    table = np.append(index, PADDING)
    return table[types.astype(np.int64)]
