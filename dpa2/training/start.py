"""What a training starts from: new weights, a checkpoint to go on from, or one to fine-tune."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dpa2.data.frames import Frames
from dpa2.formats.checkpoint import Checkpoint
from dpa2.model.build import share
from dpa2.training.assembly import Assembled, links_of
from dpa2.training.bias import BiasShift, adjust_bias, normalise_parameters
from dpa2.training.drawn_frames import draw_frames
from dpa2.training.environment_statistics import InputMoments, merge_statistics
from dpa2.training.optimizer import Tuning
from dpa2.training.provenance import Provenance, provenance
from dpa2.training.statistics import (
    ENERGIES_UNTRAINED,
    initialise_statistics,
    note_shortest_distance,
)
from dpa2.training.train_state import TrainState
from dpa2.training.transfer import Origin, find_origins, transfer, unequal_parts
from schemas.base.elements import SYMBOLS
from schemas.base.errors import CheckpointError
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import BiasMode, Start

Say = Callable[[str], None]


class RunStart(Protocol):
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

    def resume(self, snapshot: TrainState, /) -> int:
        """Load what comes from a file after parts are shared; return the steps already done."""


class Scratch:
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

    def resume(self, _snapshot: TrainState, /) -> int:
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

    def resume(self, snapshot: TrainState) -> int:
        """Load weights, and with `restart` optimiser, averages and the place in the data."""
        if self.continued is not None:
            return snapshot.restore(self.checkpoint)
        snapshot.load_weights(self.checkpoint)
        if snapshot.average is not None:
            snapshot.average.reset()
        return 0


class Finetune:
    """Weights of a checkpoint's branches, energies of the new data; step and optimiser begin anew.

    Args:
        config: The checked input.
        checkpoint: What to start from.
        start: The same for checks, with the branch that is asked for.
        bias_mode: How the energies of the elements are fitted; None as deepmd-kit.
        tuning: What is frozen or trained more slowly.

    Attributes:
        provenance: Where every branch starts, by name; filled by `prepare`.

    Raises:
        ConfigError: When the branch does not exist or is not chosen, or the input does not fit it.
    """

    continued: Checkpoint | None = None

    def __init__(
        self,
        config: Input | MultiTaskInput,
        checkpoint: Checkpoint,
        start: Start,
        bias_mode: BiasMode | None,
        tuning: Tuning,
    ) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.bias_mode = bias_mode
        self.tuning = tuning
        self.origins = find_origins(config, start)
        self.provenance: dict[str, Provenance] = {}

    def prepare(self, branches: Mapping[str, Assembled], say: Say, /) -> dict[str, InputMoments]:
        """Copy weights, fit energies, and say where everything is from.

        Raises:
            CheckpointError: When the weights do not fit the model.
            DataError: When the data lack what is needed.
        """
        self._add_statistics(branches, say)
        models = {name: item.model for name, item in branches.items()}
        frames = {name: self._frames(item, say) for name, item in branches.items()}
        records = {}
        for name, model in models.items():
            origin = self.origins[name]
            self.tuning.freeze(model)
            _, tensors = self.checkpoint.branch(origin.branch)
            records[name] = transfer(model, origin, tensors)
            note_shortest_distance(model, branches[name].sampler)
            if origin.fitting == "random":
                normalise_parameters(model, frames[name])
        links = links_of(self.config)
        for line in unequal_parts(models, links):
            say(line)
        share(models, links)  # now, so that energies are fitted to the networks that are trained
        for name, model in models.items():
            origin = self.origins[name]
            bias = None
            if origin.fitting != "resumed":
                mode = self.bias_mode or ("set" if origin.fitting == "random" else "change")
                if mode != "none" and not branches[name].loss.trains_energies:
                    say(ENERGIES_UNTRAINED)
                    mode = "none"
                bias = adjust_bias(model, frames[name], mode)
            self.provenance[name] = provenance(name, model, origin, records[name], bias)
            for line in self.provenance[name].lines():
                say(line)
            item = branches[name].model_params
            section, _ = self.checkpoint.branch(origin.branch)
            item["info"] = {**_observed(section, origin, model.type_map, bias), **item["info"]}
        return {}

    def resume(self, _snapshot: TrainState, /) -> int:
        """Return 0: the run is a new one."""
        return 0

    def _frames(self, item: Assembled, say: Say) -> list[Frames]:
        """Return training data to fit energies to; none for a branch that keeps its energies."""
        if self.origins[item.branch.name].fitting == "resumed":
            return []
        num_batches = item.model.config.data_stat_nbatch
        return draw_frames(item.sampler, num_batches, item.seed, say)

    def _add_statistics(self, branches: Mapping[str, Assembled], say: Say) -> None:
        """Compute statistics of the data if any element is new; those of known ones are replaced.

        A part that branches share is normalised by the data of all of them.
        """
        if not any(self.origins[n].new_elements(i.model.type_map) for n, i in branches.items()):
            return
        moments = {
            name: initialise_statistics(
                item.model,
                item.sampler,
                stat_file=None if item.branch.stat_file is None else Path(item.branch.stat_file),
                read_only=item.branch.stat_file_mode == "read",
                seed=item.seed,
                say=say,
                fits_energies=item.loss.trains_energies,
            ).moments
            for name, item in branches.items()
        }
        models = {name: item.model for name, item in branches.items()}
        evenly = dict.fromkeys(branches, 1.0)
        merge_statistics(models, links_of(self.config), moments, evenly)


def _observed(
    section: Mapping[str, Any],
    origin: Origin,
    type_map: Sequence[str],
    bias: BiasShift | None,
) -> dict[str, list[str]]:
    """Return the elements that a branch has seen, as its file says it; nothing if unknown."""
    known = (section.get("info") or {}).get("observed_type")
    if known is None and origin.fitting != "random":
        return {}
    seen = set() if origin.fitting == "random" else set(known or ()) & set(type_map)
    if bias is not None:
        seen |= {n for n, found in zip(type_map, bias.observed, strict=True) if found}
    order = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    return {"observed_type": sorted(seen, key=lambda name: order.get(name, len(order)))}
