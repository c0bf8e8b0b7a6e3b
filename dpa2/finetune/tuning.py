"""Which parameters a fine-tuning leaves as they are, and which it moves more slowly."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpa2.convert.deepmd import DESCRIPTOR, deepmd_parameters
from dpa2.model.energy import EnergyModel
from schemas.errors import ConfigError
from schemas.suggest import nearest

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

    def document(self) -> dict[str, Any]:
        """Return what a checkpoint stores, so that a restart goes on in the same way."""
        return asdict(self)

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
