"""Rules about the checkpoint from which a training starts: its branch, model and settings."""

from collections.abc import Iterator, Sequence

from schemas.base.diagnostics import Finding, Path, dotted
from schemas.base.errors import ConfigError
from schemas.base.names import nearest
from schemas.check.rule import fault, note, rule, run_rules, warning
from schemas.check.schema_faults import shown
from schemas.check.systems import OTHER_ELEMENTS
from schemas.input.differences import (
    Change,
    auto_selections,
    differences,
    meaning_of_checkpoint,
    meaning_of_input,
    model_changes,
)
from schemas.input.model import Model
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import RunStart, Source, Start, Target, is_empty
from schemas.input.view import sound_value

_BRANCH = ("--branch",)


def check_start(
    targets: Sequence[Target], start: Start | None, config: Input | MultiTaskInput | None = None
) -> list[Finding]:
    """Return what is wrong, or worth knowing, about starting an input from a checkpoint.

    Args:
        targets: Its branches; one of them for a single task.
        start: The checkpoint; None if the training starts from scratch.
        config: All of the input; None if there are faults in it.
    """
    run = RunStart(targets, start, config)
    return run_rules(run, *(("start",) if start is None else ("start", "checkpoint", start.option)))


@rule("ZOO611", "the branch asked for is in the checkpoint", scope="checkpoint")
def branch_exists(run: RunStart) -> Iterator[Finding]:
    """Demand the branch that `--branch` or `finetune_head` names."""
    start = run.checkpoint
    if start.option != "--finetune":
        if start.branch:
            yield fault(_BRANCH, f"--branch goes with --finetune, not with {start.option}")
    elif start.branch and run.is_multitask:
        message = "--branch is for a single-task input; this one has branches"
        hint = "write `finetune_head` into each branch of `model_dict`"
        yield fault(_BRANCH, message, hint)
    else:
        for target in run.targets:
            if target.name not in run.sources:
                head = target.path("model", "finetune_head")
                asked = start.branch or target.view.head or ""
                yield _no_such_branch(start, _BRANCH if start.branch else head, asked)


def _no_such_branch(start: Start, path: Path, asked: str) -> Finding:
    if not start.branches:
        return fault(start.path, f"{start.file} does not describe its model")
    if not start.has_branches:
        message = f"`{asked}`: {start.file} is a single-task model and has no branches"
        return fault(path, message, "leave the branch out")
    meant = nearest(asked, start.names)
    listed = ", ".join(f"`{name}`" for name in start.branches)
    hint = f"did you mean `{meant}`?" if meant else f"it has {listed}"
    return fault(path, f"{start.file} has no branch `{asked}`", hint)


@rule("ZOO612", "a branch is chosen", scope="--finetune")
def branch_is_chosen(run: RunStart) -> Iterator[Finding]:
    """Warn of a choice that is left out: the fitting net is then a new one, as in deepmd-kit."""
    start = run.checkpoint
    listed = ", ".join(f"`{name}`" for name in list(start.branches)[:40])
    for target in filter(run.is_undecided, run.targets):
        if run.is_multitask:
            path: Path = ("model", "model_dict", target.name)
            message = (
                f"branch `{target.name}` is not in {start.file}, nor does it say where it starts: "
                "its fitting net is random"
            )
            hint = f'write "finetune_head": one of {listed}, or "RANDOM" for a random fitting net'
            yield warning(path, message, hint, at="key")
        else:
            message = (
                f"{start.file} has {len(start.branches)} branches and none is chosen: "
                "the fitting net is random, as in deepmd-kit"
            )
            hint = f"choose with --branch: {listed}, or RANDOM for a random fitting net"
            yield warning(_BRANCH, message, hint)


@rule("ZOO613", "finetune_head goes with --finetune", scope="start")
def head_has_effect(run: RunStart) -> Iterator[Finding]:
    """Warn of a branch to start from when nothing is started from."""
    for target in run.targets:
        if target.view.head is not None and (run.start is None or run.start.option != "--finetune"):
            path = target.path("model", "finetune_head")
            yield warning(path, "`finetune_head` has no effect without --finetune")


