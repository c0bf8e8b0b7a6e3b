"""Reading LMDB data bases."""

import lmdb
import msgpack
import numpy as np
import pytest

from dpa2.data.systems import open_systems
from schemas.base.errors import DataError
from tests.containers import write_lmdb


def make_lmdb(path, frames, **metadata):
    return write_lmdb(path, frames, **{"type_map": ["O", "H"], **metadata})


def frame(number, types, *, cell=8.0, **labels):
    rng = np.random.default_rng(number)
    atoms = len(types)
    return {
        "coords": rng.uniform(0, 8, (atoms, 3)),
        "cells": np.eye(3) * cell,
        "atom_types": np.array(types, np.int32),
        "energies": np.float64(number),
        "forces": rng.normal(size=(atoms, 3)).astype(np.float32),
        "orig": np.zeros(3),
        **labels,
    }


def test_frames_are_grouped_by_size_boundaries_and_labels(tmp_path):
    frames = [
        frame(0, [0, 1, 1]),
        frame(1, [0, 1]),
        frame(2, [1, 0, 1]),
        frame(3, [0, 1, 1], cell=0.0),
        frame(4, [0, 1, 1], virials=np.eye(3), atomic_ener=np.ones(3)),
    ]
    systems = open_systems(make_lmdb(tmp_path / "d.lmdb", frames), ["H", "O"])
    energies = [s.frames(range(s.num_frames)).energy.tolist() for s in systems]
    assert energies == [[1.0], [3.0], [4.0], [0.0, 2.0]]
    assert [s.num_atoms for s in systems] == [2, 3, 3, 3]
    assert [s.periodic for s in systems] == [True, False, True, True]
    assert systems[2].has("virial")
    assert systems[2].has("atom_energy")
    assert len({s.name for s in systems}) == 4
    batch = systems[3].frames([1, 0])
    assert batch.atom_types.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert batch.force.dtype == np.float64
    assert batch.box.shape == (2, 3, 3)


def test_system_ids_give_the_order(tmp_path):
    frames = [frame(0, [0, 1, 1]), frame(1, [0, 1]), frame(2, [0, 1])]
    path = make_lmdb(tmp_path / "d.lmdb", frames, frame_system_ids=[0, 2, 1])
    assert [s.frames([0]).energy[0] for s in open_systems(path)] == [0.0, 2.0, 1.0]


def test_an_element_missing_from_the_type_map_is_named(tmp_path):
    path = make_lmdb(tmp_path / "d.lmdb", [frame(0, [0, 1, 1])])
    with pytest.raises(DataError, match=r"d.lmdb has H \(2 atoms\)"):
        open_systems(path, ["O"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords": np.zeros((2, 3))}, r"coord of shape \(2, 3\) for 3 atom types"),
        ({"forces": np.zeros((2, 3))}, r"force has shape \(2, 3\)"),
        ({"atom_types": np.array([0, 1, -3])}, "type -3"),
        ({"atom_types": np.array([0, 1, 5])}, "type 5"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    path = make_lmdb(tmp_path / "d.lmdb", [{**frame(0, [0, 1, 1]), **change}])
    with pytest.raises(DataError, match=message):
        open_systems(path)[0].frames([0])


def test_incomplete_data_bases_are_named(tmp_path):
    path = make_lmdb(tmp_path / "short.lmdb", [frame(0, [0])], nframes=2)
    with pytest.raises(DataError, match="no record 000001"):
        open_systems(path)
    path = make_lmdb(tmp_path / "uncounted.lmdb", [frame(0, [0])])
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as out:
        out.put(b"__metadata__", msgpack.packb({"type_map": ["O"]}))
    with pytest.raises(DataError, match="no nframes"):
        open_systems(path)
    bad = tmp_path / "bad.lmdb"
    bad.mkdir()
    (bad / "data.mdb").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="not a readable LMDB"):
        open_systems(bad)
