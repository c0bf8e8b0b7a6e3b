"""The model: element names, descriptor, fitting net and what surrounds them."""

# ruff: noqa: RUF012 - pydantic copies mutable defaults

import copy
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    Tag,
    ValidationError,
)

from schemas.descriptor import Descriptor
from schemas.errors import ConfigError
from schemas.fitting import EnergyFitting
from schemas.marks import Needs, Usual
from schemas.network import TypePairs, list_or_single
from schemas.other_models import OURS, other_kind
from schemas.section import NO_DEFAULT, Section, without_comments

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
        raise ConfigError(
            f"the model has several branches: {names}",
            hint="choose one of them",
        )
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
