"""Rules about the checkpoint from which a training starts: its branch, its steps and its model."""

from collections.abc import Iterator, Sequence

import schemas.check.restart  # noqa: F401 - importing it registers its rules
from schemas.base.diagnostics import Finding, dotted
from schemas.base.errors import ConfigError
from schemas.base.names import nearest
from schemas.check.rule import fault, note, rule, run_rules, warning
from schemas.check.schema_faults import shown
from schemas.check.systems import OTHER_ELEMENTS
from schemas.input.differences import Change, auto_selections, model_changes
from schemas.input.model import Model
from schemas.input.root import Input, MultiTaskInput
from schemas.input.start import RunStart, Source, Start, Target, is_empty
from schemas.input.view import UnusableError

_BRANCH = ("--branch",)


@rule("ZOO611", "the branch asked for is in the checkpoint", scope="start")
def branch_exists(run: RunStart) -> Iterator[Finding]:
    """Demand the branch that `--branch` or `finetune_head` names."""
    start = run.start
    if start is None:
        return
    if start.branch and start.option != "--finetune":
        yield fault(_BRANCH, f"--branch goes with --finetune, not with {start.option}")
        return
    if start.option != "--finetune":
        return
    if start.branch and run.is_multitask:
        message = "--branch is for a single-task input; this one has branches"
        hint = "write `finetune_head` into each branch of `model_dict`"
        yield fault(_BRANCH, message, hint)
        return
    for target in run.targets:
        if target.name in run.sources:
            continue
        by_option = bool(start.branch)
        path = _BRANCH if by_option else target.path("model", "finetune_head")
        yield _no_such_branch(start, path, (start.branch if by_option else target.head) or "")


def _no_such_branch(start: Start, path: tuple[str | int, ...], asked: str) -> Finding:
    if not start.branches:
        return fault(start.path, f"{start.file} does not describe its model")
    if not start.has_branches:
        message = f"`{asked}`: {start.file} is a single-task model and has no branches"
        return fault(path, message, "leave the branch out")
    message = f"{start.file} has no branch `{asked}`"
    meant = nearest(asked, start.names)
    listed = ", ".join(f"`{name}`" for name in start.branches)
    hint = f"did you mean `{meant}`?" if meant else f"it has {listed}"
    return fault(path, message, hint)


@rule("ZOO612", "a branch is chosen", scope="start")
def branch_is_chosen(run: RunStart) -> Iterator[Finding]:
    """Refuse a choice that is left out: deepmd-kit then draws a random fitting net."""
    start = run.start
    if start is None or start.option != "--finetune":
        return
    for target in run.targets:
        if not run.is_undecided(target):
            continue
        listed = ", ".join(f"`{name}`" for name in list(start.branches)[:40])
        if run.is_multitask:
            message = (
                f"branch `{target.name}` is not in {start.file}, nor does it say where it starts"
            )
            hint = f'write "finetune_head": one of {listed}, or "RANDOM" for a random fitting net'
            yield fault(_home(target), message, hint, at="key", for_deepmd="warning")
        else:
            message = (
                f"{start.file} has {len(start.branches)} branches and none is chosen: deepmd-kit "
                "starts with a random fitting net, zoo finetune does not start"
            )
            hint = f"choose with --branch: {listed}, or RANDOM for a random fitting net"
            yield fault(_BRANCH, message, hint, for_deepmd="warning")


def _home(target: Target) -> tuple[str | int, ...]:
    if target.view.branch is None:
        return target.path("model", "type_map")[:-1]
    return ("model", "model_dict", target.name)


@rule("ZOO613", "finetune_head goes with --finetune", scope="start")
def head_has_effect(run: RunStart) -> Iterator[Finding]:
    """Warn of a branch to start from when nothing is started from."""
    if run.start is not None and run.start.option == "--finetune":
        return
    for target in run.targets:
        if target.head is not None:
            path = target.path("model", "finetune_head")
            yield warning(path, "`finetune_head` has no effect without --finetune")


@rule("ZOO545", "one branch is named to start from", scope="start")
def head_agrees(run: RunStart) -> Iterator[Finding]:
    """Warn of a `finetune_head` that `--branch` makes count for nothing."""
    start = run.start
    if start is None or start.option != "--finetune" or not start.branch:
        return
    for target in run.targets:
        if not run.is_multitask and target.head not in (None, start.branch):
            path = target.path("model", "finetune_head")
            message = (
                f"`finetune_head` ({target.head}) has no effect: --branch is given, and counts"
            )
            yield warning(path, message, "keep the one that is meant")


