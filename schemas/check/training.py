"""Rules about the training: loss, learning rate, length, and the files that a run writes."""

import importlib.util
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from schemas.base.diagnostics import Finding
from schemas.check.data_folders import exists
from schemas.check.keys import unmet
from schemas.check.rule import fault, note, rule, warning
from schemas.input.optimization import PREFACTORS, prefactors, term_is_on
from schemas.input.root import Input
from schemas.input.section import Needs, WrittenTo
from schemas.input.view import Field, marked


@rule("ZOO311", "both weights of a term are zero or neither is")
def no_half_weight(config: Input) -> Iterator[Finding]:
    """Warn of a term that one zero weight switches off altogether."""
    for suffix, name in PREFACTORS.items():
        start, limit = prefactors(config.loss, suffix)
        if suffix != "h" and bool(start) != bool(limit):
            zero = f"limit_pref_{suffix}" if start else f"start_pref_{suffix}"
            message = f"`{zero}` is 0: that switches the whole {name} term off"
            hint = "give both weights, or set both to 0; a small weight such as 1e-6 keeps it on"
            yield warning(f"loss.{zero}", message, hint)


@rule("ZOO312", "some term of the loss is on")
def something_is_learned(config: Input) -> Iterator[Finding]:
    """Demand at least one term."""
    if not any(term_is_on(config.loss, suffix) for suffix in PREFACTORS):
        yield fault("loss", "all prefactors are zero: there is nothing to learn")


_ABSURD_RATIO, _WRONG_WAY, _SWAPPED = 1e6, 5.0, 1000.0
_RIGHT_WAY = {"e": "grows", "f": "falls", "pf": "falls"}
"""How weights go in inputs that train: forces lead at first, energies at last."""


@rule("ZOO356", "weights go from start to limit as they should")
def weights_are_not_swapped(config: Input) -> Iterator[Finding]:
    """Warn of weights that look swapped, or that change by an absurd factor."""
    for suffix, name in PREFACTORS.items():
        start, limit = prefactors(config.loss, suffix)
        if not (start and limit):
            continue
        path, growth = f"loss.start_pref_{suffix}", limit / start
        told = f"the {name} weight goes from {start:g} to {limit:g}"
        wrong = {"grows": 1 / growth, "falls": growth}.get(_RIGHT_WAY.get(suffix, ""), 0)
        if max(growth, 1 / growth) > _ABSURD_RATIO:
            yield warning(path, f"{told}: a factor of {max(growth, 1 / growth):.0g}")
        elif wrong >= _WRONG_WAY:
            message = f"{told}, but usually it {_RIGHT_WAY[suffix]}"
            yield warning(path, message, "are the two swapped?")


@rule("ZOO357", "weights of energies are those of energies")
def force_leads(config: Input) -> Iterator[Finding]:
    """Warn of energy weights far above force weights all along: they look swapped."""
    loss = config.loss
    if term_is_on(loss, "e") and term_is_on(loss, "f"):
        (first, last), of_force = prefactors(loss, "e"), max(prefactors(loss, "f"))
        if min(first, last) >= _SWAPPED * of_force:
            message = (
                f"energies weigh {first:g} to {last:g}, forces {of_force:g} at most: forces, of "
                "which there are three an atom, are hardly learned"
            )
            yield warning("loss.start_pref_e", message, "are energy and force swapped?")


@rule("ZOO301", "stop_lr <= start_lr")
def learning_rate_falls(config: Input) -> Iterator[Finding]:
    """Demand that the last learning rate is not above the first."""
    schedule = config.learning_rate
    if schedule.stop_lr_ratio is not None and schedule.stop_lr_ratio > 1:
        message = f"stop_lr_ratio ({schedule.stop_lr_ratio:g}) must be <= 1"
        yield fault("learning_rate.stop_lr_ratio", message)
    elif schedule.stop_lr is not None and schedule.stop_lr > schedule.start_lr:
        message = f"stop_lr ({schedule.stop_lr:g}) must be <= start_lr ({schedule.start_lr:g})"
        yield fault("learning_rate.stop_lr", message, "are the two swapped?")


@rule("ZOO302", "stop_lr or stop_lr_ratio, not both")
def one_end(config: Input) -> Iterator[Finding]:
    """Demand that the last learning rate is given in one way."""
    schedule = config.learning_rate
    if schedule.stop_lr is not None and schedule.stop_lr_ratio is not None:
        yield fault("learning_rate.stop_lr_ratio", "give stop_lr or stop_lr_ratio, not both")


@rule("ZOO303", "warmup_steps or warmup_ratio, not both")
def one_warmup(config: Input) -> Iterator[Finding]:
    """Demand that the warm-up is given in one way."""
    schedule = config.learning_rate
    if schedule.warmup_steps and schedule.warmup_ratio is not None:
        yield fault("learning_rate.warmup_ratio", "give warmup_steps or warmup_ratio, not both")


