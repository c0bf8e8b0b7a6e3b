"""The root of an input file: one DPA-2 energy model and how to train it."""

from typing import Annotated, Any

from schemas.learning_rate import LearningRate
from schemas.loss import EnergyLoss
from schemas.model import Model
from schemas.optimizer import Adam, Optimizer
from schemas.section import NO_DEFAULT, Section
from schemas.training import Training
from schemas.validating import Validating


class Input(Section):
    """A complete single-task input."""

    model: Model
    """The network."""
    learning_rate: LearningRate
    """How the learning rate changes during training."""
    loss: EnergyLoss
    """What is minimised."""
    training: Training
    """How long to train, on what, and what to write."""
    optimizer: Optimizer = Adam()
    """How parameters are updated."""
    validating: Validating = Validating()
    """Validation on the whole of the validation data."""
    nvnmd: Annotated[dict[str, Any] | None, NO_DEFAULT] = None
    """Of a special hardware; this engine does not train for it."""