@rule("ZOO545", "one branch is named to start from", scope="--finetune")
def head_agrees(run: RunStart) -> Iterator[Finding]:
    """Warn of a `finetune_head` that `--branch` makes count for nothing."""
    branch = run.checkpoint.branch
    for target in run.targets if branch and not run.is_multitask else ():
        head = target.view.head
        if head not in (None, branch):
            path = target.path("model", "finetune_head")
            message = f"`finetune_head` ({head}) has no effect: --branch is given, and counts"
            yield warning(path, message, "keep the one that is meant")


@rule("ZOO614", "a restart has steps left", scope="--restart")
def steps_are_left(run: RunStart) -> Iterator[Finding]:
    """Warn of a checkpoint that has done all steps."""
    start = run.checkpoint
    steps = sound_value(run.targets[0].sound, "training.numb_steps") if run.targets else None
    if start.steps is not None and steps is not None and start.steps >= steps:
        message = f"{start.file} has done {start.steps} of {steps} steps: nothing is left"
        yield warning(start.path, message, "raise training.numb_steps")


@rule("ZOO550", "a restart finds the state of the optimiser", scope="--restart")
def optimizer_is_there(run: RunStart) -> Iterator[Finding]:
    """Refuse to continue from weights alone, such as those of a running mean."""
    start = run.checkpoint
    if start.has_optimizer is False:
        message = f"{start.file} holds weights only and cannot be restarted from"
        yield fault(start.path, message, "start a new run from its weights: --init-model")


@rule("ZOO615", "a restart has the branches of the checkpoint", scope="checkpoint")
def branches_are_those_of_the_checkpoint(run: RunStart) -> Iterator[Finding]:
    """Demand the same branches where weights are taken over one by one."""
    start = run.checkpoint
    ours = [target.name for target in run.targets if target.view.branch is not None]
    if start.option == "--finetune":
        return
    if not start.branches:
        yield fault(start.path, f"{start.file} does not describe its model")
    elif run.is_multitask != start.has_branches:
        kinds = ("a single-task model", "a multi-task model")
        theirs, wanted = kinds[start.has_branches], kinds[run.is_multitask]
        message = f"{start.file} is {theirs}, the input describes {wanted}"
        yield fault(start.path, message, "--finetune can start from it")
    elif run.is_multitask and set(ours) != set(start.branches):
        lacking = [name for name in ours if name not in start.branches]
        beyond = [name for name in start.branches if name not in ours]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has {', '.join(beyond)} besides"] if beyond else []
        message = f"{start.file} {' and '.join(parts)}"
        yield fault(start.path, message, "the branches must be the same; --finetune can add some")


@rule("ZOO601", "the checkpoint is of a model that this engine runs", scope="checkpoint")
def checkpoint_is_ours(run: RunStart) -> Iterator[Finding]:
    """Demand a DPA-2 energy model."""
    start = run.checkpoint
    for branch, model in run.models.items():
        if isinstance(model, ConfigError):
            yield fault(start.path, f"{start.file}, branch `{branch}`: {model.message}", model.hint)


@rule("ZOO602", "the networks are those of the checkpoint", scope="checkpoint")
def networks_are_equal(run: RunStart) -> Iterator[Finding]:
    """Demand networks in which the weights of the checkpoint mean the same.

    Seeds, initial values and whether something is trained may differ.
    """
    start = run.checkpoint
    for target, source, theirs in run.pairs():
        changes = _model_changes(target, source, theirs)
        grave = [item for item in changes if item.is_architecture]
        if grave and start.option != "--finetune":
            path = dotted(target.path(*grave[0].path))
            others = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
            message = (
                f"the checkpoint does not fit: {path} is {_value(grave[0].ours)} in the input and "
                f"{_value(grave[0].theirs)} in {start.file}{others}"
            )
            yield fault(start.path, message, "use the input that it was trained with")
        for item in changes:
            if start.option == "--finetune" or not item.is_architecture:
                yield _other_network(start, target.path(*item.path), item)


def _model_changes(target: Target, source: Source, theirs: Model) -> list[Change]:
    model = sound_value(target.sound, "model")
    if model is None or ("model", "descriptor") in target.view.hidden:
        return []  # a rule says so
    return [
        item
        for item in model_changes(model, theirs)
        if item.path[1] == "descriptor"
        or (item.path[1] != "type_map" and source.fitting != "random")  # a rule compares elements
    ]


