"""The files of a run: names, numbered checkpoints, what an older run left, who else writes.

docs/deepmd-format.md, 4.1.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.base.errors import TrainingError, WriteError
from schemas.base.writing import Marker, remove_leftovers, replace_symlink, write_text
from schemas.input.root import Input, MultiTaskInput
from schemas.input.training import RunSettings

if TYPE_CHECKING:
    from dpa2.formats.checkpoint import Checkpoint

Say = Callable[[str], None]

HEARTBEAT = 10.0
"""Seconds between two signs of life of a run."""
SILENCE = 45.0
"""Seconds without one after which the holder of a lock on another machine counts as dead."""
_POLL = 0.2
_SHOWN = 4
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
        """Let the link and the pointer file lead to a finished checkpoint; delete the oldest ones.

        Raises:
            WriteError: When one of them cannot be written.
        """
        self.foreign.discard(path)
        replace_symlink(self.link, os.path.relpath(path, self.link.parent))
        if self.pointer is not None:
            write_text(self.pointer, os.path.relpath(path, self.pointer.parent))
        ours = [p for _, p in self.numbered() if p not in self.foreign and not p.is_symlink()]
        for old in ours[: -self.max_keep] if self.max_keep > 0 else ():
            old.unlink(missing_ok=True)

    def _step_of(self, path: Path) -> int | None:
        start = f"{self.prefix.name}-"
        if path.suffix != SUFFIX or not path.name.startswith(start):
            return None
        digits = path.name[len(start) : -len(SUFFIX)]
        return int(digits) if digits.isdigit() else None


def keep_counts(training: RunSettings, num_steps: int) -> tuple[int, int]:
    """Return how many checkpoints are kept: of the weights, of their running mean.

    `ckpt_keep_ratio`, where it is given, keeps ceil(ratio * number written).
    """
    ratio, every = training.ckpt_keep_ratio, training.save_freq
    if ratio is not None:
        written = max(1, math.ceil(num_steps / every)) if every > 0 else 1
        kept = max(1, math.ceil(ratio * written))
        return kept, kept
    return training.max_ckpt_keep, training.ema_ckpt_keep or training.max_ckpt_keep


def ema_prefix(prefix: Path) -> Path:
    """Return the prefix of the averaged checkpoints: `model.ckpt` -> `model_ema.ckpt`."""
    return prefix.with_name(f"{prefix.stem}_ema{prefix.suffix}")


class RunFolder:
    """Names of all that a run writes.

    Args:
        config: The checked input.
        folder: Where relative paths of results start.
        output: Name of the complete, normalised input.
    """

    def __init__(self, config: Input | MultiTaskInput, folder: Path, output: str) -> None:
        training = config.training
        self.config = config
        self.folder = folder
        self.normalised_input = folder / output
        self.curve = folder / training.disp_file
        self.prefix = folder / training.save_ckpt
        self.checkpoints = folder / training.save_dir if training.save_dir else self.prefix.parent
        best = config.validating.save_best_dir or Path(training.save_ckpt).parent
        self.best_checkpoints = folder / best
        self.tensorboard = folder / training.tensorboard_log_dir

    def stores(self, num_steps: int) -> tuple[CheckpointStore, CheckpointStore]:
        """Return the families of checkpoints: the weights', their averages'."""
        keep, keep_ema = keep_counts(self.config.training, num_steps)
        pointer = self.folder / "checkpoint"
        return (
            CheckpointStore(self.prefix, self.checkpoints, keep, pointer),
            CheckpointStore(ema_prefix(self.prefix), self.checkpoints, keep_ema),
        )

    def validation_logs(self) -> list[Path]:
        """Return the logs of full validation: of the weights, of their averages."""
        section = self.config.validating
        log = self.folder / section.full_val_file
        averaged = self.config.training.enable_ema and section.ema_full_validation
        return ([log] if section.full_validation else []) + (
            [log.with_name(f"{log.stem}_ema{log.suffix}")] if averaged else []
        )

    def present(self) -> list[Path]:
        """Return the files that are there and that this run would write to, replace or delete."""
        store, averages = self.stores(1)
        found = [self.curve, self.normalised_input, *store.present()]
        if self.config.training.enable_ema:
            found += averages.present()
        logs = self.validation_logs()
        if logs:
            found += [*logs, *sorted(self.best_checkpoints.glob("best*.ckpt-*.t-*.pt"))]
        if self.config.training.tensorboard:
            found += sorted(self.tensorboard.glob("events.out.tfevents.*"))
        return [path for path in dict.fromkeys(found) if os.path.lexists(path)]

    def refuse_used(self, continued: "Checkpoint | None") -> None:
        """Refuse to write over what another run has left, or a later state of this one.

        Args:
            continued: The checkpoint of a restart; one of this folder may go on with its files.

        Raises:
            TrainingError: Names what is there and the ways out.
        """
        if continued is None or not self._is_ours(continued.path):
            found = self.present()
            if found:
                raise TrainingError(
                    f"{self._holder(found)} holds files of a run, over which this one would write: "
                    f"{_listed(found)}",
                    hint=f"{self._way_on()}, {self._way_around(found)}, --force writes over them",
                )
            return
        steps = continued.steps_done
        store = self.stores(1)[0]
        later = [path for step, path in store.numbered() if steps is not None and step > steps]
        if later:
            raise TrainingError(
                f"{_listed(later)}: of later steps than {continued.path}, which has done {steps}; "
                "going on from there would write over them",
                hint=f"--restart {later[-1]} continues the run where it ended, "
                f"{self._way_around(later)}, --force writes over them",
            )

    def _is_ours(self, checkpoint: Path) -> bool:
        places = (self.folder, self.checkpoints, self.prefix.parent, self.best_checkpoints)
        given = {checkpoint.absolute().parent.resolve(), checkpoint.resolve().parent}
        return bool(given & {place.resolve() for place in places})

    def _outside(self, found: list[Path]) -> list[Path]:
        """Return the files that no other folder for results would move: of absolute paths."""
        here = self.folder.resolve()
        return [path for path in found if not path.parent.resolve().is_relative_to(here)]

    def _holder(self, found: list[Path]) -> str:
        """Return the name of the folder of the files, which `save_ckpt` may put anywhere."""
        outside = self._outside(found)
        if len(outside) == len(found):
            return os.path.relpath(outside[0].parent)
        return "this folder" if self.folder == Path() else str(self.folder)

    def _way_on(self) -> str:
        """Return what continues the run that is there: its link, or the newest file."""
        store = self.stores(1)[0]
        kept = [store.link, *(path for _, path in reversed(store.numbered()))]
        newest = next((path for path in kept if path.is_file()), None)
        if newest is None:
            return "there is no checkpoint to give to --restart"
        return f"--restart {newest} continues that run"

    def _way_around(self, found: list[Path]) -> str:
        """Return what puts the results elsewhere."""
        if self._outside(found):
            return "other paths in `training` (save_ckpt, save_dir, disp_file) write elsewhere"
        return "--output-dir FOLDER writes elsewhere"

    @contextmanager
    def held(self, say: Say) -> Iterator[None]:
        """Keep other runs out of the folder, and out of that of the checkpoints.

        The folders are made if they are missing.

        Raises:
            TrainingError: When another run is at work there.
            WriteError: When a folder cannot be written.
        """
        markers = {
            self.folder.resolve() / ".zoo-train.lock",
            self.checkpoints.resolve() / f".{self.prefix.name}.lock",  # from any folder
        }
        with ExitStack() as stack:
            for path in sorted(markers):
                marker = Marker(path)
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._take(marker, say)
                except OSError as error:
                    raise WriteError(
                        f"{path.parent} cannot be written: {error.strerror or error}",
                        hint="choose another folder with --output-dir, or make this one writable",
                    ) from error
                stack.enter_context(marker.kept(HEARTBEAT))
            yield

    def _take(self, marker: Marker, say: Say) -> None:
        """Take a marker; one of another machine only after its holder has been silent."""
        began, seen = time.monotonic(), marker.touched()
        told = False
        while not marker.take():
            touched = marker.touched()
            if marker.is_of_this_machine() or (seen is not None and touched not in (seen, None)):
                raise TrainingError(
                    f"{marker.holder()} trains in {marker.path.parent} at this moment",
                    hint="wait until it has ended, or give this run a folder of its own: "
                    "--output-dir FOLDER",
                )
            if not told:
                say(f"{marker.holder()} has locked {marker.path.parent}: looking for signs of life")
                told = True
            if time.monotonic() - began > SILENCE:
                marker.take_from_the_dead()
            time.sleep(_POLL)


def _listed(paths: list[Path]) -> str:
    """Return names, the newest of many."""
    shown = ", ".join(str(path) for path in paths[:_SHOWN])
    more = len(paths) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
