"""Small systems on disk, made by numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.containers import write_npy

MakeSystem = Callable[..., Path]


@pytest.fixture
def make_system(tmp_path: Path) -> MakeSystem:
    """Return a function that writes a deepmd/npy system below tmp_path and returns its folder."""

    def make(
        name: str = "water",
        *,
        types: tuple[int, ...] = (0, 1, 1),
        type_map: tuple[str, ...] | None = ("O", "H"),
        sets: tuple[int, ...] = (4,),
        periodic: bool = True,
        real_types: np.ndarray | None = None,
        seed: int = 0,
        **labels: int,
    ) -> Path:
        rng = np.random.default_rng(seed)
        frames, width = sum(sets), 3 * len(types)
        arrays = {
            "coord": rng.uniform(0, 8, (frames, width)),
            # The energy is the frame number, so that a test sees which frames it got.
            "energy": np.arange(frames, dtype=np.float64),
            "force": rng.normal(size=(frames, width)),
            **{label: rng.normal(size=(frames, size)) for label, size in labels.items()},
        }
        if periodic:
            arrays["box"] = np.tile(8 * np.eye(3).reshape(9), (frames, 1))
        if real_types is not None:
            arrays["real_atom_types"] = real_types
        elements = None if type_map is None else " ".join(type_map)
        return write_npy(tmp_path / name, arrays, types, elements, sets)

    return make