@rule("ZOO304", "warmup_steps < numb_steps")
def warmup_ends(config: Input) -> Iterator[Finding]:
    """Demand that the warm-up is shorter than the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps is not None and warmup and warmup >= steps:
        message = f"warmup_steps ({warmup}) must be < numb_steps ({steps})"
        yield fault("learning_rate.warmup_steps", message)


@rule("ZOO359", "the warm-up is a small part of the run")
def warmup_is_short(config: Input) -> Iterator[Finding]:
    """Warn of a warm-up longer than half of the run."""
    steps, warmup = config.training.numb_steps, config.learning_rate.warmup_steps
    if steps and steps / 2 < warmup < steps:
        message = f"warmup_steps ({warmup}) is more than half of numb_steps ({steps})"
        yield warning("learning_rate.warmup_steps", message, "a hundredth of the run is usual")


@rule("ZOO305", "decay_steps < numb_steps")
def decay_happens(config: Input) -> Iterator[Finding]:
    """Warn of a decay interval as long as the run, which deepmd-kit replaces silently."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    if schedule.type != "exp" or not steps:
        return
    decay, left = schedule.decay_steps, steps - schedule.warmup_steps
    if schedule.decay_rate is None and decay >= left > 0:
        used = 100 if left // 10 > 100 else left // 100 + 1
        message = f"decay_steps ({decay}) >= numb_steps ({steps}): {used} is used instead"
        yield warning("learning_rate.decay_steps", message, f"write {used} if that is meant")


@rule("ZOO306", "stop_lr > 0")
def learning_rate_stays_positive(config: Input) -> Iterator[Finding]:
    """Refuse a learning rate that ends at 0 where that divides by zero; warn elsewhere."""
    schedule = config.learning_rate
    for name in ("stop_lr", "stop_lr_ratio"):
        if getattr(schedule, name) != 0:
            continue
        path = f"learning_rate.{name}"
        if schedule.type == "wsd":
            yield fault(path, f"{name} must be > 0 for wsd")
        elif schedule.type == "exp":
            yield warning(path, f"{name} is 0: the decay rate is computed as if it were 1e-10")


_NEAR, _UNCHANGED, _SOON = 2.0, 0.99, 0.1
_TRIAL = 100
"""Steps of a run that only tries whether it works."""


