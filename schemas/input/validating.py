"""Full validation: judge the model on all validation data from time to time, keep the best."""

from typing import Annotated

from pydantic import AfterValidator, NonNegativeFloat, PositiveInt
from pydantic_core import PydanticCustomError

from schemas.input.section import Needs, Section, WrittenTo

METRICS = ("E:MAE", "E:RMSE", "F:MAE", "F:RMSE", "V:MAE", "V:RMSE")
"""By what a full validation may judge."""


def _known_metric(name: str) -> str:
    if name.strip().upper() in METRICS:
        return name
    raise PydanticCustomError(
        "choice", "unknown metric `{value}`", {"value": name, "choices": list(METRICS)}
    )


_ON = Needs("full_validation", "ema_full_validation")


class Validating(Section):
    """When and how to validate on the whole of `validation_data`."""

    full_validation: bool = False
    """Validate on all of the validation data during training."""
    ema_full_validation: bool = False
    """Validate the running mean of the parameters too."""
    validation_freq: Annotated[PositiveInt, _ON] = 5000
    """Steps between two full validations."""
    save_best: Annotated[bool, _ON] = True
    """Keep the checkpoint with the smallest error."""
    save_best_dir: Annotated[str | None, _ON, Needs("save_best"), WrittenTo("folder")] = None
    """Folder of the best checkpoints."""
    max_best_ckpt: Annotated[PositiveInt, _ON, Needs("save_best")] = 1
    """Number of best checkpoints that are kept."""
    validation_metric: Annotated[str, AfterValidator(_known_metric), _ON] = "E:MAE"
    """By what the best is judged: `E`, `F` or `V`, a colon, `MAE` or `RMSE`."""
    full_val_file: Annotated[str, _ON, WrittenTo("file")] = "val.log"
    """Where the results are written."""
    full_val_start: Annotated[NonNegativeFloat, _ON] = 0.5
    """First step: below 1 a fraction of all steps, 1 is never, above 1 a step."""
    compiled_infer: bool = False
    """Ignored: a switch of another backend."""
    tf32_infer: bool = False
    """Ignored: a switch of another backend."""
    amp_infer: bool = False
    """Ignored: a switch of another backend."""
