"""What a model file says about its model: the one record of every format, in deepmd-kit's words.

docs/deepmd-format.md, 8.1, 9, 10.4.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from schemas.base.errors import CheckpointError

if TYPE_CHECKING:
    from dpa2.model.energy import EnergyModel

OUTPUTS = (
    "energy",
    "mask",
    "energy_redu",
    "energy_derv_r",
    "energy_derv_c",
    "energy_derv_c_redu",
)
"""What a program returns, in this order (docs/deepmd-format.md, 9)."""

_ANSWERS = (
    *("get_type_map", "get_rcut", "get_sel", "get_sel_type", "get_min_nbor_dist"),
    *("get_dim_fparam", "get_dim_aparam", "get_dim_chg_spin", "model_output_type", "mixed_types"),
    *("has_message_passing", "has_default_fparam", "has_chg_spin_ebd", "has_default_chg_spin"),
)


def _output(name: str, *, physical: bool) -> dict[str, Any]:
    return {
        "name": name,
        "shape": [1],
        "reducible": physical,
        "r_differentiable": physical,
        "c_differentiable": physical,
        "atomic": True,
        "category": 0,
        "r_hessian": False,
        "magnetic": False,
        "intensive": False,
    }


class Facts(BaseModel):
    """What is true of a model, whatever file it is in.

    Its JSON is the `metadata.json` of a `.pt2` file; the constants are what is true of every DPA-2
    model, and the last four fields are said elsewhere.

    Attributes:
        type_map: Element of each type.
        rcut: Å.
        sel: Neighbour capacity, one entry for all types.
        nnei: The same, as a number.
        dim_fparam: Frame parameters that it takes.
        dim_aparam: Parameters per atom that it takes.
        dim_chg_spin: Conditions of charge and spin that it takes.
        mixed_types: Whether one neighbour list holds all types.
        has_default_fparam: Whether `default_fparam` stands for frame parameters that are not given.
        default_fparam: What callers pass on where they are given no frame parameters.
        fitting_output_defs: What the network predicts.
        sel_type: Types whose atoms have energies.
        has_comm_artifact: Whether there is a second program for several MPI ranks.
        lower_input_kind: `nlist`: the program takes atoms with ghosts and a neighbour list.
        pair_exclude_types: Pairs of types that the caller must leave out of the list. None: our
            programs do so themselves, after the list was cut to `nnei`, as in training.
        do_atomic_virial: Whether the virial is split among atoms.
        output_keys: What the program returns.
        model_output_type: What the network predicts for atoms.
        min_nbor_dist: Shortest distance of the training data, Å, where known.
        observed_type: Elements of the training data.
        model_params: The `model` section that it was trained with.
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    type_map: list[str] = Field(min_length=1)
    rcut: float = Field(gt=0, allow_inf_nan=False)
    sel: list[int] = Field(min_length=1)
    nnei: int = 0
    dim_fparam: int = Field(default=0, ge=0)
    dim_aparam: int = Field(default=0, ge=0)
    dim_chg_spin: int = 0
    mixed_types: bool = True
    has_default_fparam: bool = False
    default_fparam: list[float] | None = None
    has_chg_spin_ebd: bool = False
    has_default_chg_spin: bool = False
    default_chg_spin: list[float] | None = None
    chg_spin_table_ranges: list[Any] | None = None
    fitting_output_defs: list[dict[str, Any]] = [
        _output("energy", physical=True),
        _output("mask", physical=False),
    ]
    sel_type: list[int] = []
    is_spin: bool = False
    has_comm_artifact: bool = False
    has_message_passing: bool = True
    lower_input_kind: str = "nlist"
    graph_edge_dtype: str = "float64"
    pair_exclude_types: list[tuple[NonNegativeInt, NonNegativeInt]] = []
    do_atomic_virial: bool = True
    output_keys: list[str] = list(OUTPUTS)
    model_output_type: list[str] = Field(default=["energy", "mask"], exclude=True)
    min_nbor_dist: float | None = Field(default=None, exclude=True)
    observed_type: list[str] = Field(default=[], exclude=True)
    model_params: dict[str, Any] = Field(default={}, exclude=True)

    @classmethod
    def parse(cls, said: Mapping[str, Any], path: object, needed: Sequence[str] = ()) -> Self:
        """Return what the file `path` says.

        Args:
            said: By the names of the attributes; others are passed over.
            path: For messages.
            needed: What must be said although there is a usual value.

        Raises:
            CheckpointError: If it says nonsense, or is no energy model with one list for all types.
        """
        lacking = [name for name in needed if name not in said]
        try:
            facts = cls.model_validate(said)
        except ValidationError as error:
            raise described_wrongly(path, error) from error
        if lacking:
            raise described_wrongly(path, f"{lacking[0]}: Field required")
        types = (number for pair in facts.pair_exclude_types for number in pair)
        if max(types, default=0) >= len(facts.type_map):
            raise CheckpointError(
                f"{path} leaves out pairs of types that it does not have",
                hint="the file is damaged; make it again from the checkpoint",
            )
        if "energy" not in facts.model_output_type:
            raise CheckpointError(
                f"{path} predicts {', '.join(facts.model_output_type)}, not energies",
                hint="give an energy model",
            )
        if not facts.mixed_types or facts.dim_chg_spin:
            needs = "conditions of charge and spin" if facts.mixed_types else "a list for each type"
            raise CheckpointError(
                f"{path} is no DPA-2 model: it takes {needs}", hint="evaluate it with deepmd-kit"
            )
        return facts

    @property
    def nsel(self) -> int:
        """Neighbour capacity."""
        return sum(self.sel)

    def answers(self) -> dict[str, Any]:
        """Return what the functions of a TorchScript file and of a SavedModel answer, by name."""
        return {name: getattr(self, name.removeprefix("get_")) for name in _ANSWERS} | {
            "get_model_def_script": json.dumps(self.model_params),
            "is_aparam_nall": False,
        }


def facts_of(
    model: "EnergyModel", model_params: Mapping[str, Any], *, atomic_virial: bool = True
) -> Facts:
    """Return the facts about a model.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
        atomic_virial: Whether its program splits the virial among atoms.
    """
    nsel = int(model.cutoffs().nsel)
    default = model.config.fitting_net.default_fparam if model.fitting.has_default_fparam else None
    excluded = model.config.atom_exclude_types
    distance = float(model.min_nbor_dist)
    observed = (model_params.get("info") or {}).get("observed_type")
    return Facts(
        type_map=list(model.type_map),
        rcut=float(model.rcut),
        sel=[nsel],
        nnei=nsel,
        dim_fparam=model.fitting.num_fparam,
        dim_aparam=model.fitting.num_aparam,
        has_default_fparam=default is not None,
        default_fparam=default,
        sel_type=[k for k in range(len(model.type_map)) if k not in excluded],
        do_atomic_virial=atomic_virial,
        min_nbor_dist=None if distance < 0 else distance,
        observed_type=list(model.type_map if observed is None else observed),
        model_params=dict(model_params),
    )


def described_wrongly(path: object, what: str | ValidationError) -> CheckpointError:
    """Return the error of a file that says nonsense about itself."""
    if isinstance(what, ValidationError):
        first = what.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'its text'}: {first['msg']}"
    return CheckpointError(
        f"{path} describes itself wrongly: {what}",
        hint="the file is damaged or of a newer kind; make it again from the checkpoint",
    )
