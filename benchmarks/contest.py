"""Contestants that take turns (A B C A B C ...), so that a busy machine slows all alike.

Ratios are taken turn by turn, and their medians count.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from competitors import competitors
from rich.table import Table

PRODUCT, STREAM, PEER = "matrix product", "memory stream", "deepmd-kit "
"""Names of the machine's limits, and what names of deepmd-kit's modes begin with."""

GPU_LIMIT = 1380.0
"""Thousand atom-steps a second: what the products of the medium model leave an H100 in float64."""


class Contestant(Protocol):
    """What can be timed."""

    def run(self) -> float:
        """Return the seconds of one repetition."""

    def stop(self) -> dict[str, Any]:
        """End it; returns facts about it."""


@dataclass(frozen=True)
class Entry:
    """A name in a contest.

    Attributes:
        start: Starts the contestant.
        facts: What is known of it before.
    """

    start: Callable[[], Contestant]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """Who competes.

    Attributes:
        part: Name of the part of the benchmark.
        title: Above the table.
        entries: By name; ratios are taken to the first.
        turns: How often each is timed.
        busy: How many processes compute meanwhile.
        together: All live at once; otherwise one after the other, as their memory demands.
    """

    part: str
    title: str
    entries: Mapping[str, Entry]
    turns: int
    busy: int = 0
    together: bool = True

    def measure(self) -> dict[str, Any]:
        """Run it; returns what goes into the JSON document.

        Raises:
            RuntimeError: If one of ours fails; deepmd-kit's are left out, and why is kept.
        """
        rows = {name: {**entry.facts, "seconds": []} for name, entry in self.entries.items()}
        failed: dict[str, str] = {}
        for names in [list(rows)] if self.together else [[name] for name in rows]:
            self._take_turns(names, rows, failed)
        measured = {name: row for name, row in rows.items() if name not in failed}
        first = next(iter(measured.values()))
        found = {name: {**row, **_derived(row, first, rows)} for name, row in measured.items()}
        for row in found.values():
            row.pop("force", None)
        return {
            "part": self.part,
            "title": self.title,
            "busy": self.busy,
            "rows": found,
            "failed": failed,
        }

    def _take_turns(
        self, names: list[str], rows: dict[str, dict[str, Any]], failed: dict[str, str]
    ) -> None:
        live: dict[str, Contestant] = {}
        # Started one after the other, so that preparations do not compete.
        for name in names:
            print(f"{self.part}: {name}", file=sys.stderr, flush=True)
            with _tolerated(name, failed):
                live[name] = self.entries[name].start()
        with competitors(self.busy):
            for _ in range(self.turns):
                for name in names:
                    with _tolerated(name, failed):
                        rows[name]["seconds"].append(live[name].run())
        for name in names:
            with _tolerated(name, failed):
                rows[name] |= live[name].stop()


@contextmanager
def _tolerated(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Note that one of deepmd-kit's failed; what it is asked later changes nothing."""
    try:
        yield
    except (RuntimeError, KeyError) as error:
        if not name.startswith(PEER):
            raise
        failed.setdefault(name, str(error))


def _derived(
    row: Mapping[str, Any], first: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what follows from a row's seconds and facts."""
    seconds, ratios = row["seconds"], _ratios(row["seconds"], first["seconds"])
    found: dict[str, Any] = {"median_s": median(seconds)}
    found["ratio"] = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    if "atoms" in row:
        found["kilo_atom_steps_per_s"] = row["atoms"] / found["median_s"] / 1000
    if "gflop" in row and PRODUCT in rows:
        limit = rows[PRODUCT]
        slower = median(_ratios(seconds, limit["seconds"]))
        found["share_of_product"] = row["gflop"] / limit["gflop"] / slower
    if "force" in row and _model(row) == _model(first):
        pairs = zip(row["force"], first["force"], strict=True)
        found["max_force_difference"] = max(abs(mine - theirs) for mine, theirs in pairs)
    return found


def _model(row: Mapping[str, Any]) -> list[Any]:
    """Return what two rows must share for their forces to be the same."""
    return [row["work"][key] for key in ("model", "layers", "precision", "copies")]


def _ratios(seconds: list[float], others: list[float]) -> list[float]:
    return [mine / theirs for mine, theirs in zip(seconds, others, strict=True)]


def table(result: Mapping[str, Any]) -> Table:
    """Return the rows of a contest as a table."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "seconds": lambda row: f"{row['median_s']:.3f}",
        "ratio": lambda row: f"{row['ratio']['median']:.2f}",
        "min": lambda row: f"{row['ratio']['min']:.2f}",
        "max": lambda row: f"{row['ratio']['max']:.2f}",
        "katom/s": lambda row: f"{row['kilo_atom_steps_per_s']:.2f}",
        "of product": lambda row: f"{100 * row['share_of_product']:.0f} %",
        "peak MB": lambda row: f"{row['peak_mb']:.0f}",
        "kB/atom": lambda row: f"{1e3 * (row['peak_mb'] - row['before_mb']) / row['atoms']:.0f}",
        "set-up": lambda row: f"{row['setup_s']:.0f} s",
        "max dF": lambda row: f"{row['max_force_difference']:.0e}",
    }
    shown = Table(title=result["title"], title_justify="left", box=None)
    shown.add_column("")
    cells = {
        title: [_cell(row, show) for row in result["rows"].values()]
        for title, show in columns.items()
    }
    used = {title: column for title, column in cells.items() if any(column)}
    for title in used:
        shown.add_column(title, justify="right")
    for name, *line in zip(result["rows"], *used.values(), strict=True):
        shown.add_row(name, *line)
    return shown


def _cell(row: Mapping[str, Any], show: Callable[[Mapping[str, Any]], str]) -> str:
    """Return nothing where a row lacks what the column shows."""
    try:
        return show(row)
    except KeyError:
        return ""


def remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the rows say together."""
    for name, reason in result["failed"].items():
        yield f"{name} failed: {reason.splitlines()[-1]}"
    rows: Mapping[str, Any] = result["rows"]
    name, ours = next(iter(rows.items()))
    theirs = {name: row for name, row in rows.items() if name.startswith(PEER)}
    if theirs:
        best = min(theirs, key=lambda name: theirs[name]["median_s"])
        yield f"{name} is {theirs[best]['ratio']['median']:.2f} times as fast as {best}"
        memory = [row["peak_mb"] for row in theirs.values() if "peak_mb" in row]
        if memory and "peak_mb" in ours:
            yield f"{name} takes {ours['peak_mb'] / min(memory):.2f} of deepmd-kit's least memory"
    if ours.get("work", {}).get("device") == "cuda":
        share = ours["kilo_atom_steps_per_s"] / GPU_LIMIT
        yield f"{name} does {100 * share:.0f} % of {GPU_LIMIT / 1000} million atom-steps/s"
    if STREAM in rows and "before_mb" in ours:
        rate = rows[STREAM]["gbyte"] / rows[STREAM]["median_s"]
        needed = 2 * (ours["peak_mb"] - ours["before_mb"]) / 1000 / rate
        yield (
            f"{name}: writing and reading once what it keeps takes {needed:.3f} s "
            f"at {rate:.0f} GB/s, {100 * needed / ours['median_s']:.0f} % of its time"
        )
