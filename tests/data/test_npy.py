"""Reading systems in the deepmd/npy layout."""

import numpy as np
import pytest

from dpa2.data.systems import open_systems
from schemas.base.errors import DataError


def open_one(path, type_map=("O", "H")):
    (system,) = open_systems(path, type_map)
    return system


def test_frames_have_the_documented_shapes_and_dtypes(make_system):
    path = make_system(virial=9, fparam=2, aparam=3 * 4, atom_ener=3, atom_pref=3, drdq=18)
    frames = open_one(path).frames([2, 0])
    shapes = {
        "coord": (2, 3, 3),
        "box": (2, 3, 3),
        "energy": (2,),
        "force": (2, 3, 3),
        "virial": (2, 3, 3),
        "atom_energy": (2, 3),
        "atom_pref": (2, 3, 3),
        "fparam": (2, 2),
        "aparam": (2, 3, 4),
        "drdq": (2, 3, 6),
    }
    for name, shape in shapes.items():
        values = getattr(frames, name)
        assert values.shape == shape, name
        assert values.dtype == np.float64, name
    assert frames.atom_types.dtype == np.int64
    assert frames.energy.tolist() == [2.0, 0.0]
    assert frames.indices.tolist() == [2, 0]


def test_a_force_weight_per_atom_counts_for_its_three_components(make_system):
    frames = open_one(make_system(atom_pref=3)).frames([0, 1])
    np.testing.assert_array_equal(frames.atom_pref, frames.atom_pref[..., :1].repeat(3, axis=-1))


def test_a_force_weight_per_component_is_read_as_it_stands(make_system):
    path = make_system(atom_pref=9)
    stored = np.load(path / "set.000" / "atom_pref.npy").reshape(-1, 3, 3)
    np.testing.assert_array_equal(open_one(path).frames([1, 0]).atom_pref, stored[[1, 0]])


def test_frames_are_read_across_sets_in_the_order_asked_for(make_system):
    system = open_one(make_system(sets=(3, 1, 2)))
    order = [5, 0, 3, 2, 4, 1, 3]
    assert system.num_frames == 6
    assert system.frames(order).energy.tolist() == order
    np.testing.assert_array_equal(system.frames([3]).coord[0], system.frames(order).coord[2])


def test_atoms_keep_the_order_of_the_file(make_system):
    path = make_system(types=(1, 0, 1))
    stored = np.load(path / "set.000/coord.npy").reshape(-1, 3, 3)
    frames = open_one(path).frames(range(4))
    np.testing.assert_array_equal(frames.coord, stored)
    assert frames.atom_types[0].tolist() == [1, 0, 1]


def test_types_are_translated_to_the_type_map_of_the_model(make_system):
    system = open_one(make_system(), ["H", "C", "O"])
    assert system.frames([0]).atom_types.tolist() == [[2, 0, 0]]
    assert system.type_counts() == {0: 2, 2: 1}


def test_a_single_frame_may_lack_its_frame_axis(make_system):
    path = make_system(sets=(1, 2))
    set_folder = path / "set.000"
    for name in ("coord", "force", "box"):
        np.save(set_folder / f"{name}.npy", np.load(set_folder / f"{name}.npy")[0])
    np.save(set_folder / "energy.npy", np.float64(7.0))
    system = open_one(path)
    assert system.num_frames == 3
    assert system.frames([1, 0]).energy.tolist() == [1.0, 7.0]
    assert system.frames([0]).force.shape == (1, 3, 3)


def test_labels_may_come_in_natural_shapes_and_other_dtypes(make_system):
    path = make_system()
    set_folder = path / "set.000"
    force = np.load(set_folder / "force.npy").astype(np.float32).reshape(4, 3, 3)
    np.save(set_folder / "force.npy", force)
    np.save(set_folder / "energy.npy", np.arange(4)[:, np.newaxis])
    frames = open_one(path).frames([1])
    np.testing.assert_array_equal(frames.force[0], force[1].astype(np.float64))
    assert frames.energy.tolist() == [1.0]


def test_a_folder_with_nopbc_needs_no_box(make_system):
    system = open_one(make_system(periodic=False))
    assert not system.periodic
    assert system.frames([0]).box is None


@pytest.mark.parametrize("stem", ["atom_ener", "atomic_ener"])
def test_both_spellings_of_atomic_labels_are_read(make_system, stem):
    system = open_one(make_system(**{stem: 3}))
    assert system.has("atom_energy")
    assert system.has("atom_ener")
    assert system.frames([0]).atom_energy.shape == (1, 3)


def test_only_the_labels_asked_for_are_read(make_system):
    frames = open_one(make_system(virial=9)).frames([0], labels=("energy",))
    assert frames.force is None
    assert frames.virial is None
    assert frames.energy is not None


def test_a_label_missing_from_one_set_is_ignored_with_a_warning(make_system):
    path = make_system(sets=(2, 2), virial=9)
    (path / "set.001/virial.npy").unlink()
    system = open_one(path)
    assert not system.has("virial")
    assert "virial.npy is in 1 of 2 sets" in system.warnings[0]


def test_mixed_systems_have_types_per_frame_and_padding(make_system):
    real = np.array([[0, 1, -1], [1, 1, 0], [0, -1, -1], [1, 0, 0]])
    system = open_one(make_system(types=(0, 0, 0), real_types=real), ["H", "O"])
    assert system.mixed
    frames = system.frames([0, 2])
    assert frames.atom_types.tolist() == [[1, 0, -1], [1, -1, -1]]
    assert frames.real_atoms.tolist() == [2, 1]
    assert system.type_counts() == {0: 4, 1: 5}


def test_widths_tell_the_number_of_parameters(make_system):
    system = open_one(make_system(fparam=2, aparam=12))
    assert system.width("fparam") == 2
    assert system.width("aparam") == 4
    assert system.width("virial") is None


def test_a_missing_type_map_is_a_warning(make_system):
    system = open_one(make_system(type_map=None))
    assert "has no type_map.raw" in system.warnings[0]
    assert system.frames([0]).atom_types.tolist() == [[0, 1, 1]]


def test_an_element_that_no_atom_uses_is_only_a_warning(make_system):
    system = open_one(make_system(type_map=("O", "H", "Xe")))
    assert "Xe" in system.warnings[0]


def test_left_handed_cells_are_a_warning(make_system):
    path = make_system()
    np.save(path / "set.000/box.npy", np.tile(np.diag([8, 8, -8.0]).reshape(9), (4, 1)))
    assert "left-handed" in open_one(path).warnings[0]


def test_unknown_label_names_are_refused_with_a_suggestion(make_system):
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        open_one(make_system()).has("enery")


def test_frame_numbers_out_of_range_are_refused(make_system):
    with pytest.raises(ValueError, match="frames 0 to 3"):
        open_one(make_system()).frames([4])


def test_an_element_missing_from_the_type_map_is_named_with_its_count(make_system):
    path = make_system()
    with pytest.raises(DataError, match=r"water has H \(2 atoms\).*\(C O\)") as caught:
        open_one(path, ["C", "O"])
    assert caught.value.hint