@rule("ZOO614", "a restart has steps left", scope="start")
def steps_are_left(run: RunStart) -> Iterator[Finding]:
    """Warn of a checkpoint that has done all steps."""
    start = run.start
    if start is None or start.option != "--restart" or start.steps is None:
        return
    for target in run.targets:
        try:
            steps = target.sound.training.numb_steps
        except UnusableError:
            return
        if steps is not None and start.steps >= steps:
            message = f"{start.file} has done {start.steps} of {steps} steps: nothing is left"
            yield warning(start.path, message, "raise training.numb_steps")
        return


@rule("ZOO550", "a restart finds the state of the optimiser", scope="start")
def optimizer_is_there(run: RunStart) -> Iterator[Finding]:
    """Refuse to continue from weights alone, such as those of a running mean."""
    start = run.start
    if start is not None and start.option == "--restart" and start.has_optimizer is False:
        message = f"{start.file} holds weights only and cannot be restarted from"
        yield fault(start.path, message, "start a new run from its weights: --init-model")


@rule("ZOO615", "a restart has the branches of the checkpoint", scope="start")
def branches_are_those_of_the_checkpoint(run: RunStart) -> Iterator[Finding]:
    """Demand the same branches where weights are taken over one by one."""
    start = run.start
    if start is None or start.option == "--finetune":
        return
    ours = [target.name for target in run.targets if target.view.branch is not None]
    if not start.branches:
        yield fault(start.path, f"{start.file} does not describe its model")
    elif run.is_multitask != start.has_branches:
        kinds = ("a single-task model", "a multi-task model")
        message = (
            f"{start.file} is {kinds[start.has_branches]}, the input describes "
            f"{kinds[run.is_multitask]}"
        )
        yield fault(start.path, message, "--finetune can start from it")
    elif run.is_multitask and set(ours) != set(start.branches):
        lacking = [name for name in ours if name not in start.branches]
        beyond = [name for name in start.branches if name not in ours]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has {', '.join(beyond)} besides"] if beyond else []
        message = f"{start.file} {' and '.join(parts)}"
        yield fault(start.path, message, "the branches must be the same; --finetune can add some")


def _pairs(run: RunStart) -> Iterator[tuple[Target, Source, Model]]:
    """Yield each branch of the input with the one that it starts from."""
    for target in run.targets:
        source = run.sources.get(target.name)
        model = run.models.get(source.branch) if source is not None else None
        if source is not None and isinstance(model, Model):
            yield target, source, model


def _differences(target: Target, source: Source, theirs: Model) -> list[Change]:
    try:
        model = target.sound.model
    except UnusableError:
        return []
    if ("model", "descriptor") in target.view.hidden:
        return []  # a rule says so
    return [
        item
        for item in model_changes(model, theirs)
        if item.path[1] == "descriptor"
        or (item.path[1] != "type_map" and source.fitting != "random")  # a rule compares elements
    ]


@rule("ZOO601", "the checkpoint is of a model that this engine runs", scope="start")
def checkpoint_is_ours(run: RunStart) -> Iterator[Finding]:
    """Demand a DPA-2 energy model."""
    start = run.start
    for branch, model in run.models.items():
        if isinstance(model, ConfigError) and start is not None:
            message = f"{start.file}, branch `{branch}`: {model.message}"
            yield fault(start.path, message, model.hint)


@rule("ZOO602", "the networks are those of the checkpoint", scope="start")
def networks_are_equal(run: RunStart) -> Iterator[Finding]:
    """Demand networks in which the weights of the checkpoint mean the same.

    Seeds, initial values and whether something is trained may differ.
    """
    start = run.start
    if start is None:
        return
    for target, source, theirs in _pairs(run):
        differences = _differences(target, source, theirs)
        if start.option != "--finetune":
            grave = [item for item in differences if item.is_architecture]
            if grave:
                yield _does_not_fit(run, target, grave)
            for item in differences:
                if not item.is_architecture:
                    yield _other_function(start, target, item)
            continue
        for item in differences:
            path = target.path(*item.path)
            message = (
                f"`{item.path[-1]}` is {_value(item.ours)} here and {_value(item.theirs)} in "
                f"the checkpoint"
            )
            if item.is_architecture:
                hint = f"write {_value(item.theirs)}, or take it over with --use-pretrain-script"
                yield fault(path, message, hint)
            else:
                yield warning(path, message, f"write {_value(item.theirs)} to keep it")


