"""Optimisers: those of deepmd-kit 3.2; the trainer runs Adam and AdamW."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, Tag

from schemas.input.loss import Prefactor
from schemas.input.section import Alias, Section, Usual, by_type

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
