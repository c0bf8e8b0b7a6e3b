"""Validation on all of the validation data from time to time; the best checkpoints are kept."""

# deepmd-kit's `validating` section (docs/deepmd-format.md, 1.8b): same schedule, columns, names and
# choice.

import contextlib
import math
import re
from pathlib import Path
from typing import Any

from dpa2.data.sampler import iterate
from dpa2.evaluate.comparison import Errors, compare, errors_of, merge
from dpa2.formats.structures import Evaluation
from dpa2.training.display import rows_until
from dpa2.training.optimizer import ParameterAverage
from dpa2.training.run_folder import RunFolder
from dpa2.training.train_state import TrainState
from schemas.base.errors import ConfigError
from schemas.base.writing import append_text, write_text

_BATCH = "auto:256"
_NOTE = (
    "# E uses per-atom energy, F uses component-wise force errors, "
    "and the second-rank column is S, stress as the negated virial divided by the "
    "cell volume, or V, virial normalized by natoms, following `validation_metric`.\n"
)
_UNITS = {"E": "meV/atom", "F": "meV/Å", "S": "meV/Å³", "V": "meV/atom"}
_QUANTITIES = {"E": "energy_per_atom", "F": "force", "S": "stress", "V": "virial_per_atom"}
_SIGNIFICANT = 5
_PER_MILLE = 1000.0  # eV -> meV


class FullValidation:
    """Evaluates all validation frames and keeps the best few checkpoints.

    Args:
        config: The checked `validating` section.
        state: The only task; writes checkpoints, and its `best` remembers the ranking between runs.
        average: Judge the averaged weights instead of the current ones.
        log: The file of the errors.
        checkpoints: Folder of the best checkpoints.
        resumed_at: Steps done before a restart; None for a new run, which leaves the best
            checkpoints of others alone.
    """

    def __init__(
        self,
        config: Any,
        state: TrainState,
        average: ParameterAverage | None,
        log: Path,
        checkpoints: Path,
        resumed_at: int | None,
    ) -> None:
        self.config = config
        self.state = state
        (self.task,) = state.tasks.values()
        self.average = average
        self.checkpoints = checkpoints
        self.prefix = "best.ckpt" if average is None else "best_ema.ckpt"
        self.log = log
        num_steps = state.schedule.num_steps
        start = float(config.full_val_start)
        self.start = int(num_steps * start) if start < 1.0 else int(start)
        self.never = start == 1.0
        self.family, self.kind = config.validation_metric.strip().upper().split(":")
        self.families = ("E", "F", "V" if self.family == "V" else "S")
        self._step_width = max(len("step"), len(str(num_steps)))
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        kept = "" if resumed_at is None else rows_until(self.log, resumed_at)
        write_text(self.log, kept or self._header())
        if resumed_at is None:
            self.records.clear()
        self._foreign = self._of_others(math.inf if resumed_at is None else resumed_at)
        self._remove_outranked()

    @property
    def records(self) -> list[list[float]]:
        """`[error, step]` of the best checkpoints, best first."""
        return self.state.best.setdefault(self.prefix, [])

    def due(self, step: int) -> bool:
        """Return whether a validation belongs to this step (counted from 1)."""
        if self.never or step < self.start:
            return False
        return (step - self.start) % int(self.config.validation_freq) == 0

    def run(self, step: int) -> str:
        """Validate, log, keep the checkpoint if it is among the best; return a line for the log.

        Raises:
            ConfigError: When the data lack the label that the metric needs.
        """
        with self.average.applied() if self.average is not None else contextlib.nullcontext():
            errors = self._evaluate()
            chosen = _value(errors, self.family, self.kind)
            if math.isnan(chosen):
                raise ConfigError(
                    f"validating.validation_metric is {self.config.validation_metric}, but the "
                    "validation data lack this label",
                    hint="choose another metric, or add the label to the validation data",
                )
            saved = self._keep(step, chosen)
        row = self._row(step, errors)
        label = f"{self.family}:{self.kind} = {_number(chosen * _PER_MILLE)} {_UNITS[self.family]}"
        if saved is not None:
            row += f"# saved best checkpoint: {saved} ({label})\n"
        with self.log.open("a") as stream:
            append_text(stream, row)
        return f"Batch {step:7d}: full validation: {label}" + (f"; saved {saved}" if saved else "")

    def _evaluate(self) -> Errors:
        assert self.task.validation is not None
        builder = self.task.builder
        needed = ("energy", "force", "virial", *builder.inputs)
        found = []
        for frames in iterate(self.task.validation.sampler.systems, _BATCH, need=needed):
            batch = builder.build(frames)
            prediction = batch.predict(self.task.model, create_graph=False)
            numbers = (prediction.energy, prediction.force, prediction.virial)
            evaluation = Evaluation(*(values.cpu().numpy() for values in numbers))
            found.append(errors_of(compare(batch.frames, evaluation)))
        return merge(found)

    def _keep(self, step: int, error: float) -> Path | None:
        """Save the checkpoint if it ranks; return its path."""
        ranking = sorted([*self.records, [error, step]])[: int(self.config.max_best_ckpt)]
        self.records[:] = ranking
        if [error, step] not in ranking or not self.config.save_best:
            return None
        path = self._path(step, ranking.index([error, step]) + 1)
        self._foreign.discard(path)
        self._remove_outranked()
        self.state.save(path, step, weights_only=self.average is not None)
        return path

    def _path(self, step: int, rank: int) -> Path:
        return self.checkpoints / f"{self.prefix}-{step}.t-{rank}.pt"

    def _remove_outranked(self) -> None:
        """Give kept files the name of their present rank, delete the others."""
        ranks = {int(step): rank for rank, (_, step) in enumerate(self.records, start=1)}
        for path, step in self._best().items():
            if path in self._foreign:
                continue
            if step not in ranks:
                path.unlink()
            else:
                renamed = self._path(step, ranks[step])
                self._foreign.discard(renamed)
                path.rename(renamed)

    def _of_others(self, steps_done: float) -> set[Path]:
        """Return the best checkpoints up to a step that are none of our ranking."""
        ours = {int(step) for _, step in self.records}
        return {
            path for path, step in self._best().items() if step not in ours and step <= steps_done
        }

    def _best(self) -> dict[Path, int]:
        """Return the best checkpoints that are there, and their steps."""
        pattern = re.compile(rf"{re.escape(self.prefix)}-(\d+)\.t-\d+\.pt")
        found = sorted(self.checkpoints.glob(f"{self.prefix}-*.t-*.pt"))
        matches = {path: pattern.fullmatch(path.name) for path in found}
        return {path: int(match.group(1)) for path, match in matches.items() if match}

    def _columns(self) -> list[tuple[str, str, str]]:
        """Return (family, kind, title) of each column."""
        return [
            (family, kind, f"{family}_{kind}({_UNITS[family]})")
            for family in self.families
            for kind in ("MAE", "RMSE")
        ]

    def _header(self) -> str:
        titles = [f"{title:^{max(len(title), 10)}s}" for _, _, title in self._columns()]
        return " ".join([f"# {'step':^{self._step_width}s}", *titles]) + "\n" + _NOTE

    def _row(self, step: int, errors: Errors) -> str:
        cells = [
            f"{_number(_value(errors, family, kind) * _PER_MILLE):^{max(len(title), 10)}s}"
            for family, kind, title in self._columns()
        ]
        return " ".join([f"  {step:^{self._step_width}d}", *cells]) + "\n"


