"""The optimiser, the learning rate of each part of the model, and the mean of the weights."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from dpa2.formats.weights import deepmd_parameters
from dpa2.model.energy import EnergyModel
from dpa2.training.adam import Adam
from schemas.base.errors import CheckpointError, ConfigError
from schemas.base.names import nearest
from schemas.input.refusals import refuse
from schemas.input.weights import DESCRIPTOR

NumberedParameters = Sequence[tuple[str, Parameter | None]]
"""All parameters in deepmd-kit's order. None stands for one of its zero-length parameters, which
take a number in its optimiser and never have a state."""

_FACTOR = "lr_factor"
"""Key of a group of parameters: its learning rate over the schedule's."""


def build_optimizer(
    config: Any,
    parameters: NumberedParameters,
    start_lr: float,
    factors: Sequence[float] | None = None,
) -> Adam:
    """Return the optimiser of a checked `optimizer` section.

    Args:
        config: The section (`schemas.input.optimization`).
        parameters: The model's parameters in deepmd-kit's order.
        start_lr: Learning rate of the schedule after its warm-up, kept as `initial_lr`.
        factors: Of the learning rate, for each of the parameters; default: 1.

    Raises:
        ConfigError: For the optimisers that only deepmd-kit itself has.
    """
    refuse(config, "optimizer")
    groups: dict[float, list[Parameter]] = {}
    for (_, parameter), factor in zip(parameters, factors or [1.0] * len(parameters), strict=True):
        if parameter is not None:
            groups.setdefault(factor, []).append(parameter)
    on_gpu = next(iter(groups.values()))[0].device.type != "cpu"
    optimizer = Adam(
        [{"params": members, _FACTOR: factor} for factor, members in groups.items()],
        lr=start_lr,
        betas=(float(config.adam_beta1), float(config.adam_beta2)),
        weight_decay=float(config.weight_decay),
        decoupled=config.type == "AdamW",
        fused=on_gpu,
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = start_lr
    return optimizer


def set_learning_rate(optimizer: Adam, learning_rate: float) -> None:
    """Set the rate of the next step; groups of parameters with a factor get that much of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[_FACTOR]


def optimizer_section(optimizer: Adam, parameters: NumberedParameters) -> dict[str, Any]:
    """Return the `optimizer` section of a checkpoint, numbered as deepmd-kit numbers parameters.

    It has one group, like deepmd-kit's, with the learning rate of the schedule.
    """
    group = dict(optimizer.param_groups[0])
    group["lr"] /= group.pop(_FACTOR)
    moments = [None if p is None else optimizer.state.get(p) for _, p in parameters]
    return {
        "state": {number: dict(known) for number, known in enumerate(moments) if known},
        "param_groups": [{**group, "params": list(range(len(parameters)))}],
    }


def load_optimizer_section(
    optimizer: Adam,
    section: Mapping[str, Any],
    parameters: NumberedParameters,
) -> None:
    """Restore the optimiser from a checkpoint of ours or of deepmd-kit.

    Raises:
        CheckpointError: When the section is of another optimiser or of another model.
    """
    numbered = dict(enumerate(parameters))
    for number, moments in section["state"].items():
        name, parameter = numbered.get(int(number), ("", None))
        if parameter is None or not {"step", "exp_avg", "exp_avg_sq"} <= set(moments):
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
        optimizer.load(parameter, moments)


def clip_gradients(parameters: NumberedParameters, max_norm: float) -> Tensor | None:
    """Scale the gradients down so that their joint L2 norm is at most `max_norm`.

    Returns:
        The norm before, still on the device; None when there is no limit (0) or no gradient.
    """
    trained = [p for _, p in parameters if p is not None and p.grad is not None]
    if max_norm <= 0.0 or not trained:
        return None
    norms = [torch.linalg.vector_norm(p.grad) for p in trained if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack([value.double() for value in norms]))
    torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return norm


PARTS = ("descriptor", "type_embedding", "repinit", "three_body", "repformer", "fitting_net")
"""What a factor can be given for, beside single layers: `repformer.0`, `repformer.1` ..."""

_LAYER = re.compile(r"\.repformers\.layers\.(\d+)\.")
_LAYER_PART = re.compile(r"repformer\.\d+")


@dataclass(frozen=True)
class Tuning:
    """How freely the parts of a pretrained model are trained.

    Attributes:
        freeze_descriptor: Train the fitting net alone.
        freeze_layers: Keep everything before the repformer layers and the first so many of these;
            None keeps nothing.
        lr_scale: Factors of the learning rate, by part of the model; the most specific one counts.
        layer_decay: Factor from each repformer layer to the one before it, beginning with the
            last; what comes before the layers is one layer further.

    Raises:
        ConfigError: For parts that do not exist and factors that are not positive.
    """

    freeze_descriptor: bool = False
    freeze_layers: int | None = None
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for part, factor in {**self.lr_scale, "layer_decay": self.layer_decay}.items():
            if not 0.0 < factor < float("inf"):
                raise ConfigError(
                    f"the factor {factor} of the learning rate of {part} is not positive",
                    hint="to leave a part as it is, freeze it",
                )
        for part in self.lr_scale:
            if part not in PARTS and not _LAYER_PART.fullmatch(part):
                meant = nearest(part, PARTS)
                listed = f"parts are {', '.join(PARTS)} and single layers, repformer.0"
                raise ConfigError(
                    f"`{part}` is no part of the model",
                    hint=f"did you mean `{meant}`? {listed}" if meant else listed,
                )

    def freeze(self, model: EnergyModel) -> None:
        """Exclude from training what is to stay as it is.

        Raises:
            ConfigError: When the model has fewer layers than are to be frozen.
        """
        parameters = [(name, p) for _, name, p in deepmd_parameters(model) if p is not None]
        num_layers = _count_layers(name for name, _ in parameters)
        if self.freeze_layers is not None and not 0 <= self.freeze_layers <= num_layers:
            raise ConfigError(
                f"{self.freeze_layers} layers cannot be frozen: the repformer has {num_layers}",
                hint=f"give a number from 0 to {num_layers}",
            )
        for name, parameter in parameters:
            if self._is_frozen(name):
                parameter.requires_grad_(False)

    def factors(self, names: Iterable[str]) -> list[float]:
        """Return the factor of the learning rate of each parameter.

        Args:
            names: deepmd-kit's, of all parameters; a branch may stand before them.
        """
        listed = list(names)
        num_layers = _count_layers(listed)
        return [self._factor(name, num_layers) for name in listed]

    def _is_frozen(self, name: str) -> bool:
        if DESCRIPTOR not in name:
            return False
        if self.freeze_layers is None:
            return self.freeze_descriptor
        return self.freeze_descriptor or _depth(name) <= self.freeze_layers

    def _factor(self, name: str, num_layers: int) -> float:
        factor = next((self.lr_scale[part] for part in _parts(name) if part in self.lr_scale), 1.0)
        if DESCRIPTOR in name:
            factor *= self.layer_decay ** (num_layers + 1 - _depth(name))
        return factor


def _parts(name: str) -> list[str]:
    """Return the parts to which a parameter belongs, the most specific first."""
    layer = _LAYER.search(name)
    if layer:
        return [f"repformer.{layer[1]}", "repformer", "descriptor"]
    if ".type_embedding." in name:
        return ["type_embedding", "descriptor"]
    if ".repinit_three_body." in name:
        return ["three_body", "descriptor"]
    if ".repformers." in name:
        return ["repformer", "descriptor"]
    return ["repinit", "descriptor"] if DESCRIPTOR in name else ["fitting_net"]


def _depth(name: str) -> int:
    """Return 0 for what comes before the repformer layers, then the number of the layer from 1."""
    layer = _LAYER.search(name)
    return int(layer[1]) + 1 if layer else 0


def _count_layers(names: Iterable[str]) -> int:
    return max((_depth(name) for name in names), default=0)


class ParameterAverage:
    """Exponential moving average: mean <- mean + (1 - decay) (parameter - mean) after each step.

    Args:
        parameters: The model's parameters under deepmd-kit's names.
        decay: Close to 1 averages over many steps.
    """

    def __init__(self, parameters: NumberedParameters, decay: float) -> None:
        self.decay = float(decay)
        self._parameters = [(name, p) for name, p in parameters if p is not None]
        self._order = [name for name, _ in parameters]
        self.means = {name: p.detach().clone() for name, p in self._parameters}
        self.validation_state: dict[str, Any] = {}

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew at the current parameters."""
        for name, parameter in self._parameters:
            self.means[name].copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Move the means towards the current parameters."""
        for name, parameter in self._parameters:
            self.means[name].lerp_(parameter, 1.0 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the means into the model for the duration of the block."""
        kept = [parameter.detach().clone() for _, parameter in self._parameters]
        try:
            with torch.no_grad():
                for name, parameter in self._parameters:
                    parameter.copy_(self.means[name])
            yield
        finally:
            with torch.no_grad():
                for (_, parameter), value in zip(self._parameters, kept, strict=True):
                    parameter.copy_(value)

    def section(self) -> dict[str, Any]:
        """Return the `ema` section of a checkpoint; deepmd-kit's empty parameters included."""
        empty = torch.zeros(0, dtype=torch.float64)
        means = {name: self.means.get(name, empty) for name in self._order}
        return {
            "decay": self.decay,
            "model": {name: mean.detach().cpu().clone() for name, mean in means.items()},
            "validation_state": self.validation_state,
        }

    @torch.no_grad()
    def load(self, section: Mapping[str, Any]) -> None:
        """Restore the means from a checkpoint; the decay stays that of the input.

        Raises:
            CheckpointError: When the section is of another model.
        """
        stored = section.get("model", {})
        for name, mean in self.means.items():
            if name not in stored or stored[name].shape != mean.shape:
                raise CheckpointError(
                    f"the checkpoint's moving average has no {name} of shape {tuple(mean.shape)}",
                    hint="the model section of the input differs from the checkpoint's",
                )
            mean.copy_(stored[name])
        self.validation_state = dict(section.get("validation_state") or {})
