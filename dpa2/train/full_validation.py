"""Validation on all validation data from time to time; the best checkpoints are kept."""

from pathlib import Path
from typing import Any

from dpa2.train.snapshot import Snapshot
from dpa2.train.task import Task


class FullValidation:
    """Placeholder."""

    def due(self, step: int) -> bool:
        """Return whether."""
        return False

    def run(self, step: int, learning_rate: float) -> str:
        """Run."""
        return ""


def full_validations(
    config: Any, task: Task, snapshot: Snapshot, folder: Path, num_steps: int, *, resumed_at: int | None
) -> tuple[FullValidation, ...]:
    """Return."""
    return ()
