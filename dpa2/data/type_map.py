"""From the type numbers of a system to those of the model."""

from collections.abc import Callable, Sequence

import numpy as np

from dpa2.data.frames import PADDING, IntArray
from dpa2.data.store import Store
from schemas.base.errors import DataError


def read_type_map(store: Store) -> list[str] | None:
    """Read the element names of `type_map.raw`; None if there is no such file.

    Raises:
        DataError: If the file is empty or names an element twice.
    """
    if not store.has("type_map.raw"):
        return None
    elements = store.words("type_map.raw")
    if not elements:
        raise DataError(
            f"{store.name}/type_map.raw is empty",
            hint="write one element name per line, in the order of the numbers in type.raw",
        )
    repeated = sorted({name for name in elements if elements.count(name) > 1})
    if repeated:
        raise DataError(f"{store.name}/type_map.raw names {', '.join(repeated)} twice")
    return elements


def read_types(store: Store) -> IntArray:
    """Read the type numbers (N,) of `type.raw`.

    Raises:
        DataError: If the file is missing, empty, or has something else than numbers >= 0.
    """
    where = f"{store.name}/type.raw"
    if not store.has("type.raw"):
        raise DataError(f"{where} is missing", hint="it lists the type number of each atom")
    words = store.words("type.raw")
    if not words:
        raise DataError(f"{where} is empty", hint="it lists the type number of each atom")
    try:
        types = np.array([int(word) for word in words], dtype=np.int64)
    except ValueError as error:
        bad = next(word for word in words if not word.lstrip("+-").isdigit())
        raise DataError(
            f"{where} has {bad!r} where a type number is expected",
            hint="types are 0, 1, ...: positions in type_map.raw",
        ) from error
    except OverflowError as error:
        raise DataError(
            f"{where} has {max(words, key=len)[:40]} where a type number is expected",
            hint="types are 0, 1, ...: positions in type_map.raw",
        ) from error
    if types.min() < 0:
        raise DataError(f"{where} has the negative type {types.min()}")
    return types


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
        source: Where the system would name its elements.
        first_with: Returns which frame is the first with a type, where they differ in that.

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
    if elements is None:
        note = None
        if type_map is not None:
            note = (
                f"{name} has no {source}; its type numbers are taken as positions in the "
                f"model's type_map ({' '.join(type_map)})"
            )
        return np.arange(max(len(counts), len(names or ())), dtype=np.int64), note
    if type_map is None:
        return np.arange(len(elements), dtype=np.int64), None
    index = np.array([type_map.index(e) if e in type_map else -1 for e in elements], dtype=np.int64)
    missing = [
        f"{element} ({counts[i]} atoms)"
        for i, element in enumerate(elements)
        if index[i] < 0 and i < len(counts) and counts[i] > 0
    ]
    if missing:
        kind = next(i for i in range(len(counts)) if counts[i] > 0 and index[i] < 0)
        where = f" (first in {first_with(kind)})" if first_with is not None else ""
        raise DataError(
            f"{name} has {', '.join(missing)}{where}, "
            f"not in the model's type_map ({' '.join(type_map)})",
            hint="add the element to model/type_map, or leave this system out",
        )
    unused = [element for i, element in enumerate(elements) if index[i] < 0]
    note = None
    if unused:
        note = (
            f"type_map.raw of {name} names {', '.join(unused)}, which the model's type_map lacks "
            "and no atom uses"
        )
    return index, note


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
