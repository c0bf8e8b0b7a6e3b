"""Frames that occur twice, or in both training and validation data."""

from collections.abc import Iterator, Sequence

import numpy as np

from dpa2.data.preflight.opened import Opened, Surveyed
from schemas.diagnostics import Finding


def check_repeats(section: Opened) -> Iterator[Finding]:
    """Warn of frames that occur twice; a system listed twice is for a rule of the schemas."""
    seen: dict[int, tuple[str, int]] = {}
    listed: set[str] = set()
    for item in section.systems:
        if item.name in listed:
            continue
        listed.add(item.name)
        repeated: list[tuple[int, str, int]] = []
        for frame, value in enumerate(item.facts.hashes.tolist()):
            known = seen.setdefault(value, (item.name, frame))
            if known != (item.name, frame):
                repeated.append((frame, *known))
        if repeated:
            frame, other, first = repeated[0]
            where = f"frame {first}" + ("" if other == item.name else f" of {other}")
            message = (
                f"{item.name}: {len(repeated)} of {item.facts.num_frames} frames occur before, "
                f"such as frame {frame}, which is {where}"
            )
            hint = "they weigh double; remove them"
            yield Finding("ZOO440", item.entry.path, message, hint, severity="warning")


def check_independence(training: Opened | None, validation: Opened | None) -> Iterator[Finding]:
    """Warn of validation frames that are trained on; the same system is for a rule."""
    if training is None or validation is None:
        return
    trained = _hashes(training.systems)
    names = {item.system.path.resolve() for item in training.systems}
    for item in validation.systems:
        common = np.flatnonzero(np.isin(item.facts.hashes, trained))
        if len(common) and item.system.path.resolve() not in names:
            message = (
                f"{item.name}: {len(common)} of {item.facts.num_frames} frames are in "
                f"training_data too, such as frame {common[0]}"
            )
            hint = "their error says nothing; validate on other frames"
            yield Finding("ZOO441", item.entry.path, message, hint, severity="warning")


def _hashes(systems: Sequence[Surveyed]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    parts = [item.facts.hashes for item in systems]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
