"""Check that an input fits the checkpoint from which it starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import schemas.check.restart
import schemas.check.start  # noqa: F401 - importing them registers their rules
from schemas.base.diagnostics import Finding
from schemas.check.rule import run_rules
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.start import RunStart, Start, Target
from schemas.input.view import View


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


def targets_of(config: Input | MultiTaskInput) -> list[Target]:
    """Return the branches of a checked input; one for a single task."""
    if isinstance(config, Input):
        return [Target(View(normalized(config)), config)]
    return [
        Target(
            View({"model": normalized(branch.model), "loss": normalized(branch.loss)}, branch=name),
            Input.model_construct(
                model=branch.model,
                loss=branch.loss,
                learning_rate=config.learning_rate,
                training=config.training,
            ),
        )
        for name, branch in config.branches.items()
    ]


def check_finetune(
    config: Input, model_params: Mapping[str, Any], branch: str | None = None
) -> list[Finding]:
    """Return what is wrong, or worth knowing, about fine-tuning a model with a checked input.

    Args:
        config: A single-task input.
        model_params: The model section that the checkpoint holds.
        branch: The branch to start from.
    """
    view = View({"model": normalized(config.model)})
    start = Start("--finetune", "the checkpoint", model_params, branch=branch)
    return check_start([Target(view, config)], start)
