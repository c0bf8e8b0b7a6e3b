"""Names, newest-file link and pruning of a run's numbered checkpoints.

docs/deepmd-format.md, 4.1.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from schemas.base.writing import remove_leftovers, replace_symlink, write_text

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
        foreign: Numbered files of other runs, which are never deleted; `prepare` finds them.
    """

    prefix: Path
    directory: Path
    max_keep: int
    pointer: Path | None = None
    foreign: set[Path] = field(default_factory=set, compare=False)

    def path_of(self, step: int) -> Path:
        """Return the path of the checkpoint written after `step` steps."""
        return self.directory / f"{self.prefix.name}-{step}{SUFFIX}"

    @property
    def link(self) -> Path:
        """The link that always leads to the newest checkpoint."""
        return self.prefix.with_name(self.prefix.name + SUFFIX)

    def prepare(self, steps_done: int = 0) -> None:
        """Create the folders; clear away what a killed run left half written.

        Args:
            steps_done: Where the run begins. Files of later steps are another run's.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        for folder in {self.directory, self.prefix.parent}:
            remove_leftovers(folder)
        self.foreign.update(path for step, path in self.numbered() if step > steps_done)

    def numbered(self) -> list[tuple[int, Path]]:
        """Return the numbered checkpoints that are there, by step."""
        steps = ((self._step_of(path), path) for path in self.directory.glob(f"*{SUFFIX}"))
        return sorted((step, path) for step, path in steps if step is not None)

    def present(self) -> list[Path]:
        """Return what is there of the family: files, link and pointer."""
        around = [self.link] if self.pointer is None else [self.link, self.pointer]
        return [path for _, path in self.numbered()] + [p for p in around if os.path.lexists(p)]

    def publish(self, path: Path) -> None:
        """Let the link and the pointer file lead to a finished checkpoint.

        Raises:
            WriteError: When one of them cannot be written.
        """
        self.foreign.discard(path)
        replace_symlink(self.link, os.path.relpath(path, self.link.parent))
        if self.pointer is not None:
            write_text(self.pointer, os.path.relpath(path, self.pointer.parent))

    def prune(self) -> None:
        """Delete the oldest checkpoints of this run that are too many."""
        if self.max_keep < 1:
            return
        ours = [
            path
            for _, path in self.numbered()
            if path not in self.foreign and not path.is_symlink()
        ]
        for path in ours[: -self.max_keep]:
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
