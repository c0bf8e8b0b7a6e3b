"""Fingerprints of data."""

import shutil

import numpy as np

from dpa2.data.system import fingerprint
from dpa2.data.systems import open_systems


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
