"""The model section: type map, descriptor, fitting net, energy bias; other kinds of models."""

# ruff: noqa: RUF012 - pydantic copies mutable defaults

import copy
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
)

from schemas.base.errors import ConfigError
from schemas.input.descriptor import Descriptor
from schemas.input.section import (
    NO_DEFAULT,
    Activation,
    Alias,
    Needs,
    Precision,
    Section,
    Seed,
    TypePairs,
    Usual,
    list_or_single,
    without_comments,
)

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


_COMMON = frozenset(
    {"sel", "rcut", "rcut_smth", "neuron", "activation_function", "resnet_dt", "precision", "seed"}
    | {"trainable", "exclude_types", "env_protection", "set_davg_zero"}
)
_TYPE_EMBEDDING = frozenset(
    {"tebd_dim", "tebd_input_mode", "concat_output_tebd", "use_econf_tebd", "use_tebd_bias"}
)
_KEYS = {
    "se_e2_a": _COMMON | {"axis_neuron", "type_one_side"},
    "se_atten": _COMMON
    | _TYPE_EMBEDDING
    | {"axis_neuron", "type_one_side", "attn", "attn_layer", "attn_dotr", "attn_mask", "smooth"}
    | {"scaling_factor", "normalize", "temperature", "stripped_type_embedding", "ln_eps"}
    | {"smooth_type_embedding", "trainable_ln"},
    "dpa3": _TYPE_EMBEDDING
    | {"repflow", "activation_function", "precision", "exclude_types", "env_protection"}
    | {"trainable", "seed", "use_loc_mapping"},
    "hybrid": frozenset({"list"}),
}


def likely_descriptor(unknown: Collection[str]) -> str | None:
    """Return the descriptor of which several of some keys that dpa2 does not have are; or None.

    `repflow` and `list` alone say enough.
    """
    for telling, kind in (("repflow", "dpa3"), ("list", "hybrid")):
        if telling in unknown:
            return kind
    counts = {kind: len(keys & set(unknown)) for kind, keys in _KEYS.items()}
    kind = max(counts, key=lambda name: counts[name])
    return kind if counts[kind] > 1 else None


def has_key(kind: str, name: str) -> bool:
    """Return whether a descriptor of a kind has a key."""
    return name in _KEYS[kind]


OURS = "this engine computes DPA-2 energy models only; deepmd-kit may run it"
"""What to do with another one."""

OTHER_TYPES = {
    "spin_ener": "a spin model",
    "zbl": "a DP-ZBL model, with a table of pair energies blended in",
    "linear_ener": "a linear combination of models",
    "linear": "a linear combination of models",
    "pairtab": "a tabulated pair potential",
    "inner_potential": "an analytic pair potential",
    "frozen": "a frozen model as a part of another",
    "pairwise_dprc": "a pairwise DPRC model",
    **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm"), "a DPA-4 model"),
}
"""By the `type` of the model; `spin_ener` and the like are those of portable files."""
OTHER_DESCRIPTORS = {
    **dict.fromkeys(("se_atten", "se_atten_v2", "dpa1"), "a DPA-1 model"),
    "dpa3": "a DPA-3 model",
    **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm", "dpa4c", "DPA4C"), "a DPA-4 model"),
    "hybrid": "a model of several descriptors",
    **dict.fromkeys(("se_e2_a", "se_a", "se_e2_r", "se_r", "se_e3", "se_at"), "a DeepPot-SE model"),
    **dict.fromkeys(("se_t", "se_a_3be", "se_a_tpe", "se_a_ebd"), "a DeepPot-SE model"),
    **dict.fromkeys(
        ("se_e3_tebd", "se_a_ebd_v2", "se_a_tpe_v2", "se_a_mask"), "a DeepPot-SE model"
    ),
    "loc_frame": "a model of local frames",
}
OTHER_FITTINGS = {
    "dipole": "a dipole model",
    "polar": "a polarisability model",
    "dos": "a model of densities of states",
    "property": "a property model",
    "population": "a model of atomic populations",
    **dict.fromkeys(("dpa4_ener", "sezm_ener"), "a DPA-4 model"),
}
_ADDED = {
    "spin": "a spin model",
    "use_srtab": "a DP-ZBL model, with a table of pair energies blended in",
    "modifier": "a model with a dipole-charge correction",
    "lora": "a model with low-rank adapters",
}
"""What makes another model of a section of type `standard`."""


def other_kind(section: Mapping[str, Any]) -> str | None:
    """Return what a model is that is none of this engine's, and which key says so; or None.

    Args:
        section: The model section of one branch, or the `model` of a portable file.
    """
    for key, name in _ADDED.items():
        if section.get(key) is not None:
            return f"{name} (`{key}`)"
    if str(section.get("bridging_method") or "none").lower() != "none":
        return "a model with an analytic repulsion at short distances (`bridging_method`)"
    parts = (
        ("type", section, "standard", OTHER_TYPES),
        ("descriptor", section.get("descriptor"), "dpa2", OTHER_DESCRIPTORS),
        ("fitting_net", section.get("fitting_net"), "ener", OTHER_FITTINGS),
        ("fitting", section.get("fitting"), "ener", OTHER_FITTINGS),
    )
    for name, part, ours, known in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind != ours:
            what = known.get(kind, "a model of another kind")
            return f"{what} ({name if name == 'type' else f'{name} of type'} `{kind}`)"
    return None


