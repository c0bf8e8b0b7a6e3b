import warnings
from pathlib import Path

import numpy as np
import pytest

from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import DroppedNeighborsWarning, Potential, load, predict_frames
from dpa2.formats.facts import Facts
from dpa2.formats.structures import check_structures
from schemas.base.errors import CheckpointError, ConversionError, DataError

ROOT = Path(__file__).parents[2]
CASES = ["small", "cluster", "fparam_aparam", "virtual_atoms", "triclinic_five_elements"]


def inputs(frames):
    return {key: frames.get(key) for key in ("coord", "box", "atype", "fparam", "aparam")}


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_checkpoint_gives_the_numbers_of_deepmd_kit(case, water_model):
    folder = water_model.parents[1] / case
    with np.load(folder / "expected.npz") as archive:
        expected = dict(archive)
    result = load(folder / "model.pt").predict(**inputs(expected))
    for name in ("energy", "force", "virial", "atom_energy", "atom_virial"):
        ours = getattr(result, name)
        np.testing.assert_allclose(ours, expected[name].reshape(ours.shape), rtol=0, atol=1e-10)


def test_every_accepted_shape_gives_the_same_numbers(water, frames):
    coord, box, atype = frames["coord"], frames["box"], frames["atype"]
    num_frames = len(coord)
    reference = water.predict(coord, box, atype)
    symbols = [water.type_map[number] for number in atype]
    for other in (
        water.predict(coord.reshape(num_frames, -1), box.reshape(num_frames, 9), atype),
        water.predict(coord.reshape(-1), box.reshape(-1), symbols),
        water.predict(coord, box, np.tile(atype, (num_frames, 1))),
        water.predict(coord.tolist(), box.tolist(), atype.tolist()),
    ):
        np.testing.assert_array_equal(other.force, reference.force)
    single = water.predict(coord[0], box[0], symbols)
    np.testing.assert_allclose(single.force[0], reference.force[0], atol=1e-12)


def test_one_cell_serves_all_frames(water, frames):
    coord = np.repeat(frames["coord"][:1], 3, axis=0)
    result = water.predict(coord, frames["box"][0], frames["atype"])
    np.testing.assert_allclose(result.energy, result.energy[0])


def test_groups_of_frames_give_the_same_numbers(water, frames):
    in_groups = Potential(water._engine, ["Default"], atoms_per_call=1)
    whole = water.predict(frames["coord"], frames["box"], frames["atype"], descriptor=True)
    parts = in_groups.predict(frames["coord"], frames["box"], frames["atype"], descriptor=True)
    for name in ("energy", "force", "virial", "atom_virial", "descriptor"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-11)


def test_atomic_virials_and_descriptors_come_on_request(water, frames):
    result = water.predict(frames["coord"], frames["box"], frames["atype"], atomic=False)
    assert result.atom_virial is None
    assert result.descriptor is None
    np.testing.assert_allclose(result.atom_energy.sum(axis=1), result.energy)


def test_single_precision_of_a_trained_model_is_close_to_its_double_precision():
    (system,) = open_systems([str(ROOT / "examples/water/gfn1/test")], ["O", "H"])
    single, double = (
        predict_frames(
            load(ROOT / "zoo/models/DPA2_water_tiny.pt", "H2O_GFN1-xTB", dtype=dtype),
            system.frames([0, 1]),
        )
        for dtype in ("float32", "float64")
    )
    # Measured over all frames: 1.1e-5 eV/Å, 1e-7 and 4e-7 eV an atom.
    differences = {
        name: np.abs(getattr(single, name) - getattr(double, name)).max()
        for name in ("force", "energy", "virial")
    }
    assert 1e-8 < differences["force"] <= 3e-5
    assert differences["energy"] / 96 <= 3e-7
    assert differences["virial"] / 96 <= 1e-6


def test_positions_are_rounded_only_after_differences_are_taken(water_model, frames):
    """Far from the origin single precision tells positions apart by 0.06 Å."""
    potential = load(water_model, dtype="float32")
    here, far = (
        potential.predict(frames["coord"] + shift, frames["box"], frames["atype"])
        for shift in (0.0, 1e6)
    )
    np.testing.assert_allclose(far.force, here.force, rtol=0, atol=1e-5)
    assert here.force.dtype == here.energy.dtype == np.float64


def test_a_precision_that_is_none_is_refused(water_model):
    with pytest.raises(ConversionError, match="cannot be of type `float16`") as caught:
        load(water_model, dtype="float16")
    assert "float32, float64" in str(caught.value.hint)


def test_a_model_tells_what_it_is(water):
    assert water.type_map == ["O", "H"]
    assert water.branches == ["Default"]
    assert water.rcut > 0
    assert water.model_params["descriptor"]["type"] == "dpa2"


def test_dropped_neighbours_warn_once(water_model):
    folder = water_model.parents[1] / "truncated"
    potential = load(folder / "model.pt")
    with np.load(folder / "expected.npz") as archive:
        arguments = inputs(dict(archive))
    with pytest.warns(DroppedNeighborsWarning, match="nsel"):
        potential.predict(**arguments)
    counted = potential.num_dropped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential.predict(**arguments)
    assert potential.num_dropped == 2 * counted > 0


def changed(frames, **changes):
    return {"coord": frames["coord"], "box": frames["box"], "atype": frames["atype"]} | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"coord": f["coord"][:, :-1]}, "coord has the shape"),
        (lambda f: {"coord": np.where(f["coord"] > 2, np.nan, f["coord"])}, "not a finite number"),
        (lambda _: {"coord": "here"}, "not an array of numbers"),
        (lambda _: {"box": np.zeros((3, 3))}, "no volume"),
        (lambda _: {"box": np.ones(4)}, "box has the shape"),
        (lambda f: {"atype": f["atype"] + 1}, "does not exist"),
        (lambda f: {"atype": f["atype"] + 0.5}, "float64 values"),
        (lambda f: {"atype": ["Zr"] * len(f["atype"])}, "does not know Zr; it knows O H"),
        (lambda _: {"fparam": [1.0]}, "takes no fparam"),
        (lambda _: {"aparam": [1.0]}, "takes no aparam"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(water, frames, change, message):
    with pytest.raises(DataError, match=message):
        water.predict(**changed(frames, **change(frames)))


def test_a_misspelt_element_has_a_suggestion(water, frames):
    with pytest.raises(DataError) as caught:
        water.predict(**changed(frames, atype=["h"] * len(frames["atype"])))
    assert "did you mean H" in caught.value.hint


def test_missing_parameters_are_named():
    model = Facts(type_map=["O"], rcut=4.0, sel=[9], dim_fparam=2, dim_aparam=1)
    with pytest.raises(DataError, match="needs fparam: 2 numbers per frame"):
        check_structures(model, np.zeros((1, 3)), None, [0], aparam=[1.0])
    with pytest.raises(DataError, match="needs aparam: 1 numbers per atom"):
        check_structures(model, np.zeros((1, 3)), None, [0], fparam=[1.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"branch": "water_2"}, "single-task"), ({"device": "toaster"}, "no device called toaster")],
)
def test_what_is_not_there_is_refused(water_model, options, message):
    with pytest.raises(CheckpointError, match=message):
        load(water_model, **options)
