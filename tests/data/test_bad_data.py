"""One clear sentence for each way in which data can be wrong."""

import re
import shutil

import numpy as np
import pytest

from dpa2.data.cells import check_labels
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError


def save(path, name, values):
    np.save(path / "set.000" / f"{name}.npy", values)


def truncate(path):
    file = path / "set.000/force.npy"
    file.write_bytes(file.read_bytes()[:-8])


def write(name, text):
    return lambda path: (path / name).write_text(text)


def remove(name):
    def run(path):
        target = path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return run


def pickled(path):
    np.save(path / "set.000/energy.npy", np.array([{}] * 4), allow_pickle=True)


FAULTS = {
    "type.raw missing": (remove("type.raw"), "has sets but no type.raw"),
    "type.raw empty": (write("type.raw", ""), "type.raw is empty"),
    "type.raw words": (write("type.raw", "0 H 1"), "type.raw has 'H'"),
    "type.raw negative": (write("type.raw", "0 -1 1"), "negative type -1"),
    "type.raw short": (write("type.raw", "0 1"), "that is 3 atoms, but type.raw lists 2 atoms"),
    "type.raw binary": (
        lambda p: (p / "type.raw").write_bytes(b"\xff\xfe0"),
        "type.raw is not a text file",
    ),
    "type beyond map": (write("type.raw", "0 1 7"), "type 7, but type_map.raw names only 2"),
    "type_map empty": (write("type_map.raw", "\n"), "type_map.raw is empty"),
    "type_map twice": (write("type_map.raw", "H\nH\n"), "names H twice"),
    "no set": (remove("set.000"), "has no set.* folder"),
    "no coord": (remove("set.000/coord.npy"), "set.000/coord.npy is missing"),
    "no box": (remove("set.000/box.npy"), "box.npy is missing and there is no file nopbc"),
    "empty file": (lambda p: (p / "set.000/force.npy").write_bytes(b""), "force.npy is empty"),
    "no frames": (lambda p: save(p, "coord", np.zeros((0, 9))), "has no frames"),
    "truncated": (truncate, "force.npy is truncated"),
    "text file": (
        lambda p: (p / "set.000/force.npy").write_text("<html>not found</html>"),
        "force.npy is not a numpy array file",
    ),
    "pickle": (pickled, "energy.npy holds pickled Python objects"),
    "strings": (lambda p: save(p, "force", np.full((4, 9), "a")), "force.npy holds text"),
    "complex": (lambda p: save(p, "energy", np.ones(4, complex)), "holds complex numbers"),
    "box columns": (
        lambda p: save(p, "box", np.ones((4, 6))),
        r"box.npy has shape (4, 6), that is 6 columns; expected (4, 9)",
    ),
    "force columns": (
        lambda p: save(p, "force", np.ones((4, 8))),
        r"force.npy has shape (4, 8), that is 8 columns; expected (4, 9)",
    ),
    "force frames": (
        lambda p: save(p, "force", np.ones((3, 9))),
        "force.npy has 3 frames, coord.npy has 4",
    ),
    "flat box": (lambda p: save(p, "box", np.zeros((4, 9))), "frame 0 has a cell without volume"),
    "NaN box": (lambda p: save(p, "box", np.full((4, 9), np.nan)), "frame 0 has NaN"),
    "numb_copy": (lambda p: save(p, "numb_copy", np.zeros(4, int)), "leaves no frame"),
    "mixed without map": (
        lambda p: (
            save(p, "real_atom_types", np.zeros((4, 3), int)),
            (p / "type_map.raw").unlink(),
        ),
        "of mixed type and has no type_map.raw",
    ),
    "mixed types": (
        lambda p: save(p, "real_atom_types", np.full((4, 3), -2)),
        "has the type -2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_system_is_refused_in_one_sentence_that_names_it(make_system, fault):
    path = make_system()
    damage, message = FAULTS[fault]
    damage(path)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_systems(path, ["O", "H"])
    assert "water" in caught.value.message
    assert "\n" not in caught.value.message


def test_sets_must_agree_on_widths(make_system):
    path = make_system(sets=(2, 2), virial=9, fparam=2)
    np.save(path / "set.001/fparam.npy", np.ones((2, 3)))
    said = r"fparam.npy has 2 columns in one set and 3 in another"
    (system,) = open_systems(path)
    assert re.search(said, system.warnings[0])
    with pytest.raises(DataError, match=said):
        system.frames([0], ["fparam"])


def test_a_label_that_not_every_training_reads_is_refused_where_it_is_read(make_system):
    path = make_system()
    save(path, "aparam", np.ones((4, 4)))
    said = "aparam.npy has shape (4, 4), that is 4 columns; expected (4, k * 3)"
    (system,) = open_systems(path)
    assert said in system.warnings[0]
    assert not system.has("aparam")
    assert system.frames([0]).aparam is None
    for read in (lambda: system.frames([0], ["aparam"]), lambda: system.width("aparam")):
        with pytest.raises(DataError, match=re.escape(said)):
            read()


def test_sets_must_agree_on_being_mixed(make_system):
    path = make_system(sets=(2, 2), real_types=np.zeros((4, 3), int))
    (path / "set.001/real_atom_types.npy").unlink()
    with pytest.raises(DataError, match=r"set.001/real_atom_types.npy is missing"):
        open_systems(path)


@pytest.mark.parametrize(
    ("label", "place", "message"),
    [
        ("force", (2, 5), r"water: force of frame 2, atom 1, z is nan"),
        ("energy", (3,), r"water: energy of frame 3 is nan"),
        ("coord", (1, 0), r"water: coord of frame 1, atom 0, x is nan"),
        ("virial", (0, 8), r"water: virial of frame 0 is nan"),
        ("atom_ener", (0, 2), r"water: atom_energy of frame 0, atom 2 is nan"),
    ],
)
def test_nan_is_named_by_system_frame_and_atom(make_system, label, place, message):
    path = make_system(virial=9, atom_ener=3)
    values = np.load(path / f"set.000/{label}.npy")
    values[place] = np.nan
    save(path, label, values)
    (system,) = open_systems(path, ["O", "H"])
    with pytest.raises(DataError, match=message):
        check_labels(system.frames([3, 2, 1, 0]))


def test_nan_in_a_label_that_is_not_needed_is_let_through(make_system):
    path = make_system(virial=9)
    save(path, "virial", np.full((4, 9), np.nan))
    (system,) = open_systems(path, ["O", "H"])
    check_labels(system.frames([0]), need=("energy", "force"))