def _other_network(start: Start, path: Path, item: Change) -> Finding:
    """Return the fault of one value that is another one in the checkpoint."""
    theirs, is_finetuned = _value(item.theirs), start.option == "--finetune"
    message = f"`{item.path[-1]}` is {_value(item.ours)} here and {theirs} in "
    message += "the checkpoint" if is_finetuned else start.file
    message += "" if is_finetuned else ": another function of the same weights"
    if item.is_architecture:
        return fault(path, message, f"write {theirs}, or take it over with --use-pretrain-script")
    if start.option == "--restart":
        hint = "to continue the run; a new one can begin with its weights: --init-model"
        return fault(path, message, f"write {theirs} {hint}")
    kept = "it" if is_finetuned else "what was trained"
    return warning(path, message, f"write {theirs} to keep {kept}")


@rule("ZOO603", "the type_map goes with that of the checkpoint", scope="checkpoint")
def types_are_known(run: RunStart) -> Iterator[Finding]:
    """Compare the elements: none in common is an error, new ones are drawn at random."""
    start = run.checkpoint
    for target, _, model in run.pairs():
        ours, theirs = sound_value(target.sound, "model.type_map"), model.type_map
        path = target.path("model", "type_map")
        if ours is None or ours == theirs:
            continue
        if start.option != "--finetune":
            message = f"type_map is {_value(ours)} here and {_value(theirs)} in {start.file}"
            yield fault(path, message, f"write {_value(theirs)}; --finetune can change it")
            continue
        new = [name for name in ours if name not in theirs]
        dropped = [name for name in theirs if name not in ours]
        where = f"the checkpoint's type_map ({', '.join(theirs)})"
        if len(new) == len(ours):
            message = f"no element is in {where}: there is nothing to fine-tune"
            yield fault(path, message, group=OTHER_ELEMENTS)
        elif new:
            message = f"{', '.join(new)}: not in {where}; what belongs to it starts at random"
            yield warning(path, message, "the data must teach it from scratch")
        else:
            message = f"taken over by name from {where}"
            yield note(path, message + (f"; {', '.join(dropped)} dropped" if dropped else ""))


@rule("ZOO604", "what is taken from the checkpoint", scope="--finetune")
def weights_are_taken(run: RunStart) -> Iterator[Finding]:
    """Say what is loaded and what is drawn at random."""
    start = run.checkpoint
    for target, source, _ in run.pairs():
        if run.is_undecided(target):
            continue  # a rule says so
        is_random = source.fitting == "random"
        whose = f"branch `{source.branch}` of {start.file}" if start.has_branches else start.file
        what = "descriptor and fitting net are loaded"
        if is_random:
            what = "the descriptor is loaded, the fitting net is random"
        bias = {
            "change": "is shifted to the data",
            "set": "is fitted anew to the data",
            "none": "is not fitted" if is_random else "is loaded as it is",
        }[start.bias_of(source)]
        what += f", the energy bias {bias}"
        if start.use_pretrain_script:
            whole = "section of the descriptor is" if is_random else "sections of both are"
            what += f"; the input's {whole} replaced by the checkpoint's"
        prefix = f"branch `{target.name}` starts from " if run.is_multitask else ""
        yield note(start.path, f"{prefix}{whose}: {what}")


@rule("ZOO605", "an empty descriptor needs --use-pretrain-script", scope="start")
def descriptor_is_given(run: RunStart) -> Iterator[Finding]:
    """Demand a descriptor, or the options that take over a checkpoint's."""
    start = run.start
    hint = "add --use-pretrain-script to take over the checkpoint's"
    if start is None:
        hint = "to take over a pretrained model's: --finetune FILE --use-pretrain-script"
    elif start.option == "--restart":
        hint = f"use the complete input of that run, which is beside {start.file} as out.json"
    elif start.use_pretrain_script:
        return
    for target in run.targets:
        model = target.view.data.get("model")
        if isinstance(model, dict) and is_empty(model.get("descriptor")):
            message = "the descriptor is empty: nothing says what the network is like"
            yield fault(target.path("model", "descriptor"), message, hint)


@rule("ZOO606", "numbers of neighbours are those of the checkpoint", scope="checkpoint")
def selections_are_known(run: RunStart) -> Iterator[Finding]:
    """Warn of `auto`, which may come out other than in the checkpoint."""
    for target, _, theirs in run.pairs():
        descriptor = sound_value(target.sound, "model.descriptor")
        for _, block, key in auto_selections(descriptor):
            number = getattr(getattr(theirs.descriptor, block), key)
            message = f"`{key}` is taken from the data here; the checkpoint has {number}"
            path = target.path("model", "descriptor", block, key)
            yield warning(path, message, f"write {number}: results depend on it")