def _other_function(start: Start, target: Target, item: Change) -> Finding:
    path = target.path(*item.path)
    message = (
        f"`{item.path[-1]}` is {_value(item.ours)} here and {_value(item.theirs)} in "
        f"{start.file}: another function of the same weights"
    )
    keep = f"write {_value(item.theirs)}"
    if start.option == "--restart":
        hint = f"{keep} to continue the run; a new one can begin with its weights: --init-model"
        return fault(path, message, hint)
    return warning(path, message, f"{keep} to keep what was trained")


def _does_not_fit(run: RunStart, target: Target, grave: list[Change]) -> Finding:
    assert run.start is not None
    first = grave[0]
    where = dotted(target.path(*first.path))
    others = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
    message = (
        f"the checkpoint does not fit: {where} is {_value(first.ours)} in the input and "
        f"{_value(first.theirs)} in {run.start.file}{others}"
    )
    return fault(run.start.path, message, "use the input that it was trained with")


@rule("ZOO603", "the type_map goes with that of the checkpoint", scope="start")
def types_are_known(run: RunStart) -> Iterator[Finding]:
    """Compare the elements: none in common is an error, new ones are drawn at random."""
    start = run.start
    if start is None:
        return
    for target, _, model in _pairs(run):
        try:
            ours = target.sound.model.type_map
        except UnusableError:
            continue
        theirs, path = model.type_map, target.path("model", "type_map")
        if ours == theirs:
            continue
        if start.option != "--finetune":
            message = f"type_map is {_value(ours)} here and {_value(theirs)} in {start.file}"
            hint = f"write {_value(theirs)}; --finetune can change it"
            yield fault(path, message, hint)
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
            message += f"; {', '.join(dropped)} dropped" if dropped else ""
            yield note(path, message)


@rule("ZOO604", "what is taken from the checkpoint", scope="start")
def weights_are_taken(run: RunStart) -> Iterator[Finding]:
    """Say what is loaded and what is drawn at random."""
    start = run.start
    if start is None or start.option != "--finetune":
        return
    for target, source, _ in _pairs(run):
        if run.is_undecided(target):
            continue  # a rule says so
        whose = f"branch `{source.branch}` of {start.file}" if start.has_branches else start.file
        what = "descriptor and fitting net are loaded"
        if source.fitting == "random":
            what = "the descriptor is loaded, the fitting net is random"
        what += f", the energy bias {_bias(start, source)}"
        if start.use_pretrain_script:
            both = "sections of both are"
            whole = "section of the descriptor is" if source.fitting == "random" else both
            what += f"; the input's {whole} replaced by the checkpoint's"
        prefix = f"branch `{target.name}` starts from " if run.is_multitask else ""
        yield note(start.path, f"{prefix}{whose}: {what}")


def _bias(start: Start, source: Source) -> str:
    """Return what becomes of the energies of the elements."""
    match start.bias_of(source):
        case "change":
            return "is shifted to the data"
        case "set":
            return "is fitted anew to the data"
        case "none":
            return "is not fitted" if source.fitting == "random" else "is loaded as it is"


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


@rule("ZOO606", "numbers of neighbours are those of the checkpoint", scope="start")
def selections_are_known(run: RunStart) -> Iterator[Finding]:
    """Warn of `auto`, which may come out other than in the checkpoint."""
    for target, _, theirs in _pairs(run):
        try:
            chosen = list(auto_selections(target.sound.model.descriptor))
        except UnusableError:
            continue
        for _, block, key in chosen:
            number = getattr(getattr(theirs.descriptor, block), key)
            message = f"`{key}` is taken from the data here; the checkpoint has {number}"
            path = target.path("model", "descriptor", block, key)
            yield warning(path, message, f"write {number}: results depend on it")


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return shown(value)


def check_start(
    targets: Sequence[Target],
    start: Start | None,
    config: Input | MultiTaskInput | None = None,
) -> list[Finding]:
    """Return what is wrong, or worth knowing, about starting an input from a checkpoint.

    Args:
        targets: Its branches; one of them for a single task.
        start: The checkpoint; None if the training starts from scratch.
        config: All of the input; None if there are faults in it.
    """
    return run_rules(RunStart(targets, start, config), "start")
