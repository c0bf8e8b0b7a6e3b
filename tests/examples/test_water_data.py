"""The water data that is shipped with the project is what its README says."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from vesin import NeighborList

WATER = Path(__file__).resolve().parents[2] / "examples" / "water"
INPUTS = sorted(WATER.glob("input*.json"))
NUM_FRAMES = {"train": 198, "test": 42}
NUM_ATOMS = 96
DENSITIES = (0.997, 0.997, 0.997, 0.997, 1.10, 0.90)  # g/cm^3
SYSTEMS = [(level, part) for level in ("gfn1", "gfn2") for part in NUM_FRAMES]

every_system = pytest.mark.parametrize(("level", "part"), SYSTEMS)


def load(level: str, part: str, label: str) -> NDArray[np.float64]:
    array = np.load(WATER / level / part / "set.000" / f"{label}.npy")
    return array.astype(np.float64)


@every_system
def test_every_array_has_one_row_per_frame(level: str, part: str) -> None:
    num_frames = NUM_FRAMES[part]
    shapes = {
        "coord": (num_frames, 3 * NUM_ATOMS),
        "box": (num_frames, 9),
        "energy": (num_frames,),
        "force": (num_frames, 3 * NUM_ATOMS),
        "virial": (num_frames, 9),
    }
    for label, shape in shapes.items():
        values = load(level, part, label)
        assert values.shape == shape, label
        assert np.isfinite(values).all(), label


@every_system
def test_atoms_are_whole_water_molecules_in_the_order_o_h_h(level: str, part: str) -> None:
    folder = WATER / level / part
    assert (folder / "type_map.raw").read_text().split() == ["O", "H"]
    assert np.loadtxt(folder / "type.raw", dtype=int).tolist() == [0, 1, 1] * 32
    molecules = load(level, part, "coord").reshape(-1, 3, 3)
    bonds = np.linalg.norm(molecules[:, 1:] - molecules[:, :1], axis=-1)
    assert bonds.min() > 0.8
    assert bonds.max() < 1.3


@every_system
def test_the_molecules_do_not_overlap(level: str, part: str) -> None:
    coords = load(level, part, "coord").reshape(-1, NUM_ATOMS, 3)
    boxes = load(level, part, "box").reshape(-1, 3, 3)
    for coord, box in zip(coords, boxes, strict=True):
        pairs = NeighborList(cutoff=2.2, full_list=False).compute(coord[::3], box, True, "d")
        assert len(pairs[0]) == 0


@every_system
def test_the_forces_on_a_frame_cancel(level: str, part: str) -> None:
    force = load(level, part, "force").reshape(-1, NUM_ATOMS, 3)
    assert np.abs(force.sum(axis=1)).max() < 1e-2
    assert np.linalg.norm(force, axis=-1).max() < 15.0


@every_system
def test_the_virial_is_symmetric(level: str, part: str) -> None:
    virial = load(level, part, "virial").reshape(-1, 3, 3)
    np.testing.assert_allclose(virial, virial.transpose(0, 2, 1), atol=1e-6)


@every_system
def test_the_virial_has_the_sign_and_the_size_of_the_forces_inside_molecules(
    level: str, part: str
) -> None:
    # -dE/dstrain of a molecule is the sum of (r_H - r_O) . F_H, which we know without any strain;
    # it vibrates much more than the rest of the virial does.
    molecules = load(level, part, "coord").reshape(-1, 32, 3, 3)
    force = load(level, part, "force").reshape(-1, 32, 3, 3)
    inside = ((molecules[:, :, 1:] - molecules[:, :, :1]) * force[:, :, 1:]).sum(axis=(1, 2, 3))
    virial = load(level, part, "virial").reshape(-1, 3, 3).trace(axis1=1, axis2=2)
    assert np.corrcoef(inside, virial)[0, 1] > 0.85
    assert np.polyfit(inside, virial, 1)[0] == pytest.approx(1.0, abs=0.2)


@every_system
def test_the_states_take_turns_from_frame_to_frame(level: str, part: str) -> None:
    lengths = load(level, part, "box").reshape(-1, len(DENSITIES), 3, 3)[..., 0, 0]
    grams = 32 * 18.01528 / 6.02214e23
    np.testing.assert_allclose(grams / lengths**3 * 1e24, [DENSITIES] * len(lengths), rtol=1e-4)


@pytest.mark.parametrize("part", NUM_FRAMES)
def test_both_levels_of_theory_label_the_same_structures(part: str) -> None:
    for label in ("coord", "box"):
        np.testing.assert_array_equal(load("gfn1", part, label), load("gfn2", part, label))
    assert not np.allclose(load("gfn1", part, "force"), load("gfn2", part, "force"), atol=0.1)


def test_training_and_test_frames_are_different() -> None:
    train, test = load("gfn1", "train", "coord"), load("gfn1", "test", "coord")
    distances = np.abs(train[:, None, :] - test[None, :, :]).max(axis=-1)
    assert distances.min() > 1.0


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_no_atom_has_more_neighbours_than_the_input_keeps(path: Path) -> None:
    descriptor = json.loads(path.read_text())["model"]["descriptor"]
    repinit, repformer = descriptor["repinit"], descriptor["repformer"]
    coords = [load("gfn1", part, "coord").reshape(-1, NUM_ATOMS, 3) for part in NUM_FRAMES]
    boxes = [load("gfn1", part, "box").reshape(-1, 3, 3) for part in NUM_FRAMES]
    most = dict.fromkeys((repinit["rcut"], repinit["three_body_rcut"], repformer["rcut"]), 0)
    search = NeighborList(cutoff=max(most), full_list=True)
    for coord, box in zip(np.concatenate(coords), np.concatenate(boxes), strict=True):
        center, distance = search.compute(coord, box, True, "id")
        for cutoff in most:
            counts = np.bincount(center[distance < cutoff], minlength=NUM_ATOMS)
            most[cutoff] = max(most[cutoff], int(counts.max()))
    assert most[repinit["rcut"]] <= repinit["nsel"]
    assert most[repinit["three_body_rcut"]] <= repinit["three_body_sel"]
    assert most[repformer["rcut"]] <= repformer["nsel"]


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_the_inputs_name_data_that_exists(path: Path) -> None:
    training = json.loads(path.read_text())["training"]
    for section in ("training_data", "validation_data"):
        for system in training[section]["systems"]:
            assert (WATER.parents[1] / system / "type.raw").is_file()


def test_the_data_stays_small() -> None:
    folders = [WATER / level for level in ("gfn1", "gfn2")]
    sizes = [file.stat().st_size for folder in folders for file in folder.rglob("*.*")]
    assert sum(sizes) <= 3_000_000
