"""The DPA-2 descriptor: repinit, repformer and what they share."""

# ruff: noqa: RUF012 - pydantic copies mutable defaults

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    Tag,
)

from schemas.input.section import (
    NO_DEFAULT,
    Activation,
    Alias,
    Precision,
    Section,
    Seed,
    TypePairs,
    Usual,
    Widths,
)

AUTO_SELECTION = re.compile(r"auto(:(?P<factor>\d+(\.\d*)?|\.\d+))?")
"""`auto` or `auto:1.1`: take the number of neighbours from the data, times a factor."""


def _kind_of_selection(value: Any) -> str:
    return "auto" if isinstance(value, str) else "number"


NeighborSelection = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[str, StringConstraints(pattern=f"^{AUTO_SELECTION.pattern}$"), Tag("auto")],
    Discriminator(_kind_of_selection),
]
"""Most neighbours of one atom that a block looks at: a number, `auto` or `auto:FACTOR`."""


Selection = Annotated[
    NeighborSelection, Usual(high=2000, why="every block of neighbours is that long", limit=1e6)
]
_WIDE = "a layer of that width takes gigabytes"
_DEEP = "memory and time grow with every layer"
_NO_LAYERS = "without layers no atom learns of its neighbours' neighbours"
_WIDTHS = Usual(high=4096, why=_WIDE, entries=16)
_HEADS = Usual(high=64, why="memory and time grow with every head")


class Repinit(Section):
    """The first, wide-cutoff view of each atom's surroundings."""

    rcut: PositiveFloat
    """Cutoff radius, in Å."""
    rcut_smth: NonNegativeFloat
    """Where the smooth switch from 1 to 0 begins, in Å."""
    nsel: Selection
    """Most neighbours within `rcut`: a number, `auto` or `auto:FACTOR`."""
    neuron: Annotated[Widths, _WIDTHS] = [25, 50, 100]
    """Widths of the embedding net's hidden layers."""
    axis_neuron: PositiveInt = 16
    """How many of the embedding's columns span the second axis of the descriptor."""
    tebd_dim: Annotated[PositiveInt, _WIDTHS] = 8
    """Width of the type embedding."""
    tebd_input_mode: Literal["concat", "strip"] = "concat"
    """`concat`: types enter the embedding net with the distance; `strip`: in a net of their own."""
    set_davg_zero: bool = True
    """Leave the mean of the environment matrix at zero instead of taking it from the data."""
    activation_function: Activation = "tanh"
    """Activation function of the embedding net."""
    type_one_side: bool = False
    """Let the embedding net see only the neighbour's type, not the centre's."""
    resnet_dt: bool = False
    """Scale each skip connection by a learned time step."""
    use_three_body: bool = False
    """Add a three-body block, which sees the angle between two neighbours."""
    three_body_neuron: Annotated[Widths, _WIDTHS] = [2, 4, 8]
    """Widths of the three-body embedding net's hidden layers."""
    three_body_rcut: PositiveFloat = 4.0
    """Cutoff radius of the three-body block, in Å."""
    three_body_rcut_smth: NonNegativeFloat = 0.5
    """Where the three-body block's smooth switch begins, in Å."""
    three_body_sel: Selection = 40
    """Most neighbours within `three_body_rcut`: a number, `auto` or `auto:FACTOR`."""


