"""Golden cases as tensors, and how to load what was frozen."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpa2.lower.ghost_exchange import declare_border_operator

GOLDEN = Path(__file__).parents[1] / "golden"


def load_module(path: Path) -> Any:
    declare_border_operator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path))


def golden_inputs(case: str) -> dict[str, torch.Tensor | None]:
    """Return the arguments of `forward` for a golden case."""
    with np.load(GOLDEN / case / "expected.npz") as archive:
        arrays = {key: torch.from_numpy(archive[key]) for key in archive.files}
    arrays["atype"] = arrays["atype"].long().expand(len(arrays["coord"]), -1)
    return {key: arrays.get(key) for key in ("coord", "atype", "box", "fparam", "aparam")}
