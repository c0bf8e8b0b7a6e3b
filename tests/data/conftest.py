"""Small systems on disk, made by numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
        folder = tmp_path / name
        folder.mkdir(parents=True)
        num_atoms = len(types)
        (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
        if type_map is not None:
            (folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
        if not periodic:
            (folder / "nopbc").touch()
        first = 0
        for number, frames in enumerate(sets):
            path = folder / f"set.{number:03d}"
            path.mkdir()
            np.save(path / "coord.npy", rng.uniform(0, 8, (frames, 3 * num_atoms)))
            if periodic:
                np.save(path / "box.npy", np.tile(8 * np.eye(3).reshape(9), (frames, 1)))
            # The energy is the frame number, so that a test sees which frames it got.
            np.save(path / "energy.npy", np.arange(first, first + frames, dtype=np.float64))
            np.save(path / "force.npy", rng.normal(size=(frames, 3 * num_atoms)))
            for label, width in labels.items():
                np.save(path / f"{label}.npy", rng.normal(size=(frames, width)))
            if real_types is not None:
                np.save(path / "real_atom_types.npy", real_types[first : first + frames])
            first += frames
        return folder

    return make