def _changes(run: RunStart) -> list[Change]:
    """Return what was otherwise in the run that is continued; the settings only if it notes them.

    That another model does not fit is the concern of other rules.
    """
    start = run.checkpoint
    if run.config is None:
        return []
    try:
        before = meaning_of_checkpoint(start.file, start.model_params, start.settings)
        return differences(before, meaning_of_input("the input", run.config))
    except ConfigError:
        return []


@rule("ZOO632", "a restart goes on with the settings of the run", scope="--restart")
def settings_are_kept(run: RunStart) -> Iterator[Finding]:
    """Say what changes the course of the training, and what changes nothing any more."""
    jumps, config = _jump(run) is not None, run.config
    is_biased = config is not None and config.training.change_bias_after_training
    for item in _changes(run):
        is_said = jumps or item.path[0] == "training"  # by the rule of rates
        path = run.place(item.path)
        message = f"`{item.path[-1]}` was {_setting(item.ours)} in {run.checkpoint.file}"
        if item.path[0] == "validating" and item.ours is None:
            continue  # validation begins here
        if item.effect == "begun" or ("preset_out_bias" in item.path and not is_biased):
            hint = "the run goes on as it was begun; --init-model begins a new one"
            yield note(path, f"{message}; a restart does not look at it", hint)
        elif item.effect == "course" or (item.effect == "rate" and not is_said):
            course = "the training goes on another way"
            if item.path[0] == "validating":
                course = "the best checkpoints are chosen in another way"
            back = "remove it" if item.ours is None else f"write {_setting(item.ours)}"
            message += f" and is {_setting(item.theirs)} here: {course}"
            yield warning(path, message, f"{back} to go on as before")


@rule("ZOO636", "a restart shares between branches what the run shared", scope="--restart")
def sharing_is_kept(run: RunStart) -> Iterator[Finding]:
    """Refuse other shared parts: the weights of one branch would be lost."""
    start = run.checkpoint
    branches = {target.name for target in run.targets}
    for item in _changes(run):
        if branches == set(start.branches) and item.is_of_sharing:
            branch, component = item.path[2:4]
            message = (
                f"{component} of branch `{branch}` was {_setting(item.ours)} in {start.file} and "
                f"is {_setting(item.theirs)} here: shared otherwise, it is another model"
            )
            yield fault(start.path, message, "share the same parts; --finetune can share others")


@rule("ZOO633", "a restart goes on with the learning rate of the run", scope="--restart")
def rate_goes_on(run: RunStart) -> Iterator[Finding]:
    """Warn of a schedule that is elsewhere at the step from which the run goes on."""
    found = _jump(run)
    if found is None:
        return
    others = [item for item in _changes(run) if item.effect == "rate"]
    path: Path = others[0].path if others else ("learning_rate",)
    why = ", ".join(
        f"{dotted(item.path)} was {_setting(item.ours)} and is {_setting(item.theirs)}"
        for item in others
    )
    why = why or "the schedule or `numb_steps` is another one"
    before, after = found
    steps = run.checkpoint.steps
    message = f"at step {steps} the learning rate jumps from {before:.3g} to {after:.3g}: {why}"
    hint = (
        "to go on at a low rate, begin a run of its own with --init-model and a low start_lr, or "
        "give the schedule a decay_rate, which does not depend on numb_steps"
    )
    yield warning(run.place(path), message, hint)


def _jump(run: RunStart) -> tuple[float, float] | None:
    """Return the rate of the last step as it was and as it is now, if these differ."""
    start, config = run.checkpoint, run.config
    total = None if config is None else config.training.numb_steps
    if config is None or not start.steps or start.last_rate is None:
        return None
    if total is None or start.steps >= total:
        return None
    from schemas.input.schedule import build_schedule, jump  # numpy, for restarts alone

    try:
        return jump(build_schedule(config.learning_rate, total), start.steps, start.last_rate)
    except ConfigError:
        return None  # a rule speaks of that


def _setting(value: object) -> str:
    return "not set" if value is None else _value(value)


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return shown(value)