@rule("ZOO307", "stop_lr is reached")
def last_rate_is_reached(config: Input) -> Iterator[Finding]:
    """Note that `decay_rate` decides about the last learning rate where both are given."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    if schedule.type != "exp" or schedule.decay_rate is None or not steps:
        return
    wanted = schedule.stop_lr
    if wanted is None or wanted <= 0 or "stop_lr" not in schedule.model_fields_set:
        return
    decays = (steps - 1 - schedule.warmup_steps) // schedule.decay_steps
    last = max(schedule.start_lr * schedule.decay_rate**decays, wanted)
    if last > _NEAR * wanted:
        message = f"stop_lr ({wanted:g}) is never reached: decay_rate leads to {last:.2g}"
        hint = "remove decay_rate to reach stop_lr, or stop_lr to say what happens"
        yield note("learning_rate.stop_lr", message, hint)


@rule("ZOO358", "the learning rate falls in the course of the run")
def decay_is_gradual(config: Input) -> Iterator[Finding]:
    """Warn of a rate that never falls (the loss then keeps its first weights), or falls at once."""
    schedule, steps = config.learning_rate, config.training.numb_steps
    start, stop = schedule.start_lr, schedule.last_lr
    weights = (prefactors(config.loss, x) for x in PREFACTORS if term_is_on(config.loss, x))
    vary = any(first != last for first, last in weights)
    stays = f"the learning rate stays at {start:g}"
    stays += ": the weights of the loss stay at start_pref" if vary else ""
    if schedule.type != "exp" or schedule.decay_rate is None:
        if start * _UNCHANGED < stop <= start:
            key = "stop_lr" if schedule.stop_lr is not None else "stop_lr_ratio"
            yield warning(f"learning_rate.{key}", stays, "give a smaller one")
        return
    path, rate = "learning_rate.decay_rate", schedule.decay_rate
    if not steps:
        if rate > 1 - 1e-9:
            yield warning(path, f"decay_rate is 1: {stays}")
        return
    hint = "remove decay_rate to reach stop_lr at the last step"
    left = steps - schedule.warmup_steps
    decays = (left - 1) // schedule.decay_steps if left > 0 else 0
    last = max(start * rate**decays, min(stop, start))
    if last > _UNCHANGED * start and steps > _TRIAL:
        key, value = ("decay_rate", rate) if decays else ("decay_steps", schedule.decay_steps)
        yield warning(f"learning_rate.{key}", f"{key} is {value:g}: {stays}", hint)
    elif stop > 0 and rate < 1:
        needed = math.log(stop / start) / math.log(rate) * schedule.decay_steps
        if stop < start and needed < _SOON * left:
            message = (
                f"with decay_rate {rate:g} every {schedule.decay_steps} steps the "
                f"learning rate is at its end, {stop:g}, after {needed:.0f} of {steps} steps"
            )
            yield warning(path, message, hint)


@rule("ZOO321", "numb_steps or numb_epoch", scope="single-task")
def length_is_given(config: Input) -> Iterator[Finding]:
    """Demand the length of the run, in one way."""
    steps, epochs = config.training.numb_steps, config.training.numb_epoch
    if steps is None and epochs is None:
        hint = 'such as "numb_steps": 1000000'
        yield fault("training.numb_steps", "training needs numb_steps or numb_epoch", hint)
    elif steps is not None and epochs is not None:
        yield fault("training.numb_epoch", "give numb_steps or numb_epoch, not both")


@rule("ZOO322", "numb_steps > 0")
def run_has_steps(config: Input) -> Iterator[Finding]:
    """Warn of a run without steps."""
    if config.training.numb_steps == 0:
        yield warning("training.numb_steps", "0 steps: nothing is trained")


def _happens(key: str, consequence: str, config: Input) -> Iterator[Finding]:
    """Warn of what is done less often than there are steps."""
    steps, every = config.training.numb_steps, getattr(config.training, key)
    if key in config.training.model_fields_set and steps and every > steps:
        message = f"{key} ({every}) > numb_steps ({steps}): {consequence}"
        yield warning(f"training.{key}", message)


for _code, _key, _consequence in (
    ("ZOO323", "save_freq", "only the last step is saved"),
    ("ZOO333", "disp_freq", "only the first step is displayed"),
):
    rule(_code, f"{_key} <= numb_steps")(partial(_happens, _key, _consequence))


@rule("ZOO334", "validation_freq <= numb_steps")
def full_validation_happens(config: Input) -> Iterator[Finding]:
    """Warn of a full validation that never happens."""
    section, steps = config.validating, config.training.numb_steps
    is_on = section.full_validation or section.ema_full_validation
    if is_on and steps and section.full_val_start > max(steps, 1):
        message = f"full_val_start ({section.full_val_start:g}) > numb_steps ({steps}): never done"
        yield warning("validating.full_val_start", message, "below 1 it is a part of the run")
    elif is_on and steps and section.validation_freq > steps:
        message = f"validation_freq ({section.validation_freq}) > numb_steps ({steps}): never done"
        yield warning("validating.validation_freq", message)


@rule("ZOO324", "gradient_max_norm > 0")
def gradient_is_clipped(config: Input) -> Iterator[Finding]:
    """Warn of a limit of 0, which is none."""
    if config.training.gradient_max_norm == 0:
        message = "gradient_max_norm 0 switches gradient clipping off"
        yield warning("training.gradient_max_norm", message, "remove it if that is meant")


@rule("ZOO327", "tensorboard is installed where it is used")
def tensorboard_is_installed(config: Input) -> Iterator[Finding]:
    """Demand the package that writes for TensorBoard."""
    if config.training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        hint = "pip install 'dpa-zoo[tensorboard]', or remove the key"
        yield fault("training.tensorboard", "the package tensorboard is not installed", hint)


@rule("ZOO328", "enable_ema needs zero_stage < 2")
def mean_of_whole_parameters(config: Input) -> Iterator[Finding]:
    """Refuse a running mean of parameters that no process has as a whole."""
    if config.training.enable_ema and config.training.zero_stage >= 2:
        yield fault("training.enable_ema", "enable_ema needs zero_stage 0 or 1")


@rule("ZOO329", 'stat_file_mode "read" needs stat_file')
def statistics_to_read(config: Input) -> Iterator[Finding]:
    """Demand the file from which statistics are to be read."""
    if config.training.stat_file_mode == "read" and not config.training.stat_file:
        yield fault("training.stat_file_mode", 'stat_file_mode "read" needs stat_file')


@rule("ZOO330", "there are validation data", scope="single-task")
def validation_data_exist(config: Input) -> Iterator[Finding]:
    """Warn of a run without validation data."""
    if config.training.validation_data is None:
        message = "there is no validation_data: overfitting will not show"
        yield warning("training.validation_data", message)


@rule("ZOO331", "full validation has what it needs", scope="single-task")
def full_validation_is_possible(config: Input) -> Iterator[Finding]:
    """Demand data, weights and whole parameters for full validation."""
    section, training = config.validating, config.training
    is_on = section.full_validation or (section.ema_full_validation and training.enable_ema)
    if not is_on or section.full_val_start == 1:
        return
    path = "validating.full_validation"
    if training.validation_data is None:
        message = "full validation needs training.validation_data"
        yield fault(path, message, "add them, or switch it off")
    if training.zero_stage >= 2:
        yield fault(path, "full validation needs zero_stage 0 or 1")
    suffix = section.validation_metric.strip()[:1].lower()
    if not term_is_on(config.loss, suffix):
        message = (
            f"validation_metric {section.validation_metric} needs start_pref_{suffix} and "
            f"limit_pref_{suffix} of the loss to be non-zero"
        )
        hint = "give the term a weight, or choose the metric of another, such as E:MAE"
        yield fault("validating.validation_metric", message, hint)


RUN_FOLDER = ContextVar("RUN_FOLDER", default=Path())
"""Where the run writes; the folder itself is made if need be. Statistics are not kept there."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


