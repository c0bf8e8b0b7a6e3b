"""How a network is trained: the loss, the learning rate and the optimiser."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from schemas.input.section import NO_DEFAULT, Alias, Needs, Section, Usual, by_type, list_or_single

HuberDelta = Annotated[
    Annotated[PositiveFloat, Tag("single")]
    | Annotated[list[PositiveFloat], Field(min_length=3, max_length=3), Tag("list")],
    Discriminator(list_or_single),
]


def _current_name(value: Any) -> Any:
    return "ener" if value == "ener_hess" else value


Prefactor = Annotated[NonNegativeFloat, Usual(1e-8, 1e6)]
"""Weight of a term of the loss; zero switches the term off."""


class EnergyLoss(Section):
    """Weighted sum of the errors of energies, forces and what else is labelled.

    Each weight goes from `start_pref` to `limit_pref` as the learning rate decays. A term exists
    only if both are non-zero (Hessian: either).
    """

    type: Annotated[Literal["ener"], BeforeValidator(_current_name)] = "ener"
    """Which loss this is; `ener_hess` is its former name."""
    start_pref_e: Prefactor = 0.02
    """Weight of the energy at the start."""
    limit_pref_e: Prefactor = 1.0
    """Weight of the energy at the end."""
    start_pref_f: Prefactor = 1000
    """Weight of forces at the start."""
    limit_pref_f: Prefactor = 1.0
    """Weight of forces at the end."""
    start_pref_v: Prefactor = 0.0
    """Weight of the virial at the start."""
    limit_pref_v: Prefactor = 0.0
    """Weight of the virial at the end."""
    start_pref_h: Prefactor = 0.0
    """Weight of the Hessian at the start."""
    limit_pref_h: Prefactor = 0.0
    """Weight of the Hessian at the end."""
    start_pref_ae: Prefactor = 0.0
    """Weight of atomic energies at the start."""
    limit_pref_ae: Prefactor = 0.0
    """Weight of atomic energies at the end."""
    start_pref_pf: Prefactor = 0.0
    """Weight of forces weighted atom by atom (`atom_pref.npy`) at the start."""
    limit_pref_pf: Prefactor = 0.0
    """Weight of forces weighted atom by atom at the end."""
    start_pref_gf: Prefactor = 0.0
    """Weight of generalised forces (`drdq.npy`) at the start."""
    limit_pref_gf: Prefactor = 0.0
    """Weight of generalised forces at the end."""
    numb_generalized_coord: Annotated[NonNegativeInt, Usual(high=10_000)] = 0
    """Number of generalised coordinates."""
    use_default_pf: Annotated[bool, Needs("start_pref_pf", "limit_pref_pf")] = False
    """Take 1 for the weight of each atom's force where the data have none."""
    relative_f: Annotated[
        NonNegativeFloat | None,
        NO_DEFAULT,
        Usual(1e-4, 1e3, zero="a force of 0 divides by it"),
        Needs("start_pref_f", "start_pref_pf"),
    ] = None
    """Divide force errors by the force's magnitude plus this, in eV/Å."""
    enable_atom_ener_coeff: bool = False
    """Weight atomic energies in the sum by `atom_ener_coeff.npy`."""
    use_huber: bool = False
    """Use the Huber loss: quadratic for small errors, linear for large ones."""
    huber_delta: Annotated[HuberDelta, Usual(1e-6, 1e3), Needs("use_huber")] = 0.01
    """Where the Huber loss becomes linear: one number, or one each for energy, force, virial."""
    loss_func: Literal["mse", "mae"] = "mse"
    """Squared or absolute errors."""
    f_use_norm: bool = False
    """Take the norm of each atom's force error instead of its components."""
    intensive_ener_virial: bool = False
    """Divide squared energy and virial errors by the squared number of atoms."""


PREFACTORS = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "h": "Hessian",
    "ae": "atomic energy",
    "pf": "force by atom weight",
    "gf": "generalised force",
}
"""The terms of the loss, by the suffix of their prefactors."""


