"""How a run begins: from statistics of its data, or from the weights of a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from dpa2.finetune.tuning import Tuning
from dpa2.io.checkpoint import Checkpoint
from dpa2.training.assembly import Assembled
from dpa2.training.shared_statistics import InputMoments
from dpa2.training.snapshot import Snapshot
from dpa2.training.statistics import initialise_statistics
from schemas.errors import CheckpointError

Say = Callable[[str], None]


class Beginning(Protocol):
    """What a run starts from."""

    continued: Checkpoint | None
    """The checkpoint of an earlier run whose files it goes on with; None: it starts its own."""
    tuning: Tuning
    """What is frozen or trained more slowly."""

    def prepare(self, branches: Mapping[str, Assembled], say: Say, /) -> dict[str, InputMoments]:
        """Give the models what they need before parts are shared.

        Returns:
            Moments of the data of every branch where statistics were computed; branches that share
            parts then add theirs. Empty: statistics stay as they are.
        """

    def resume(self, snapshot: Snapshot, /) -> int:
        """Load what comes from a file after parts are shared; return the steps already done."""


class FromScratch:
    """Statistics of the data; the initial weights are those of the seeds."""

    continued: Checkpoint | None = None
    tuning = Tuning()

    def prepare(self, branches: Mapping[str, Assembled], say: Say) -> dict[str, InputMoments]:
        """Compute the statistics of every branch, or take them from its `stat_file`."""
        moments = {}
        for name, item in branches.items():
            branch = item.branch
            found = initialise_statistics(
                item.model,
                item.sampler,
                stat_file=None if branch.stat_file is None else Path(branch.stat_file),
                read_only=branch.stat_file_mode == "read",
                seed=item.seed,
                say=say if len(branches) == 1 else _labelled(say, name),
                fits_energies=item.loss.trains_energies,
            )
            info = {**item.model_params["info"], "observed_type": found.observed_types}
            item.model_params["info"] = info
            moments[name] = found.moments
        return moments

    def resume(self, _snapshot: Snapshot, /) -> int:
        """Return 0: nothing was done before."""
        return 0


def _labelled(say: Say, name: str) -> Say:
    return lambda line: say(f"{name}: {line}")


class FromCheckpoint:
    """The weights of a checkpoint, or with `restart` the whole run, continued where it was."""

    def __init__(self, checkpoint: Checkpoint, *, restart: bool) -> None:
        self.checkpoint = checkpoint
        self.continued: Checkpoint | None = checkpoint if restart else None
        known = (checkpoint.state or {}).get("tuning") if restart else None
        self.tuning = Tuning(**known) if known else Tuning()

    def prepare(self, branches: Mapping[str, Assembled], _say: Say, /) -> dict[str, InputMoments]:
        """Take over what the file says about its data.

        Raises:
            CheckpointError: When the file lacks a branch of the input.
        """
        missing = [name for name in branches if name not in self.checkpoint.branches]
        if missing:
            raise CheckpointError(
                f"{self.checkpoint.path} has no branch `{missing[0]}` (it has "
                f"{', '.join(self.checkpoint.branches)})",
                hint="a run goes on with the branches it was begun with; to start from another "
                "model's weights, fine-tune it",
            )
        for name, item in branches.items():
            known = self.checkpoint.branch(name)[0].get("info") or {}
            item.model_params["info"] = {**known, **item.model_params["info"]}
            self.tuning.freeze(item.model)
        return {}

    def resume(self, snapshot: Snapshot) -> int:
        """Load weights, and with `restart` optimiser, averages and the place in the data."""
        if self.continued is not None:
            return snapshot.restore(self.checkpoint)
        snapshot.load_weights(self.checkpoint)
        if snapshot.average is not None:
            snapshot.average.reset()
        return 0
