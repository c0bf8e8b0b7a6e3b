"""Adam and AdamW with deepmd-kit's settings, and their state in its numbering.

docs/deepmd-format.md, 4.4, 6.3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from schemas.errors import CheckpointError, ConfigError
from schemas.unsupported import foreign_optimizer

NumberedParameters = Sequence[tuple[str, Parameter | None]]
"""All parameters in deepmd-kit's order. None stands for one of its zero-length parameters, which
take a number in its optimiser and never have a state."""

_FACTOR = "lr_factor"
"""Key of a group of parameters: its learning rate over the schedule's."""

_CLASSES = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def build_optimizer(
    config: Any,
    parameters: NumberedParameters,
    start_lr: float,
    factors: Sequence[float] | None = None,
) -> torch.optim.Optimizer:
    """Return the optimiser of a checked `optimizer` section.

    Args:
        config: The section (`schemas.optimizer`).
        parameters: The model's parameters in deepmd-kit's order.
        start_lr: Learning rate of the schedule after its warm-up, kept as `initial_lr`.
        factors: Of the learning rate, for each of the parameters; default: 1.

    Raises:
        ConfigError: For the optimisers that only deepmd-kit itself has.
    """
    for fault in foreign_optimizer(config):
        raise ConfigError(fault.message, hint=fault.hint)
    groups: dict[float, list[Parameter]] = {}
    for (_, parameter), factor in zip(parameters, factors or [1.0] * len(parameters), strict=True):
        if parameter is not None:
            groups.setdefault(factor, []).append(parameter)
    on_gpu = next(iter(groups.values()))[0].device.type != "cpu"
    optimizer: torch.optim.Optimizer = _CLASSES[config.type](
        [{"params": members, _FACTOR: factor} for factor, members in groups.items()],
        lr=start_lr,
        betas=(float(config.adam_beta1), float(config.adam_beta2)),
        weight_decay=float(config.weight_decay),
        fused=on_gpu,
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = start_lr
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of the next step; groups of parameters with a factor get that much of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[_FACTOR]


def optimizer_section(
    optimizer: torch.optim.Optimizer, parameters: NumberedParameters
) -> dict[str, Any]:
    """Return the `optimizer` section of a checkpoint, numbered as deepmd-kit numbers parameters.

    It has one group, like deepmd-kit's, with the learning rate of the schedule.
    """
    positions = _positions(optimizer, parameters)
    plain = optimizer.state_dict()
    group = dict(plain["param_groups"][0])
    group["lr"] /= group.pop(_FACTOR)
    state = {positions[index]: dict(moments) for index, moments in plain["state"].items()}
    return {
        "state": dict(sorted(state.items())),
        "param_groups": [{**group, "params": list(range(len(parameters)))}],
    }


def load_optimizer_section(
    optimizer: torch.optim.Optimizer,
    section: Mapping[str, Any],
    parameters: NumberedParameters,
) -> None:
    """Restore the optimiser from a checkpoint of ours or of deepmd-kit.

    Raises:
        CheckpointError: When the section is of another optimiser or of another model.
    """
    numbers = {position: i for i, position in enumerate(_positions(optimizer, parameters))}
    state: dict[int, Any] = {}
    for position, moments in section["state"].items():
        index = numbers.get(int(position))
        name, parameter = parameters[int(position)] if index is not None else ("", None)
        if (
            index is None
            or parameter is None
            or not {"step", "exp_avg", "exp_avg_sq"} <= set(moments)
        ):
            raise CheckpointError(
                "the optimizer state in the checkpoint is not Adam's, or belongs to another model",
                hint="start from its weights alone: --init-model instead of --restart",
            )
        for key in ("exp_avg", "exp_avg_sq"):
            if moments[key].shape != parameter.shape:
                raise CheckpointError(
                    f"the optimizer state of {name} has shape {tuple(moments[key].shape)}, the "
                    f"parameter {tuple(parameter.shape)}",
                    hint="the model section of the input differs from the checkpoint's",
                )
        state[index] = moments
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def clip_gradients(parameters: NumberedParameters, max_norm: float) -> Tensor | None:
    """Scale the gradients down so that their joint L2 norm is at most `max_norm`.

    Returns:
        The norm before, still on the device; None when there is no limit (0).
    """
    if max_norm <= 0.0:
        return None
    trained = [p for _, p in parameters if p is not None and p.grad is not None]
    norms = [torch.linalg.vector_norm(p.grad) for p in trained if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack([value.double() for value in norms]))
    torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return norm


def _positions(optimizer: torch.optim.Optimizer, parameters: NumberedParameters) -> list[int]:
    """Return deepmd-kit's number of each parameter, in the order in which torch numbers them."""
    numbers = {id(parameter): i for i, (_, parameter) in enumerate(parameters)}
    return [numbers[id(p)] for group in optimizer.param_groups for p in group["params"]]
