"""deepmd-kit's backend-independent spelling of layers and networks (docs/deepmd-format.md, 10.3).

Where a tensor belongs, these dictionaries hold a `Slot`: one description serves to write a model
and to read one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one tensor.

    Attributes:
        name: Its key in deepmd-kit's state dictionary (`dpa2.convert.deepmd`).
    """

    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """What the layers of the descriptor, or of the fitting net, have in common.

    Attributes:
        shapes: Shape of every tensor of the state dictionary; optional ones may be absent.
        precision: Name of the floating-point type of its parameters.
        trainable: Whether they are trained.
    """

    shapes: Mapping[str, tuple[int, ...]]
    precision: str
    trainable: bool

    def slot(self, name: str) -> Slot | None:
        """Return the place of a tensor, None where the model has no such tensor."""
        return Slot(name) if name in self.shapes else None

    def layer(
        self,
        prefix: str,
        *,
        activation: str = "none",
        skip: bool = False,
        trainable: bool | None = None,
    ) -> Tree:
        """Return a linear layer with what follows it; `skip` adds the input where widths allow."""
        bias, timestep = self.slot(prefix + "bias"), self.slot(prefix + "idt")
        return {
            "@class": "Layer",
            "@version": 2,
            "bias": bias is not None,
            "use_timestep": timestep is not None,
            "activation_function": activation,
            "resnet": skip,
            "precision": self.precision,
            "trainable": self.trainable if trainable is None else trainable,
            "@variables": {"w": Slot(prefix + "matrix"), "b": bias, "idt": timestep},
        }

    def embedding_network(
        self, prefix: str, neuron: Sequence[int], *, activation: str, timestep: bool
    ) -> Tree:
        """Return a stack of hidden layers."""
        return {
            "@class": "EmbeddingNetwork",
            "@version": 2,
            "in_dim": self.shapes[prefix + "layers.0.matrix"][0],
            "neuron": list(neuron),
            "activation_function": activation,
            "resnet_dt": timestep,
            "bias": prefix + "layers.0.bias" in self.shapes,
            "precision": self.precision,
            "layers": [
                self.layer(f"{prefix}layers.{index}.", activation=activation, skip=True)
                for index in range(len(neuron))
            ],
        }

    def norm(self, prefix: str, *, eps: float, trainable: bool) -> Tree:
        """Return a layer normalisation."""
        return {
            "@class": "LayerNorm",
            "@version": 1,
            "eps": eps,
            "trainable": trainable,
            "precision": self.precision,
            "@variables": {"w": Slot(prefix + "matrix"), "b": Slot(prefix + "bias")},
        }


def collection(network: Tree, kind: str, num_types: int) -> Tree:
    """Return the one network of all types as the collection that deepmd-kit keeps it in."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": num_types,
        "network_type": kind,
        "networks": [network],
    }
