"""Which bytes of a file are here already, and in how few requests the missing ones can be had."""

from bisect import bisect_left
from collections.abc import Iterable

Span = tuple[int, int]
"""First byte, and the one after the last."""


class Spans:
    """A set of bytes, kept as sorted spans that do not touch."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, start: int, end: int) -> None:
        """Put bytes into the set."""
        if start >= end:
            return
        kept, merged = [], (start, end)
        for span in self._spans:
            if span[1] < merged[0] or span[0] > merged[1]:
                kept.append(span)
            else:
                merged = min(span[0], merged[0]), max(span[1], merged[1])
        kept.insert(bisect_left(kept, merged), merged)
        self._spans = kept

    def missing(self, start: int, end: int) -> list[Span]:
        """Return the parts of a span that are not in the set."""
        found = []
        for first, last in self._spans:
            if last <= start:
                continue
            if first >= end:
                break
            if first > start:
                found.append((start, first))
            start = max(start, last)
        if start < end:
            found.append((start, end))
        return found


def coalesced(spans: Iterable[Span], gap: int, longest: int) -> list[Span]:
    """Join spans that lie near each other, and cut those that are too long for one request.

    Args:
        spans: What is wanted, in any order.
        gap: Bytes between two spans that are worth less than another request.
        longest: Bytes of one request.
    """
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return [
        (start, min(start + longest, last))
        for first, last in joined
        for start in range(first, last, longest)
    ]