@rule("ZOO354", "what the run writes can be written")
def outputs_can_be_written(config: Input) -> Iterator[Finding]:
    """Demand folders where none is made, and no file in the place of a folder or the reverse."""
    for field, mark in _written(config):
        name, text = str(field.path[-1]), str(field.value)
        if not text or "\0" in text:
            message = f"{name} is empty" if not text else f"{name} has a NUL character in it"
            yield fault(field.path, message, "give a path, or remove the key for the default")
        elif (obstacle := _obstacle(text, mark)) is not None:
            hint = f"paths are relative to {_base(mark).absolute()}"
            yield fault(field.path, f"{name}: {obstacle}", hint)


@rule("ZOO326", "the folders to which the run writes exist")
def output_folders_exist(config: Input) -> Iterator[Finding]:
    """Warn of a folder that will be made: it may be a slip of the pen."""
    for field, mark in _written(config):
        text = str(field.value)
        if mark.kind == "file" or not text or "\0" in text or _obstacle(text, mark) is not None:
            continue
        if mark.kind == "prefix" and config.training.save_dir:
            continue
        path = Path(text)
        folder = path if mark.kind == "folder" and field.given else path.parent
        if folder != Path() and not exists(_base(mark) / folder):
            yield warning(field.path, f"the folder {folder} does not exist; it will be created")


@rule("ZOO355", "what the run writes goes to files of their own")
def outputs_are_distinct(config: Input) -> Iterator[Finding]:
    """Refuse two outputs in one file."""
    seen: dict[str, Field] = {}
    for field, mark in _written(config):
        if mark.kind not in ("file", "statistics") or not field.value:
            continue
        first = seen.setdefault(os.path.normpath(field.value), field)
        if first is not field:
            message = f"{field.path[-1]} and {first.path[-1]} are the same file, {field.value}"
            related = (("the other one", first.path),)
            yield fault(field.path, message, "give each a file of its own", related_paths=related)


def _written(config: Input) -> Iterator[tuple[Field, WrittenTo]]:
    """Yield the paths to which the run writes, without those of what is off."""
    for field, mark in marked(config, WrittenTo):
        needs = [item for item in field.marks if isinstance(item, Needs)]
        if isinstance(field.value, str) and not any(unmet(field, item) for item in needs):
            yield field, mark


def _obstacle(text: str, mark: WrittenTo) -> str | None:
    """Return why nothing can be written to a path, None if it can."""
    base = _base(mark)
    path = base / text
    folder = path if mark.kind.endswith("folder") else path.parent
    nearest = next((item for item in (folder, *folder.parents) if exists(item)), Path())
    if not nearest.is_dir():
        return f"{nearest} is a file, not a folder"
    if mark.kind == "file":
        if path.is_dir() or text.endswith("/"):
            return f"{text} is a folder, not a file"
        if folder != base and not exists(folder):
            return f"the folder {folder} does not exist"
    if mark.kind == "statistics" and path.is_file() and not _is_hdf5(path):
        return f"{text} is there and is no HDF5 file"
    if not os.access(nearest, os.W_OK | os.X_OK) and not exists(path):
        return f"the folder {nearest} cannot be written to"
    if not mark.kind.endswith("folder") and path.is_file() and not os.access(path, os.W_OK):
        return f"{text} cannot be written to"
    return None


def _base(mark: WrittenTo) -> Path:
    return Path() if mark.kind == "statistics" else RUN_FOLDER.get()


def _is_hdf5(path: Path) -> bool:
    """Return whether a file begins as HDF5; one that cannot be read counts as right."""
    with suppress(OSError), path.open("rb") as stream:
        return stream.read(len(_HDF5)) == _HDF5
    return True
