"""The energy fitting net: from descriptors to atomic energies."""

# ruff: noqa: RUF012 - pydantic copies mutable defaults

from typing import Annotated, Literal

from pydantic import Discriminator, NonNegativeFloat, NonNegativeInt, PositiveInt, Tag

from schemas.marks import Needs, Usual
from schemas.network import Activation, Precision, Seed, list_or_single
from schemas.section import NO_DEFAULT, Alias, Section

Trainable = Annotated[
    Annotated[bool, Tag("single")] | Annotated[list[bool], Tag("list")],
    Discriminator(list_or_single),
]


_INPUTS = Usual(high=1000, why="each is an input of the net")


class EnergyFitting(Section):
    """The net that turns each atom's descriptor into its energy."""

    type: Literal["ener"] = "ener"
    """Which fitting net this is."""
    numb_fparam: Annotated[NonNegativeInt, _INPUTS] = 0
    """Number of parameters of a frame (`fparam.npy`), such as a temperature."""
    numb_aparam: Annotated[NonNegativeInt, _INPUTS] = 0
    """Number of parameters of an atom (`aparam.npy`)."""
    default_fparam: list[float] | None = None
    """Frame parameters of data that have none; as many as `numb_fparam`."""
    dim_case_embd: Annotated[NonNegativeInt, _INPUTS] = 0
    """Width of the one-hot vector that tells tasks apart in a shared fitting net."""
    neuron: Annotated[
        list[PositiveInt],
        Alias("n_neuron"),
        Usual(
            high=16384,
            why="a layer of that width takes gigabytes",
            entries=20,
            zero="without hidden layers the energy is linear in the descriptor",
        ),
    ] = [120, 120, 120]
    """Widths of the hidden layers; an empty list makes the model linear."""
    activation_function: Activation = "tanh"
    """Activation function of the hidden layers."""
    precision: Precision = "default"
    """Floating-point type of the parameters."""
    resnet_dt: bool = True
    """Scale each skip connection by a learned time step."""
    trainable: Trainable = True
    """Train the parameters; a list counts as true when all of its values are."""
    rcond: NonNegativeFloat | None = None
    """Ignored by deepmd-kit's PyTorch backend."""
    seed: Annotated[Seed, NO_DEFAULT] = None
    """Seed of the initial parameters."""
    atom_ener: list[float | None] = []
    """Any number makes energies relative to isolated atoms; the values themselves are not used."""
    layer_name: Annotated[list[str] | None, NO_DEFAULT] = None
    """Ignored by deepmd-kit's PyTorch backend."""
    use_aparam_as_mask: Annotated[bool, Needs("numb_aparam")] = False
    """Use atom parameters as a mask instead of feeding them to the net."""