def full_validations(
    config: Any, state: TrainState, files: RunFolder, *, resumed_at: int | None
) -> tuple[FullValidation, ...]:
    """Return the validations that the `validating` section asks for.

    Args:
        config: The checked input.
        state: Its branches; full validation is for a single one.
        files: Where everything goes.
        resumed_at: Steps done before a restart; None for a new run.

    Raises:
        ConfigError: When there is no validation data, or several branches.
    """
    section = config.validating
    averages: list[ParameterAverage | None] = [None] if section.full_validation else []
    if section.ema_full_validation and state.average is not None:
        averages.append(state.average)
    if not averages:
        return ()
    if len(state.tasks) > 1:
        raise ConfigError(
            "validating.full_validation is for a single task",
            hint="remove the section `validating`; every branch's validation errors are in lcurve",
        )
    if any(task.validation is None for task in state.tasks.values()):
        raise ConfigError(
            "validating.full_validation needs training.validation_data",
            hint="add validation_data, or set full_validation to false",
        )
    return tuple(
        FullValidation(section, state, average, log, files.best_checkpoints, resumed_at)
        for average, log in zip(averages, files.validation_logs(), strict=True)
    )


def _value(errors: Errors, family: str, kind: str) -> float:
    """Return the error of a column, eV; nan where the data lack its label."""
    stat = errors.get(_QUANTITIES[family])
    if stat is None:
        return math.nan
    return stat.mae if kind == "MAE" else stat.rmse


def _number(value: float) -> str:
    """Return five significant digits without an exponent, as deepmd-kit prints them."""
    if not math.isfinite(value) or value == 0.0:
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan" if value else "0")
    decimals = _SIGNIFICANT - math.floor(math.log10(abs(value))) - 1
    if decimals > 16:
        return f"{value:.{_SIGNIFICANT - 1}e}"
    return f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"
