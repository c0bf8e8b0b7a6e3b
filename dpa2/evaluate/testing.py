"""Test of a model on labelled systems: errors per system and over all of them, detail files."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from dpa2.data.frames import Frames, IntArray
from dpa2.data.system import System
from dpa2.evaluate.comparison import (
    QUANTITIES,
    BadFrame,
    Comparison,
    Errors,
    Evaluated,
    compare,
    errors_of,
    evaluate_good,
    merge,
    missing_parameter,
)
from dpa2.evaluate.figures import ParityPlot, figure_format
from dpa2.evaluate.potential import Potential, predict_frames
from dpa2.formats.structures import Evaluation, nothing
from schemas.base.errors import DataError
from schemas.base.foreign_files import read_text_file
from schemas.base.writing import atomic_write

# Suffix, quantity and unit remark of each file (docs/deepmd-format.md, 7.1). deepmd-kit titles the
# energies per atom like the energies.
_FILES = (
    (".e.out", "energy", ("e",), ""),
    (".e_peratom.out", "energy_per_atom", ("e",), ""),
    (".f.out", "force", ("fx", "fy", "fz"), ""),
    (".v.out", "virial", tuple(f"v{a}{b}" for a in "xyz" for b in "xyz"), ""),
    (".v_peratom.out", "virial_per_atom", tuple(f"v{a}{b}" for a in "xyz" for b in "xyz"), ""),
    (".s.out", "stress", tuple(f"s{a}{b}" for a in "xyz" for b in "xyz"), " (eV/Å³)"),
)


@contextmanager
def detail_files(prefix: str | os.PathLike[str]) -> Iterator[Callable[[Comparison], None]]:
    """Yield what appends rows to `PREFIX.e.out`, `.e_peratom.out`, `.f.out`, `.v.out`, ...

    Rows are `data... pred...` in `%.18e`, one per frame or, for forces, per atom. All systems go
    into the same files, each under a header line of its own (deepmd-kit writes the first one only;
    readers skip them as comments). A file appears for what has labels, and only when everything
    succeeded.

    Args:
        prefix: Path that the suffixes are appended to; its own dots stay (`run.v1` gives
            `run.v1.e.out`, where deepmd-kit gives `run.e.out`).
    """
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    streams: dict[str, IO[bytes]] = {}
    last_system: dict[str, str] = {}
    with ExitStack() as files:

        def add(comparison: Comparison) -> None:
            for suffix, key, components, remark in _FILES:
                pair = comparison.pairs.get(key)
                if pair is None:
                    continue
                if suffix not in streams:
                    streams[suffix] = files.enter_context(atomic_write(f"{prefix}{suffix}"))
                header = ""
                if last_system.get(suffix) != comparison.system:
                    last_system[suffix] = comparison.system
                    columns = [f"{side}_{name}" for side in ("data", "pred") for name in components]
                    header = f"{comparison.system}{remark}: {' '.join(columns)}"
                sides = (pair.reference, pair.prediction)
                rows = np.hstack([side.reshape(-1, len(components)) for side in sides])
                np.savetxt(streams[suffix], rows, header=header, encoding="utf-8")

        yield add


_ATOMS_PER_STEP = 2_000
"""How many atoms lie between two updates of the progress bar."""

_LABELS = ("energy", "force", "virial", "atom_pref")


@dataclass(frozen=True, slots=True)
class SystemErrors:
    """The errors on one system.

    Attributes:
        system: Its name, as the user wrote it.
        num_frames: Frames compared.
        num_atoms: Atoms per frame, padding included.
        errors: Error by quantity over the good frames; a quantity without labels is absent.
        bad: The frames that could not be compared.
    """

    system: str
    num_frames: int
    num_atoms: int
    errors: Errors
    bad: list[BadFrame]


@dataclass(frozen=True, slots=True)
class TestReport:
    """The errors on all systems.

    Attributes:
        systems: One entry a system, in the order given.
        total: Errors over all of them, each number counting once.
    """

    __test__ = False  # pytest would collect it by its name

    systems: list[SystemErrors]
    total: Errors

    @property
    def bad(self) -> list[BadFrame]:
        """The frames of all systems that could not be compared."""
        return [frame for entry in self.systems for frame in entry.bad]

    def to_json(self) -> dict[str, Any]:
        """Return plain containers; an error that is not a finite number becomes null."""
        return {
            "systems": [
                {"system": e.system, "num_atoms": e.num_atoms, **_summary([e], e.errors)}
                for e in self.systems
            ],
            "total": {"num_systems": len(self.systems), **_summary(self.systems, self.total)},
            "bad_frames": [frame.to_json() for frame in self.bad],
        }


def _summary(systems: Sequence[SystemErrors], errors: Errors) -> dict[str, Any]:
    told = {
        key: {
            "mae": stat.mae if np.isfinite(stat.mae) else None,
            "rmse": stat.rmse if np.isfinite(stat.rmse) else None,
            "unit": QUANTITIES[key].unit,
            "count": stat.weight,
        }
        for key, stat in errors.items()
    }
    return {
        "num_frames": sum(entry.num_frames for entry in systems),
        "num_bad_frames": sum(len(entry.bad) for entry in systems),
        "errors": told,
    }


def run_test(
    potential: Potential,
    systems: Sequence[System],
    *,
    max_frames: int | None = None,
    atomic: bool = False,
    strict: bool = False,
    detail_prefix: str | None = None,
    plot: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> TestReport:
    """Evaluate the first frames of each system and compare them with their labels.

    Args:
        potential: The model; the systems must have been opened with its type_map.
        systems: What to test on. All are checked against the model before the first evaluation.
        max_frames: At most so many frames of each system, the first ones; None takes all.
        atomic: Compare the energies of atoms too; every system must have them.
        strict: Let the first bad frame end the test, instead of leaving it out.
        detail_prefix: See `detail_files`; predictions of bad frames are NaN.
        plot: Parity plot to draw.
        progress: Called with the number of frames done since the last call.

    Raises:
        DataError: If a system has no frames, no labels, or lacks what the model needs; or if the
            plot's name ends in no image format.
        FrameError: If a frame is bad and `strict`.
    """
    for system in systems:
        _check(potential, system, atomic=atomic)
    with ExitStack() as files:
        sinks: list[Callable[[Comparison], None]] = []
        if detail_prefix is not None:
            sinks.append(files.enter_context(detail_files(detail_prefix)))
        parity = ParityPlot(potential.type_map)
        if plot is not None:
            figure_format(plot)
            sinks.append(parity.add)
        results = []
        for system in systems:
            num_frames = min(system.num_frames, max_frames or system.num_frames)
            parts: list[Errors] = []
            bad: list[BadFrame] = []
            for frames, found in _batches(potential, system, num_frames, atomic, strict):
                bad += found.bad
                if found.result is not None:
                    parts.append(errors_of(compare(found.frames, found.result)))
                with np.errstate(all="ignore"):  # stress in a cell without volume
                    everything = compare(frames, _with_gaps(found.result, found.good, frames))
                for sink in sinks:
                    sink(everything)
                progress(frames.num_frames)
            num_good, errors = num_frames - len(bad), merge(parts)
            results.append(SystemErrors(system.name, num_good, system.num_atoms, errors, bad))
        if plot is not None:
            parity.save(plot)
    return TestReport(results, merge(result.errors for result in results))


def read_list(path: Path) -> list[str]:
    """Read a file with one system per line; empty lines and `#` comments are skipped.

    Raises:
        DataError: If it is no text file or names nothing.
    """
    try:
        lines = [line.strip() for line in read_text_file(path, DataError).splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file", hint="write one path per line") from error
    systems = [line for line in lines if line and not line.startswith("#")]
    if not systems:
        raise DataError(f"{path}: names no systems", hint="write one path per line")
    return systems


def _check(potential: Potential, system: System, *, atomic: bool) -> None:
    if system.num_frames == 0:
        raise DataError(f"{system.name}: no frames to test on")
    if not any(map(system.has, ("energy", "force", "virial"))):
        raise DataError(
            f"{system.name}: no labels to compare with",
            hint="it needs at least one of energy.npy, force.npy and virial.npy; "
            "`zoo predict` evaluates structures without labels",
        )
    if atomic and not system.has("atom_energy"):
        raise DataError(
            f"{system.name}: --atomic compares energies of atoms, and it has none",
            hint="add atom_ener.npy to its sets, or leave --atomic out",
        )
    widths = {"fparam": potential.dim_fparam, "aparam": potential.dim_aparam}
    lacks = missing_parameter(system, widths, has_default_fparam=potential.has_default_fparam)
    if lacks is not None:
        raise DataError(f"the model {lacks}")


def _batches(
    potential: Potential, system: System, num_frames: int, atomic: bool, strict: bool
) -> Iterator[tuple[Frames, Evaluated[Evaluation]]]:
    """Yield the frames of a system, some at a time, and what the model says of the good ones."""
    step = max(1, _ATOMS_PER_STEP // max(1, system.num_atoms))
    wanted = [*_LABELS, *potential.parameters, *(["atom_energy"] if atomic else [])]
    labels = [label for label in wanted if system.has(label) or label in potential.parameters]
    for start in range(0, num_frames, step):
        frames = system.frames(np.arange(start, min(start + step, num_frames)), labels)
        yield (
            frames,
            evaluate_good(
                frames, lambda part: predict_frames(potential, part), labels, strict=strict
            ),
        )


def _with_gaps(found: Evaluation | None, good: IntArray, frames: Frames) -> Evaluation:
    """Return a prediction for every frame, NaN for bad ones."""
    everything = nothing(frames.num_frames, frames.num_atoms)
    for name in ("energy", "force", "virial", "atom_energy") if found is not None else ():
        getattr(everything, name)[good] = getattr(found, name)
    return everything
