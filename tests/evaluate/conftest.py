from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpa2.evaluate.potential import Potential, load
from tests.containers import write_npy

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def water_model() -> Path:
    return GOLDEN / "small" / "model.pt"


@pytest.fixture(scope="session")
def water(water_model: Path) -> Potential:
    return load(water_model)


@pytest.fixture(scope="session")
def frames() -> dict[str, Any]:
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        return dict(archive)


@pytest.fixture
def system(tmp_path: Path, frames: dict[str, Any]) -> Path:
    """Write a labelled system whose labels are off by known amounts."""
    return write_system(tmp_path / "system", frames)


def write_system(folder: Path, frames: dict[str, Any], *, virial: bool = True) -> Path:
    arrays = {
        "coord": frames["coord"],
        "box": frames["box"],
        "energy": frames["energy"] + 0.5,
        "force": frames["force"] - 0.25,
    }
    if virial:
        arrays["virial"] = frames["virial"] + 2.0
    return write_npy(folder, arrays, frames["atype"])