PresetBias = Annotated[
    Annotated[float | None, Tag("single")] | Annotated[list[float], Tag("list")],
    Discriminator(list_or_single),
]


class Model(Section):
    """A standard energy model: descriptor, fitting net, energy bias of each element."""

    type: Literal["standard"] = "standard"
    """Which kind of model this is."""
    type_map: Annotated[list[str], Field(min_length=1)]
    """Names of the atom types, normally elements; the index is the type."""
    descriptor: Descriptor
    """How surroundings become numbers."""
    fitting_net: EnergyFitting
    """How these numbers become energies."""
    data_stat_nbatch: Annotated[
        PositiveInt, Usual(high=10_000, why="statistics take no more than there is")
    ] = 10
    """Batches of each system from which statistics are taken."""
    data_stat_protect: Annotated[NonNegativeFloat, Usual(high=1)] = 0.01
    """Smallest standard deviation by which frame and atom parameters are divided."""
    data_bias_nsample: PositiveInt = 10
    """Ignored by deepmd-kit's PyTorch backend."""
    pair_exclude_types: TypePairs = []
    """Pairs of type indices that are removed from the neighbour list."""
    atom_exclude_types: list[int] = []
    """Type indices whose atoms contribute no energy."""
    preset_out_bias: Annotated[
        dict[str, list[PresetBias]] | None, BeforeValidator(without_comments)
    ] = None
    """Energy bias of each type in eV, by output name; null means fitted to the data."""
    srtab_add_bias: bool = True
    """Ignored by deepmd-kit's PyTorch backend."""
    model_branch_alias: list[str] = []
    """Other names of this branch in a multi-task model."""
    info: Annotated[dict[str, Any], BeforeValidator(without_comments)] = {}
    """Free text about the model, kept in its files."""
    finetune_head: Annotated[str | None, NO_DEFAULT] = None
    """Branch of the pre-trained model from which fine-tuning starts."""
    use_srtab: Annotated[str | None, NO_DEFAULT] = None
    """File with a short-range pair potential to blend in."""
    smin_alpha: Annotated[float | None, NO_DEFAULT, Needs("use_srtab")] = None
    """Width of the weighting of `use_srtab`, in Å."""
    sw_rmin: Annotated[float | None, NO_DEFAULT, Needs("use_srtab")] = None
    """Below this distance the pair potential of `use_srtab` acts alone, in Å."""
    sw_rmax: Annotated[float | None, NO_DEFAULT, Needs("use_srtab")] = None
    """Above this distance the network acts alone, in Å."""
    type_embedding: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Of the TensorFlow backend; DPA-2 has its own."""
    modifier: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Correction by a dipole-charge model."""
    compress: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Written by deepmd-kit when it compresses a model."""
    spin: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Treat spins as degrees of freedom."""
    bridging_method: str = "None"
    """Blend in an analytic repulsion at short distances."""
    bridging_r_inner: float = 0.5
    """Below this distance the repulsion of `bridging_method` acts alone, in Å."""
    bridging_r_outer: float = 0.8
    """Above this distance the network acts alone, in Å."""


WRITTEN_BY_DEEPMD = frozenset({"hessian_mode", "resuming", "new_type_map"})
"""Keys that deepmd-kit adds to the `model_params` of a checkpoint and that say nothing to us."""


def parse_model(mapping: Mapping[str, Any], where: object = None) -> Model:
    """Read the `model_params` section of a checkpoint.

    Nulls count as keys not given, and keys that deepmd-kit adds there itself are dropped.

    Args:
        mapping: The section.
        where: The file that has it, for messages.

    Raises:
        ConfigError: The section is not one of a DPA-2 energy model.
    """
    cleaned: dict[str, Any] = {
        key: value for key, value in mapping.items() if key not in WRITTEN_BY_DEEPMD
    }
    if "model_dict" in cleaned:
        branches = cleaned["model_dict"]
        names = ", ".join(map(str, branches)) if isinstance(branches, dict) else "without names"
        raise ConfigError(f"the model has several branches: {names}", hint="choose one of them")
    kind = other_kind(cleaned)
    if kind is not None:
        raise ConfigError(f"{where}: {kind}" if where else f"it is {kind}", hint=OURS)
    try:
        return Model.model_validate(_without_wrong_nulls(cleaned))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the model section of this file is not one of a DPA-2 energy model: "
            f"{where}: {first['msg']}",
            hint="it was written by a version of deepmd-kit other than 3.0 to 3.2, or is damaged",
        ) from error


def _without_wrong_nulls(section: dict[str, Any]) -> dict[str, Any]:
    """Return the section without the nulls that the schema does not allow."""
    try:
        Model.model_validate(section)
    except ValidationError as error:
        wrong = [item["loc"] for item in error.errors() if item["input"] is None]
    else:
        return section
    result = copy.deepcopy(section)
    for location in wrong:
        holder: Any = result
        for part in location[:-1]:
            if isinstance(holder, dict):
                holder = holder.get(part, holder)  # a part may name a variant, not a key
        if isinstance(holder, dict):
            holder.pop(location[-1], None)
    return result