LABEL_FILES = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "ae": "atom_ener",
    "pf": "atom_pref",
    "gf": "drdq",
    "h": "hessian",
}
"""The file of labels of each term."""


def prefactors(loss: EnergyLoss, suffix: str) -> tuple[float, float]:
    """Return the weights of a term of the loss at the start and at the end."""
    return getattr(loss, f"start_pref_{suffix}"), getattr(loss, f"limit_pref_{suffix}")


def term_is_on(loss: EnergyLoss, suffix: str) -> bool:
    """Return whether a term of the loss exists: both weights non-zero (Hessian: either)."""
    start, limit = prefactors(loss, suffix)
    return bool(start or limit) if suffix == "h" else bool(start and limit)


DEFAULT_STOP_LR = 5e-8
"""The last learning rate when neither `stop_lr` nor `stop_lr_ratio` is given."""


class Schedule(Section):
    """What every schedule has: where it starts, where it stops, how it warms up."""

    start_lr: Annotated[PositiveFloat, Usual(1e-7, 0.05, "nothing is learned with such a rate")]
    """Learning rate after the warm-up."""
    stop_lr: Annotated[NonNegativeFloat | None, Usual(low=1e-12)] = None
    """Learning rate at the last step; without `stop_lr_ratio` the default is 5e-8."""
    stop_lr_ratio: Annotated[NonNegativeFloat | None, Usual(low=1e-9)] = None
    """The last learning rate as a fraction of `start_lr`; instead of `stop_lr`."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises linearly to `start_lr`."""
    warmup_ratio: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Usual(high=0.5, why="most of the run is warm-up"),
    ] = None
    """The warm-up as a fraction of all steps; instead of `warmup_steps`."""
    warmup_start_factor: Annotated[
        NonNegativeFloat,
        Usual(high=1, why="the rate falls in the warm-up"),
        Needs("warmup_steps", "warmup_ratio"),
    ] = 0.0
    """The first learning rate of the warm-up as a fraction of `start_lr`."""
    scale_by_worker: Literal["linear", "sqrt", "none"] = "linear"
    """Ignored by deepmd-kit's PyTorch backend."""

    @model_validator(mode="before")
    @classmethod
    def _default_stop(cls, data: Any) -> Any:
        keys = ("stop_lr", "stop_lr_ratio")
        if isinstance(data, dict) and all(data.get(key) is None for key in keys):
            return {**data, "stop_lr": DEFAULT_STOP_LR}
        return data

    @property
    def last_lr(self) -> float:
        """Learning rate at the last step."""
        if self.stop_lr is not None:
            return self.stop_lr
        assert self.stop_lr_ratio is not None
        return self.stop_lr_ratio * self.start_lr


class ExponentialDecay(Schedule):
    """Multiply the learning rate by a constant factor every `decay_steps` steps."""

    type: Literal["exp"] = "exp"
    """Which schedule this is."""
    decay_steps: PositiveInt = 5000
    """Steps between two decays."""
    decay_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The factor; by default the one that ends at the last learning rate."""
    smooth: bool = False
    """Decay a little at every step instead of all at once."""


class CosineDecay(Schedule):
    """Follow half a cosine from the first learning rate to the last."""

    type: Literal["cosine"]
    """Which schedule this is."""


class StableDecay(Schedule):
    """Stay at `start_lr`, then decay in the last part of the run (WSD)."""

    type: Literal["wsd"]
    """Which schedule this is."""
    decay_phase_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Fraction of all steps in which the learning rate decays."""
    decay_type: Literal["inverse_linear", "cosine", "linear"] = "inverse_linear"
    """Shape of the decay."""


SCHEDULES = ("exp", "cosine", "wsd")

