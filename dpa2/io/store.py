"""Names, newest-file link and pruning of a run's numbered checkpoints (interop-spec 4.1)."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from schemas.atomic import remove_leftovers, replace_symlink, write_text

SUFFIX = ".pt"


@dataclass(frozen=True)
class CheckpointStore:
    """A family of checkpoints `<name>-<step>.pt`, of which the newest few are kept.

    Attributes:
        prefix: Path without the step, such as `model.ckpt`; `<prefix>.pt` links to the newest file.
        directory: Folder of the numbered files.
        max_keep: How many to keep; 0 or less keeps all.
        pointer: Text file that names the newest checkpoint (`dp freeze -c FOLDER` reads it), or
            None.
    """

    prefix: Path
    directory: Path
    max_keep: int
    pointer: Path | None = None

    def path_of(self, step: int) -> Path:
        """Return the path of the checkpoint written after `step` steps."""
        return self.directory / f"{self.prefix.name}-{step}{SUFFIX}"

    @property
    def link(self) -> Path:
        """The link that always leads to the newest checkpoint."""
        return self.prefix.with_name(self.prefix.name + SUFFIX)

    def prepare(self) -> None:
        """Create the folders; clear away what a killed run left half written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        for folder in {self.directory, self.prefix.parent}:
            remove_leftovers(folder)

    def publish(self, path: Path) -> None:
        """Let the link and the pointer file lead to a finished checkpoint."""
        replace_symlink(self.link, os.path.relpath(path, self.link.parent))
        if self.pointer is not None:
            write_text(self.pointer, os.path.relpath(path, self.pointer.parent))

    def prune(self, newest: Path) -> None:
        """Delete the checkpoints that `newest` makes superfluous.

        Files with a higher step come from an earlier, longer run in the same folder. They go first;
        otherwise they would push out the fresh ones.
        """
        if self.max_keep < 1:
            return
        current = self._step_of(newest)
        older: list[tuple[int, Path]] = []
        for path in self.directory.glob(f"*{SUFFIX}"):
            step = self._step_of(path)
            if step is None or path.is_symlink() or step == current:
                continue
            if current is not None and step > current:
                path.unlink(missing_ok=True)
            else:
                older.append((step, path))
        older.sort()
        keep_older = self.max_keep - (current is not None)
        for _, path in older[: max(0, len(older) - keep_older)]:
            path.unlink(missing_ok=True)

    def _step_of(self, path: Path) -> int | None:
        start = f"{self.prefix.name}-"
        if path.suffix != SUFFIX or not path.name.startswith(start):
            return None
        digits = path.name[len(start) : -len(SUFFIX)]
        return int(digits) if digits.isdigit() else None


def keep_count(ratio: float | None, num_steps: int, save_freq: int, default: int) -> int:
    """Return how many checkpoints `ckpt_keep_ratio` keeps: ceil(ratio * number written)."""
    if ratio is None:
        return default
    written = max(1, math.ceil(num_steps / save_freq)) if save_freq > 0 else 1
    return max(1, math.ceil(ratio * written))


def ema_prefix(prefix: Path) -> Path:
    """Return the prefix of the averaged checkpoints: `model.ckpt` -> `model_ema.ckpt`."""
    return prefix.with_name(f"{prefix.stem}_ema{prefix.suffix}")
