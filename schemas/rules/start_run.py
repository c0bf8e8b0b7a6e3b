"""Rules about options that name a checkpoint: the branch asked for, the steps that are left."""

from collections.abc import Iterator

from schemas.departure import Departure, Target
from schemas.partial import UnusableError
from schemas.rules.rule import Fault, rule, warning
from schemas.start import Start
from schemas.suggest import nearest

_BRANCH = ("--branch",)


@rule("ZOO611", "the branch asked for is in the checkpoint", scope="start")
def branch_exists(departure: Departure) -> Iterator[Fault]:
    """Demand the branch that `--branch` or `finetune_head` names."""
    start = departure.start
    if start is None:
        return
    if start.branch and start.option != "--finetune":
        yield Fault(_BRANCH, f"--branch goes with --finetune, not with {start.option}")
        return
    if start.option != "--finetune":
        return
    if start.branch and departure.is_multitask:
        message = "--branch is for a single-task input; this one has branches"
        hint = "write `finetune_head` into each branch of `model_dict`"
        yield Fault(_BRANCH, message, hint)
        return
    for target in departure.targets:
        if target.name in departure.sources:
            continue
        by_option = bool(start.branch)
        path = _BRANCH if by_option else target.path("model", "finetune_head")
        yield _no_such_branch(start, path, (start.branch if by_option else target.head) or "")


def _no_such_branch(start: Start, path: tuple[str | int, ...], asked: str) -> Fault:
    if not start.branches:
        return Fault(start.path, f"{start.file} does not describe its model")
    if not start.has_branches:
        message = f"`{asked}`: {start.file} is a single-task model and has no branches"
        return Fault(path, message, "leave the branch out")
    message = f"{start.file} has no branch `{asked}`"
    meant = nearest(asked, start.names)
    listed = ", ".join(f"`{name}`" for name in start.branches)
    hint = f"did you mean `{meant}`?" if meant else f"it has {listed}"
    return Fault(path, message, hint)


@rule("ZOO612", "a branch is chosen", scope="start")
def branch_is_chosen(departure: Departure) -> Iterator[Fault]:
    """Warn where none is chosen: deepmd-kit then draws a random fitting net, ours refuses to."""
    start = departure.start
    if start is None or start.option != "--finetune":
        return
    for target in departure.targets:
        if not departure.is_undecided(target):
            continue
        listed = ", ".join(f"`{name}`" for name in list(start.branches)[:40])
        if departure.is_multitask:
            message = (
                f"branch `{target.name}` is not in {start.file}, nor does it say where it starts"
            )
            hint = f'write "finetune_head": one of {listed}, or "RANDOM" for a random fitting net'
            yield Fault(_home(target), message, hint, severity="warning", at="key")
        else:
            message = (
                f"{start.file} has {len(start.branches)} branches and none is chosen: deepmd-kit "
                "starts with a random fitting net, zoo finetune does not start"
            )
            hint = f"choose with --branch: {listed}, or RANDOM for a random fitting net"
            yield warning(_BRANCH, message, hint)


def _home(target: Target) -> tuple[str | int, ...]:
    return (
        target.path("model", "type_map")[:-1]
        if target.view.branch is None
        else (
            "model",
            "model_dict",
            target.name,
        )
    )


@rule("ZOO613", "finetune_head goes with --finetune", scope="start")
def head_has_effect(departure: Departure) -> Iterator[Fault]:
    """Warn of a branch to start from when nothing is started from."""
    if departure.start is not None and departure.start.option == "--finetune":
        return
    for target in departure.targets:
        if target.head is not None:
            path = target.path("model", "finetune_head")
            yield warning(path, "`finetune_head` has no effect without --finetune")


@rule("ZOO545", "one branch is named to start from", scope="start")
def head_agrees(departure: Departure) -> Iterator[Fault]:
    """Warn of a `finetune_head` that `--branch` makes count for nothing."""
    start = departure.start
    if start is None or start.option != "--finetune" or not start.branch:
        return
    for target in departure.targets:
        if not departure.is_multitask and target.head not in (None, start.branch):
            path = target.path("model", "finetune_head")
            message = (
                f"`finetune_head` ({target.head}) has no effect: --branch is given, and counts"
            )
            yield warning(path, message, "keep the one that is meant")


@rule("ZOO614", "a restart has steps left", scope="start")
def steps_are_left(departure: Departure) -> Iterator[Fault]:
    """Warn of a checkpoint that has done all steps."""
    start = departure.start
    if start is None or start.option != "--restart" or start.steps is None:
        return
    for target in departure.targets:
        try:
            steps = target.sound.training.numb_steps
        except UnusableError:
            return
        if steps is not None and start.steps >= steps:
            message = f"{start.file} has done {start.steps} of {steps} steps: nothing is left"
            yield warning(start.path, message, "raise training.numb_steps")
        return


@rule("ZOO550", "a restart finds the state of the optimiser", scope="start")
def optimizer_is_there(departure: Departure) -> Iterator[Fault]:
    """Refuse to continue from weights alone, such as those of a running mean."""
    start = departure.start
    if start is not None and start.option == "--restart" and start.has_optimizer is False:
        message = f"{start.file} holds weights only and cannot be restarted from"
        yield Fault(start.path, message, "start a new run from its weights: --init-model")


@rule("ZOO615", "a restart has the branches of the checkpoint", scope="start")
def branches_are_those_of_the_checkpoint(departure: Departure) -> Iterator[Fault]:
    """Demand the same branches where weights are taken over one by one."""
    start = departure.start
    if start is None or start.option == "--finetune":
        return
    ours = [target.name for target in departure.targets if target.view.branch is not None]
    if not start.branches:
        yield Fault(start.path, f"{start.file} does not describe its model")
    elif departure.is_multitask != start.has_branches:
        kinds = ("a single-task model", "a multi-task model")
        message = (
            f"{start.file} is {kinds[start.has_branches]}, the input describes "
            f"{kinds[departure.is_multitask]}"
        )
        yield Fault(start.path, message, "--finetune can start from it")
    elif departure.is_multitask and set(ours) != set(start.branches):
        lacking = [name for name in ours if name not in start.branches]
        beyond = [name for name in start.branches if name not in ours]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has {', '.join(beyond)} besides"] if beyond else []
        message = f"{start.file} {' and '.join(parts)}"
        yield Fault(start.path, message, "the branches must be the same; --finetune can add some")