class Repformer(Section):
    """The message-passing layers over atoms (g1) and pairs (g2, h2)."""

    rcut: PositiveFloat
    """Cutoff radius, in Å; smaller than repinit's."""
    rcut_smth: NonNegativeFloat
    """Where the smooth switch from 1 to 0 begins, in Å."""
    nsel: Selection
    """Most neighbours within `rcut`: a number, `auto` or `auto:FACTOR`; fewer than repinit's."""
    nlayers: Annotated[NonNegativeInt, Usual(high=64, why=_DEEP, zero=_NO_LAYERS)] = 3
    """Number of layers."""
    g1_dim: Annotated[PositiveInt, _WIDTHS] = 128
    """Width of the representation of atoms."""
    g2_dim: Annotated[PositiveInt, _WIDTHS] = 16
    """Width of the invariant representation of pairs."""
    axis_neuron: PositiveInt = 4
    """How many columns span the second axis of the symmetrised products."""
    direct_dist: bool = False
    """Feed the distance itself, not its smooth inverse, to the pair representation."""
    update_g1_has_conv: bool = True
    """Update atoms with a convolution of their neighbours."""
    update_g1_has_drrd: bool = True
    """Update atoms with the symmetrised product of neighbouring atoms' representations."""
    update_g1_has_grrg: bool = True
    """Update atoms with the symmetrised product of pair representations."""
    update_g1_has_attn: bool = True
    """Update atoms with local self-attention."""
    update_g2_has_g1g1: bool = True
    """Update pairs with the product of both atoms' representations."""
    update_g2_has_attn: bool = True
    """Update pairs with gated self-attention among an atom's pairs."""
    use_sqrt_nnei: bool = True
    """Divide sums over neighbours by the square root of `nsel`, not by `nsel`."""
    g1_out_conv: bool = True
    """Put the convolution outside the concatenation as a term of its own."""
    g1_out_mlp: bool = True
    """Put the self-update of atoms outside the concatenation as a term of its own."""
    update_h2: bool = False
    """Update the equivariant representation of pairs."""
    attn1_hidden: Annotated[PositiveInt, _WIDTHS] = 64
    """Width of one head of the atoms' attention."""
    attn1_nhead: Annotated[PositiveInt, _HEADS] = 4
    """Number of heads of the atoms' attention."""
    attn2_hidden: Annotated[PositiveInt, _WIDTHS] = 16
    """Width of one head of the pairs' attention."""
    attn2_nhead: Annotated[PositiveInt, _HEADS] = 4
    """Number of heads of the pairs' attention."""
    attn2_has_gate: bool = False
    """Gate the pairs' attention by the product of pair directions."""
    activation_function: Activation = "tanh"
    """Activation function of every network of the layers."""
    update_style: Literal["res_avg", "res_incr", "res_residual"] = "res_avg"
    """How updates are added: averaged, as they are, or scaled by learned residuals."""
    update_residual: Annotated[NonNegativeFloat, Usual(high=1)] = 0.001
    """Initial size of the learned residuals of `res_residual`."""
    update_residual_init: Literal["norm", "const"] = "norm"
    """Initial residuals: normally distributed, or constant."""
    set_davg_zero: bool = True
    """Leave the mean of the environment matrix at zero instead of taking it from the data."""
    trainable_ln: bool = True
    """Train the weights of the layer normalisation."""
    ln_eps: Annotated[
        NonNegativeFloat | None, Usual(1e-12, 0.01, zero="equal inputs divide by 0")
    ] = None
    """Term that keeps the layer normalisation from dividing by zero; null is 1e-5."""


class Descriptor(Section):
    """The DPA-2 descriptor."""

    type: Literal["dpa2"]
    """Which descriptor this is."""
    repinit: Repinit
    """The first, wide-cutoff view of each atom's surroundings."""
    repformer: Repformer
    """The message-passing layers."""
    concat_output_tebd: bool = True
    """Append the type embedding to the descriptor."""
    precision: Precision = "default"
    """Floating-point type of the parameters."""
    smooth: bool = True
    """Let attention weights go smoothly to zero at the cutoff."""
    exclude_types: TypePairs = []
    """Pairs of type indices that do not see each other."""
    env_protection: Annotated[NonNegativeFloat, Usual(high=1)] = 0.0
    """Added to distances where they divide, in Å."""
    trainable: bool = True
    """Train the parameters of the descriptor."""
    seed: Annotated[Seed, NO_DEFAULT] = None
    """Seed of the initial parameters."""
    add_tebd_to_repinit_out: Annotated[bool, Alias("repformer_add_type_ebd_to_seq")] = False
    """Add the type embedding to what repinit hands to repformer."""
    use_econf_tebd: bool = False
    """Make type embeddings from electron configurations; needs elements in `type_map`."""
    use_tebd_bias: bool = False
    """Give the type embedding a bias."""
