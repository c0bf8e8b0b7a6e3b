"""Rules about a run that is continued with other settings than it was begun with."""

from collections.abc import Iterator

from schemas.base.diagnostics import Finding, Path, dotted
from schemas.base.errors import ConfigError
from schemas.check.rule import fault, note, rule, warning
from schemas.check.schema_faults import shown
from schemas.input.differences import (
    Change,
    differences,
    meaning_of_checkpoint,
    meaning_of_input,
)
from schemas.input.start import RunStart

_COURSE = "the training goes on another way"
_COURSES: dict[str | int, str] = {"validating": "the best checkpoints are chosen in another way"}


def _changes(run: RunStart) -> list[Change]:
    """Return what was otherwise in the run that is continued; the settings only if it notes them.

    That another model does not fit is the concern of other rules.
    """
    start, config = run.start, run.config
    if start is None or start.option != "--restart" or config is None:
        return []
    try:
        before = meaning_of_checkpoint(start.file, start.model_params, start.settings)
        return differences(before, meaning_of_input("the input", config))
    except ConfigError:
        return []


def _is_idle(item: Change, run: RunStart) -> bool:
    """Return whether a setting is looked at only by a change of the energies in the end."""
    config = run.config
    return (
        "preset_out_bias" in item.path
        and config is not None
        and not config.training.change_bias_after_training
    )


@rule("ZOO632", "a restart goes on with the settings of the run", scope="start")
def settings_are_kept(run: RunStart) -> Iterator[Finding]:
    """Say what changes the course of the training, and what changes nothing any more."""
    start = run.start
    jumps = _jump(run) is not None
    for item in _changes(run):
        assert start is not None
        is_said = jumps or item.path[0] == "training"  # by the rule of rates
        path = run.place(item.path)
        message = f"`{item.path[-1]}` was {_value(item.ours)} in {start.file}"
        if item.path[0] == "validating" and item.ours is None:
            continue  # validation begins here
        if item.effect == "begun" or _is_idle(item, run):
            hint = "the run goes on as it was begun; --init-model begins a new one"
            yield note(path, f"{message}; a restart does not look at it", hint)
        elif item.effect == "course" or (item.effect == "rate" and not is_said):
            message += f" and is {_value(item.theirs)} here: {_COURSES.get(item.path[0], _COURSE)}"
            back = "remove it" if item.ours is None else f"write {_value(item.ours)}"
            yield warning(path, message, f"{back} to go on as before")


@rule("ZOO636", "a restart shares between branches what the run shared", scope="start")
def sharing_is_kept(run: RunStart) -> Iterator[Finding]:
    """Refuse other shared parts: the weights of one branch would be lost."""
    start = run.start
    branches = {target.name for target in run.targets}
    for item in _changes(run):
        if start is not None and branches == set(start.branches) and item.is_of_sharing:
            branch, component = item.path[2:4]
            message = (
                f"{component} of branch `{branch}` was {_value(item.ours)} in {start.file} and is "
                f"{_value(item.theirs)} here: shared otherwise, it is another model"
            )
            yield fault(start.path, message, "share the same parts; --finetune can share others")


@rule("ZOO633", "a restart goes on with the learning rate of the run", scope="start")
def rate_goes_on(run: RunStart) -> Iterator[Finding]:
    """Warn of a schedule that is elsewhere at the step from which the run goes on."""
    found = _jump(run)
    start = run.start
    if found is None or start is None:
        return
    others = [item for item in _changes(run) if item.effect == "rate"]
    path: Path = ("learning_rate",)
    why = "the schedule or `numb_steps` is another one"
    if others:
        path = others[0].path
        why = ", ".join(
            f"{dotted(item.path)} was {_value(item.ours)} and is {_value(item.theirs)}"
            for item in others
        )
    before, after = found
    message = f"at step {start.steps} the learning rate jumps from {before:.3g} to {after:.3g}"
    hint = (
        "to go on at a low rate, begin a run of its own with --init-model and a low start_lr, or "
        "give the schedule a decay_rate, which does not depend on numb_steps"
    )
    yield warning(run.place(path), f"{message}: {why}", hint)


def _jump(run: RunStart) -> tuple[float, float] | None:
    """Return the rate of the last step as it was and as it is now, if these differ."""
    start, config = run.start, run.config
    if start is None or start.option != "--restart" or config is None:
        return None
    steps, before, total = start.steps, start.last_rate, config.training.numb_steps
    if not steps or before is None or total is None or steps >= total:
        return None
    from schemas.input.schedule import build_schedule, jump  # numpy, for restarts alone

    try:
        return jump(build_schedule(config.learning_rate, total), steps, before)
    except ConfigError:
        return None  # a rule speaks of that


def _value(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return shown(value)