LearningRate = Annotated[
    Annotated[ExponentialDecay, Tag("exp")]
    | Annotated[CosineDecay, Tag("cosine")]
    | Annotated[StableDecay, Tag("wsd")],
    by_type("exp"),
]
"""Any schedule, told apart by `type`."""


Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay rate of a running mean."""
Decay = Annotated[NonNegativeFloat, Usual(high=1, why="it outweighs what is learned")]


class Adam(Section):
    """Adam, with weight decay as a term of the loss."""

    type: Literal["Adam"] = "Adam"
    """Which optimiser this is."""
    adam_beta1: Beta = 0.9
    """Decay rate of the mean gradient."""
    adam_beta2: Beta = 0.999
    """Decay rate of the mean squared gradient."""
    weight_decay: Decay = 0.0
    """Weight decay."""


class AdamW(Section):
    """Adam with decoupled weight decay."""

    type: Literal["AdamW"]
    """Which optimiser this is."""
    adam_beta1: Beta = 0.9
    """Decay rate of the mean gradient."""
    adam_beta2: Beta = 0.999
    """Decay rate of the mean squared gradient."""
    # deepmd-kit's schema says 0.001, but an earlier step of its start-up fills in 0.0
    # (docs/deepmd-format.md, 1.0).
    weight_decay: Decay = 0.0
    """Weight decay; 0 unless set, as in deepmd-kit."""


class KalmanFilter(Section):
    """Layer-wise Kalman filter (LKF)."""

    type: Literal["LKF"]
    """Which optimiser this is."""
    kf_blocksize: PositiveInt = 5120
    """Largest number of parameters of one block."""
    kf_start_pref_e: Prefactor = 1.0
    """Weight of energies at the first step."""
    kf_limit_pref_e: Prefactor = 1.0
    """Weight of energies at the last step."""
    kf_start_pref_f: Prefactor = 1.0
    """Weight of forces at the first step."""
    kf_limit_pref_f: Prefactor = 1.0
    """Weight of forces at the last step."""


class AdaMuon(Section):
    """Muon with an adaptive second moment."""

    type: Literal["AdaMuon"]
    """Which optimiser this is."""
    momentum: Annotated[Beta, Alias("muon_momentum")] = 0.95
    """Momentum of matrix-shaped parameters."""
    adam_beta1: Beta = 0.9
    """Decay rate of the mean gradient of the other parameters."""
    adam_beta2: Beta = 0.95
    """Decay rate of the mean squared gradient of the other parameters."""
    weight_decay: Decay = 0.001
    """Weight decay."""
    lr_adjust: float = 10.0
    """Ratio of the learning rates of matrices and other parameters; <= 0 scales by shape."""
    lr_adjust_coeff: float = 0.2
    """Factor of the scaling by shape."""


class HybridMuon(Section):
    """Muon for matrices, Adam for everything else."""

    type: Literal["HybridMuon"]
    """Which optimiser this is."""
    momentum: Annotated[Beta, Alias("muon_momentum")] = 0.95
    """Momentum of matrix-shaped parameters."""
    adam_beta1: Beta = 0.9
    """Decay rate of the mean gradient of the other parameters."""
    adam_beta2: Beta = 0.95
    """Decay rate of the mean squared gradient of the other parameters."""
    weight_decay: Decay = 0.001
    """Weight decay."""
    lr_adjust: float = 0.0
    """Ratio of the learning rates of matrices and other parameters; <= 0 scales by shape."""
    lr_adjust_coeff: float = 0.18
    """Factor of the scaling by shape."""
    muon_mode: Literal["slice", "2d", "flat"] = "slice"
    """How parameters of more than two axes become matrices."""
    enable_gram: bool = True
    """Orthogonalise rectangular matrices through their Gram matrix."""
    flash_muon: bool = True
    """Use fused kernels where there are any."""
    magma_muon: bool = True
    """Damp updates that disagree with the momentum."""


OPTIMIZERS = ("Adam", "AdamW", "LKF", "AdaMuon", "HybridMuon")
TRAINED = ("Adam", "AdamW")
"""The optimisers that our trainer runs."""

Optimizer = Annotated[
    Annotated[Adam, Tag("Adam")]
    | Annotated[AdamW, Tag("AdamW")]
    | Annotated[KalmanFilter, Tag("LKF")]
    | Annotated[AdaMuon, Tag("AdaMuon")]
    | Annotated[HybridMuon, Tag("HybridMuon")],
    by_type("Adam"),
]
"""Any optimiser, told apart by `type`."""
