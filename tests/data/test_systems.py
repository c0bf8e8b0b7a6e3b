"""From `systems` in an input file to systems, and their fingerprints."""

import shutil

import numpy as np
import pytest

from dpa2.data.system import fingerprint
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError
from tests.containers import to_hdf5


def test_roots_are_searched_recursively_in_sorted_order(make_system, tmp_path):
    for name in ("z", "a/deep/er", "m"):
        make_system(name)
    names = [system.name for system in open_systems(tmp_path)]
    assert names == [str(tmp_path / name) for name in ("a/deep/er", "m", "z")]


def test_several_roots_keep_their_order(make_system):
    second, first = make_system("b"), make_system("a")
    assert [s.path for s in open_systems([second, first])] == [second, first]


def test_patterns_restrict_the_search(make_system, tmp_path):
    make_system("ice_1"), make_system("water_1"), make_system("ice_0")
    systems = open_systems(tmp_path, rglob_patterns=["ice_*", "*_0"])
    assert [s.path.name for s in systems] == ["ice_0", "ice_1"]
    with pytest.raises(DataError, match=r"no system that matches steam_\*"):
        open_systems(tmp_path, rglob_patterns=["steam_*"])


def test_a_system_listed_twice_is_a_warning(make_system):
    path = make_system()
    systems = open_systems([path, path])
    assert "more than once" in systems[1].warnings[0]


def test_bad_roots_are_named(make_system, tmp_path):
    path = make_system()
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.xyz").write_text("3\n")
    cases = {
        tmp_path / "nowhere": "no such file or folder: .*nowhere",
        tmp_path / "wat*": "no such file or folder",
        tmp_path / "empty": "empty holds no system",
        tmp_path / "w.xyz": "w.xyz is a file",
        path / "set.000": "set.000 is one set of a system",
    }
    for root, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            open_systems(root)
        assert caught.value.hint
    with pytest.raises(DataError, match="list of systems is empty"):
        open_systems([])


@pytest.mark.parametrize("periodic", [True, False])
def test_hdf5_gives_the_same_frames_as_folders(make_system, tmp_path, periodic):
    folder = make_system(sets=(3, 2), periodic=periodic, virial=9, fparam=2)
    file = tmp_path / "data.h5"
    to_hdf5(folder, file, "some/water")
    (plain,) = open_systems(folder, ["H", "O"])
    (hdf5,) = open_systems(f"{file}#/some/water", ["H", "O"])
    order = [4, 1, 1, 0]
    for name in ("coord", "box", "atom_types", "energy", "force", "virial", "fparam"):
        expected, found = (getattr(s.frames(order), name) for s in (plain, hdf5))
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)


def test_a_whole_hdf5_file_gives_all_its_systems(make_system, tmp_path):
    file = tmp_path / "data.hdf5"
    for name in ("b", "a/c"):
        to_hdf5(make_system(name), file, name)
    assert [s.name for s in open_systems(file)] == [f"{file}#/a/c", f"{file}#/b"]


def test_bad_hdf5_files_are_named(make_system, tmp_path):
    file = tmp_path / "data.h5"
    to_hdf5(make_system(), file, "water")
    with pytest.raises(DataError, match="has no group /ice") as caught:
        open_systems(f"{file}#/ice")
    assert "/water" in caught.value.hint
    with pytest.raises(DataError, match="no such file"):
        open_systems(f"{tmp_path}/none.h5#/water")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        open_systems(tmp_path / "text.h5")


def test_moved_or_reordered_data_keep_their_fingerprint(make_system, tmp_path):
    paths = [make_system("a"), make_system("b", seed=1)]
    before = fingerprint(open_systems(paths))
    assert fingerprint(open_systems(paths[::-1])) == before
    shutil.copytree(paths[0], tmp_path / "elsewhere/c")
    assert fingerprint(open_systems([paths[1], tmp_path / "elsewhere"])) == before


def test_any_changed_number_or_system_changes_the_fingerprint(make_system):
    paths = [make_system("a"), make_system("b", seed=1)]
    before = fingerprint(open_systems(paths))
    assert fingerprint(open_systems(paths[:1])) != before
    energy = np.load(paths[0] / "set.000/energy.npy")
    np.save(paths[0] / "set.000/energy.npy", energy + 1000)
    assert fingerprint(open_systems(paths)) != before
