# /// script
# requires-python = ">=3.11"
# dependencies = ["ase>=3.29", "tblite>=0.5", "numpy", "scipy", "rich"]
# ///
"""Make `clusters`: a small set of one's own to fine-tune on, of another kind than the rest.

    python examples/water/make_clusters.py        # a minute or two

A random molecule and its 15 nearest neighbours are cut out of frames of this folder, without
periodic boundaries, and labelled by IPEA1-xTB: 36 clusters from training frames, 42 from test
frames.
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from make_dataset import SEED, STATES
from numpy.typing import NDArray
from rich.progress import track
from tblite.ase import TBLite

HERE = Path(__file__).resolve().parent
LEVEL = "IPEA1-xTB"
FOLDER = HERE / "clusters"
NUM_MOLECULES = 16
PER_STATE = 6


def cut(coord: NDArray[np.float64], box: NDArray[np.float64], center: int) -> Atoms:
    """Return a molecule and its nearest neighbours, whole, as they lie around it."""
    molecules = coord.reshape(-1, 3, 3)
    length = box[0]  # cubic
    offset = molecules[:, 0] - molecules[center, 0]
    image = -length * np.round(offset / length)
    distance = np.linalg.norm(offset + image, axis=1)
    nearest = np.argsort(distance)[:NUM_MOLECULES]
    positions = molecules[nearest] + image[nearest, None] - molecules[center, 0]
    return Atoms("OHH" * NUM_MOLECULES, positions.reshape(-1, 3).astype(np.float32))


def write(source: Path, target: Path, frames: NDArray[np.int64], seed: int) -> None:
    """Cut one cluster out of every chosen frame of a system, label and write them."""
    rng = np.random.default_rng([SEED, seed])
    coords, boxes = (np.load(source / "set.000" / f"{key}.npy") for key in ("coord", "box"))
    arrays: dict[str, list[NDArray[np.float64]]] = {"coord": [], "energy": [], "force": []}
    for frame in track(frames, description=target.name):
        cluster = cut(coords[frame], boxes[frame], int(rng.integers(coords.shape[1] // 9)))
        cluster.calc = TBLite(method=LEVEL, accuracy=0.1, verbosity=0)
        arrays["coord"].append(cluster.positions.ravel())
        arrays["energy"].append(np.array(cluster.get_potential_energy()))
        arrays["force"].append(cluster.get_forces().ravel())
    (target / "set.000").mkdir(parents=True, exist_ok=True)
    (target / "type.raw").write_text("0\n1\n1\n" * NUM_MOLECULES)
    (target / "type_map.raw").write_text("O\nH\n")
    (target / "nopbc").write_text("")
    for key, values in arrays.items():
        precision = np.float64 if key == "energy" else np.float32
        np.save(target / "set.000" / f"{key}.npy", np.array(values, dtype=precision))


def main() -> None:
    """Write `clusters/train` and `clusters/test`."""
    states = len(STATES)
    total = len(np.load(HERE / "gfn1" / "train" / "set.000" / "energy.npy"))
    # Frame i is in state i mod 6: evenly spaced multiples of 6, plus the six states.
    starts = np.linspace(0, total // states - 1, PER_STATE).astype(int) * states
    chosen = (starts[:, None] + np.arange(states)).ravel()
    write(HERE / "gfn1" / "train", FOLDER / "train", chosen, seed=1)
    write(HERE / "gfn1" / "test", FOLDER / "test", np.arange(42), seed=2)


if __name__ == "__main__":
    main()
