"""What a training starts from: new weights, a checkpoint to go on from, or one to fine-tune."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dpa2.data.frames import Frames
from dpa2.formats.checkpoint import Checkpoint
from dpa2.model.build import share
from dpa2.training.energy_bias import ENERGIES_UNTRAINED, BiasShift, adjust_bias
from dpa2.training.finetune import Provenance, provenance, transfer, unequal_parts
from dpa2.training.moments import InputMoments, draw_frames, merge_statistics
from dpa2.training.optimizer import Tuning
from dpa2.training.statistics import (
    Statistics,
    StatisticsBuilder,
    initialise_statistics,
    note_shortest_distance,
)
from dpa2.training.task import Task
from dpa2.training.train_state import TrainState
from schemas.base.diagnostics import Diagnostic, Finding
from schemas.base.errors import CheckpointError, ConfigError
from schemas.base.names import by_atomic_number
from schemas.check.input_file import check_file, check_text, checked
from schemas.check.start import check_start
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import RunStart, Source, Start, targets_of

Say = Callable[[str], None]
Config = Input | MultiTaskInput


def read_input(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    overrides: Sequence[str],
    start: Start | None = None,
) -> tuple[Config, list[str]]:
    """Return the checked input of a file, a mapping, or what is one already.

    Args:
        config: The input.
        overrides: Texts such as `training.numb_steps=1000`.
        start: The checkpoint to start from; the input must fit it, or takes over its networks.

    Returns:
        The input, and what to say about starting it there.

    Raises:
        ConfigError: When the input has faults.
        CheckpointError: When the checkpoint is of another model.
        ValueError: When changes are asked for of an input that is checked already.
    """
    takes_over = start is not None and start.use_pretrain_script
    if not isinstance(config, (Input, MultiTaskInput)):
        # Faults of the start alone are looked for below, where it is known whose they are.
        early = start if takes_over or (start and start.option == "--finetune") else None
        if isinstance(config, Mapping):
            report = check_text(json.dumps(config), "input.json", overrides, early)
        else:
            report = check_file(Path(config), overrides, early)
        if early:
            _refuse(
                [d for d in report.diagnostics if d.path and str(d.path[0]).startswith("--")], early
            )
        config = checked(report)
    elif overrides or takes_over:
        raise ValueError(
            "overrides and use_pretrain_script apply to a file or a mapping, not to a checked input"
        )
    if start is None:
        return config, []
    findings = check_start(targets_of(config), start, config)
    _refuse(findings, start)
    return config, [
        f"{item.severity}: {item.message}" + (f" ({item.hint})" if item.hint else "")
        for item in findings
        if item.severity == "warning" or start.option == "--restart"
    ]


def _refuse(found: Sequence[Finding | Diagnostic], start: Start) -> None:
    """Raise the first error: of the checkpoint, or of the input beside it."""
    for item in found:
        if item.severity == "error":
            kind = CheckpointError if item.path == start.path else ConfigError
            raise kind(item.message, hint=item.hint)


class Scratch:
    """Initial weights from the seeds, statistics of the data.

    Attributes:
        continued: The checkpoint of an earlier run whose files it goes on with; None: it starts
            its own.
        tuning: What is frozen or trained more slowly.
        provenance: Of a fine-tuning: where every branch starts; filled by `prepare`.
        searches_distance: Whether all frames are read for the shortest distance between atoms.
    """

    def __init__(self, *, searches_distance: bool = True) -> None:
        self.searches_distance = searches_distance
        self.continued: Checkpoint | None = None
        self.tuning = Tuning()
        self.provenance: dict[str, Provenance] = {}

    def prepare(self, tasks: Mapping[str, Task], say: Say) -> dict[str, InputMoments]:
        """Give the models what they need before parts are shared.

        Returns:
            Moments of the data of every branch where statistics were computed; branches that share
            parts then add theirs. Empty: statistics stay as they are.
        """
        moments = {}
        for name, task in tasks.items():
            told = say if len(tasks) == 1 else _labelled(say, name)
            found = _statistics(task, told, searches_distance=self.searches_distance)
            info = {**task.model_params["info"], "observed_type": found.observed_types}
            task.model_params["info"] = info
            moments[name] = found.moments
        return moments

    def resume(self, _state: TrainState) -> int:
        """Load what comes from a file after parts are shared; return the steps already done."""
        return 0


class WarmStart(Scratch):
    """The weights of a checkpoint; step, optimiser and averages begin anew."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint

    def prepare(self, tasks: Mapping[str, Task], _say: Say) -> dict[str, InputMoments]:
        """Take over what the file says about its data.

        Raises:
            CheckpointError: When the file lacks a branch of the input.
        """
        missing = [name for name in tasks if name not in self.checkpoint.branches]
        if missing:
            raise CheckpointError(
                f"{self.checkpoint.path} has no branch `{missing[0]}` (it has "
                f"{', '.join(self.checkpoint.branches)})",
                hint="a run goes on with the branches it was begun with; to start from another "
                "model's weights, fine-tune it",
            )
        for name, task in tasks.items():
            known = self.checkpoint.branch(name)[0].get("info") or {}
            task.model_params["info"] = {**known, **task.model_params["info"]}
            self.tuning.freeze(task.model)
        return {}

    def resume(self, state: TrainState) -> int:
        """Load the weights."""
        state.load_weights(self.checkpoint)
        if state.average is not None:
            state.average.reset()
        return 0


