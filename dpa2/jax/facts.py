"""What an exported model says about itself: the questions deepmd-kit asks.

docs/deepmd-format.md, 10.4.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpa2.model.energy import EnergyModel

OUTPUTS = ["energy", "mask"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Constants of a model.

    Attributes:
        type_map: Element of each type.
        rcut: Å.
        nsel: Neighbour capacity.
        dim_fparam: Frame parameters that it takes.
        dim_aparam: Parameters per atom that it takes.
        default_fparam: Used where no frame parameters are given; None if they must be.
        sel_type: Types whose atoms have energies.
        min_nbor_dist: Shortest distance of the training data, Å, where known.
        model_def_script: The `model` section as JSON.
    """

    type_map: list[str]
    rcut: float
    nsel: int
    dim_fparam: int
    dim_aparam: int
    default_fparam: list[float] | None
    sel_type: list[int]
    min_nbor_dist: float | None
    model_def_script: str


def facts_of(model: EnergyModel, model_params: Mapping[str, Any]) -> Facts:
    """Return the facts about a model.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
    """
    distance = float(model.min_nbor_dist)
    fitting = model.config.fitting_net
    default = fitting.default_fparam if model.fitting.has_default_fparam else None
    excluded = model.config.atom_exclude_types
    return Facts(
        type_map=list(model.type_map),
        rcut=float(model.rcut),
        nsel=int(model.cutoffs().nsel),
        dim_fparam=model.fitting.num_fparam,
        dim_aparam=model.fitting.num_aparam,
        default_fparam=None if default is None else [float(x) for x in default],
        sel_type=[k for k in range(len(model.type_map)) if k not in excluded],
        min_nbor_dist=None if distance < 0 else distance,
        model_def_script=json.dumps(dict(model_params)),
    )
