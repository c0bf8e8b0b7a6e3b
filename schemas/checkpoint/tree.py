"""How large a value of a pickle is when written out: references of a few bytes may hide much."""

from typing import Any

_MOST_NODES = 5_000_000
_DEEPEST = 100


class TooLargeError(ValueError):
    """A value that is too deep, too large when written out, or a part of itself."""


def check_tree(value: Any, *, most: int = _MOST_NODES) -> int:
    """Return the number of values in a tree of dictionaries, lists and tuples, repeated ones again.

    Whatever walks the tree later (a copy, JSON, a printed card) meets each value as often as this
    counts it, and recurses as deep.

    Args:
        value: The tree.
        most: How many values it may have.

    Raises:
        TooLargeError: It has more, nests deeper than 100, or contains itself.
    """
    return _Counter(most).count(value, 0)[0]


class _Counter:
    def __init__(self, most: int) -> None:
        self.most = most
        self.known: dict[int, tuple[int, int]] = {}

    def count(self, value: Any, depth: int) -> tuple[int, int]:
        """Return the number of values, and how deep they nest."""
        if not isinstance(value, dict | list | tuple | set):
            return 1, 1
        if id(value) in self.known:
            found = self.known[id(value)]
        else:
            found = self._count_parts(value, depth)
        if depth + found[1] > _DEEPEST:
            raise TooLargeError(f"its values nest deeper than {_DEEPEST}, or contain themselves")
        if found[0] > self.most:
            raise TooLargeError(f"its values are more than {self.most:,} when written out")
        return found

    def _count_parts(self, value: Any, depth: int) -> tuple[int, int]:
        if depth >= _DEEPEST:
            raise TooLargeError(f"its values nest deeper than {_DEEPEST}, or contain themselves")
        total, deepest = 1, 0
        for part in value.values() if isinstance(value, dict) else value:
            number, below = self.count(part, depth + 1)
            total, deepest = total + number, max(deepest, below)
        self.known[id(value)] = total, deepest + 1
        return total, deepest + 1