class Restart(WarmStart):
    """A run of a checkpoint, continued where it was."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.continued = checkpoint
        self.tuning = Tuning(**(checkpoint.state or {}).get("tuning") or {})

    def resume(self, state: TrainState) -> int:
        """Load weights, optimiser, averages and the place in the data."""
        return state.restore(self.checkpoint)


class Finetune(Scratch):
    """The weights of a checkpoint's branches, with energies of the new data.

    Args:
        config: The checked input.
        start: The checkpoint for checks, with the branch that is asked for.
        checkpoint: The same with its weights.
        tuning: What is frozen or trained more slowly.
    """

    def __init__(
        self, config: Config, start: Start, checkpoint: Checkpoint, tuning: Tuning
    ) -> None:
        super().__init__()
        self.start = start
        self.checkpoint = checkpoint
        self.tuning = tuning
        self.links = config.links
        self.sources = RunStart(targets_of(config), start).sources

    def prepare(self, tasks: Mapping[str, Task], say: Say) -> dict[str, InputMoments]:
        """Copy weights, fit energies, and say where everything is from.

        Raises:
            CheckpointError: When the weights do not fit the model.
            DataError: When the data lack what is needed.
        """
        self._add_statistics(tasks, say)
        models = {name: task.model for name, task in tasks.items()}
        frames: dict[str, list[Frames]] = {}
        for name, task in tasks.items():
            num = task.model.config.data_stat_nbatch
            keeps_energies = self.sources[name].fitting == "resumed"
            frames[name] = [] if keeps_energies else draw_frames(task.sampler, num, task.seed, say)
        records = {}
        for name, model in models.items():
            source = self.sources[name]
            self.tuning.freeze(model)
            records[name] = transfer(model, source, self.checkpoint.branch(source.branch)[1])
            note_shortest_distance(model, tasks[name].sampler)
            if source.fitting == "random":
                # A net that has learned relies on the statistics that it knows.
                StatisticsBuilder(model, partial(frames.__getitem__, name)).normalise_parameters()
        for line in unequal_parts(models, self.links):
            say(line)
        share(models, self.links)  # now, so that energies are fitted to the networks to be trained
        for name, task in tasks.items():
            source = self.sources[name]
            bias = self._bias(task, frames[name], say)
            self.provenance[name] = provenance(name, task.model, source, records[name], bias)
            for line in self.provenance[name].lines():
                say(line)
            observed = _observed(source, task.model.type_map, bias)
            task.model_params["info"] = {**observed, **task.model_params["info"]}
        return {}

    def _bias(self, task: Task, frames: list[Frames], say: Say) -> BiasShift | None:
        """Fit the energies of the elements; None for a branch that keeps its own."""
        source = self.sources[task.branch.name]
        if source.fitting == "resumed":
            return None
        mode = self.start.bias_of(source)
        if mode != "none" and not task.loss.trains_energies:
            say(ENERGIES_UNTRAINED)
            mode = "none"
        return adjust_bias(task.model, frames, mode)

    def _add_statistics(self, tasks: Mapping[str, Task], say: Say) -> None:
        """Compute statistics of the data if any element is new; those of known ones are replaced.

        A part that branches share is normalised by the data of all of them.
        """
        models = {name: task.model for name, task in tasks.items()}
        if any(self.sources[name].new_elements(m.type_map) for name, m in models.items()):
            moments = {name: _statistics(task, say).moments for name, task in tasks.items()}
            merge_statistics(models, self.links, moments, dict.fromkeys(tasks, 1.0))


def choose_start(
    config: Config,
    start: Start | None,
    checkpoint: Checkpoint | None,
    tuning: Tuning | None,
    *,
    searches_distance: bool = True,
) -> Scratch:
    """Return how a run begins.

    Args:
        config: The checked input.
        start: The checkpoint for checks; None: from scratch.
        checkpoint: The same with its weights.
        tuning: What a fine-tuning freezes or trains more slowly.
        searches_distance: Whether a run from scratch reads all frames for the shortest distance
            between atoms, which only compression needs.
    """
    if start is None or checkpoint is None:
        return Scratch(searches_distance=searches_distance)
    if start.option == "--finetune":
        return Finetune(config, start, checkpoint, tuning or Tuning())
    return Restart(checkpoint) if start.option == "--restart" else WarmStart(checkpoint)


def _statistics(task: Task, say: Say, *, searches_distance: bool = True) -> Statistics:
    """Compute the statistics of a branch, or take them from its `stat_file`."""
    branch = task.branch
    return initialise_statistics(
        task.model,
        task.sampler,
        stat_file=None if branch.data.stat_file is None else Path(branch.data.stat_file),
        read_only=branch.data.stat_file_mode == "read",
        seed=task.seed,
        say=say,
        fits_energies=task.loss.trains_energies,
        searches_distance=searches_distance,
    )


def _labelled(say: Say, name: str) -> Say:
    return lambda line: say(f"{name}: {line}")


def _observed(
    source: Source, type_map: Sequence[str], bias: BiasShift | None
) -> dict[str, list[str]]:
    """Return the elements that a branch has seen, as its file says it; nothing if unknown."""
    known = (source.section.get("info") or {}).get("observed_type")
    if known is None and source.fitting != "random":
        return {}
    seen = set() if source.fitting == "random" else set(known or ()) & set(type_map)
    if bias is not None:
        seen |= {n for n, found in zip(type_map, bias.observed, strict=True) if found}
    return {"observed_type": by_atomic_number(seen)}
