"""Systems as other people keep them: links, locks, pointers, arrays without their axis."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import load
from dpa2.training.stat_file import StatisticsFile
from schemas.base.errors import CheckpointError, DataError, ZooError
from schemas.check.data_folders import systems_below
from tests.cli.conftest import changed
from tests.commands import outcome
from tests.containers import to_hdf5, write_lmdb
from tests.strangers.runs import quiet, small_input, zoo
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import write_system

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
SHORT = small_input("a", steps=2, batch_size=1)


def names(root, **options):
    return [system.name for system in open_systems(root, ["O", "H"], **options)]


@situation("""data kept once, linked into several trainings | a symbolic link to a system below the
    folder | it counts, as in deepmd-kit""")
def test_a_link_to_a_system_counts(here):
    write_system(here / "store" / "a", 6, 2, seed=1)
    write_system(here / "data" / "b", 6, 2, seed=2)
    (here / "data" / "a").symlink_to(here / "store" / "a")
    assert names("data") == ["data/a", "data/b"]
    assert [str(path) for path in systems_below(str(here / "data"))] == [
        str(here / "data" / name) for name in "ab"
    ]
    assert names("data", rglob_patterns=["a*"]) == ["data/a"]


@situation("""data kept once, linked into several trainings | a symbolic link to a folder of systems
    | not entered, as in deepmd-kit, and said""")
def test_a_link_to_a_folder_of_systems_is_not_entered(here):
    write_system(here / "store" / "a", 6, 2, seed=1)
    write_system(here / "data" / "b", 6, 2, seed=2)
    (here / "data" / "more").symlink_to(here / "store")
    (system,) = open_systems("data", ["O", "H"])
    assert system.name == "data/b"
    assert any("data/more is a symbolic link to a folder of systems" in w for w in system.warnings)


@situation("a folder linked into itself | a loop of links | found and said; the walk ends")
def test_a_loop_ends(here):
    write_system(here / "data", 6, 2, seed=2)
    (here / "data" / "self").symlink_to(here / "data")
    (here / "data" / "set.000" / "up").symlink_to(here)
    (system,) = open_systems("data", ["O", "H"])
    assert system.name == "data"
    assert sum("leads back to" in note for note in system.warnings) == 2
    assert [str(path) for path in systems_below(str(here / "data"))] == [str(here / "data")]


@situation("""a folder with links | the same system under two names | it weighs double, which is
    said""")
def test_the_same_system_by_two_names(here):
    write_system(here / "data" / "b", 6, 2, seed=2)
    (here / "data" / "c").symlink_to(here / "data" / "b")
    first, second = open_systems("data", ["O", "H"])
    assert not first.warnings
    assert "listed more than once (also as data/b)" in second.warnings[0]


def in_use(path):
    """Start a process that has an HDF5 file open for writing."""
    code = (
        "import h5py, sys\n"
        f"file = h5py.File({str(path)!r}, 'a')\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


@situation("""HDF5 | another process has the file open for writing | in use; never damaged, delete
    it""")
def test_a_locked_file_is_in_use(here):
    with h5py.File("data.h5", "w") as file:
        file["type.raw"] = [0]
    for path in ("stat.hdf5", "model.dp"):
        with h5py.File(path, "w") as file:
            file.create_group("O H")
    for path, read in (
        ("data.h5", lambda: open_systems("data.h5")),
        (
            "stat.hdf5",
            lambda: StatisticsFile(here / "stat.hdf5", ["O", "H"], read_only=False).read(["x"]),
        ),
        ("model.dp", lambda: load("model.dp")),
    ):
        process = in_use(here / path)
        try:
            with pytest.raises(ZooError, match="in use by another process") as caught:
                read()
        finally:
            process.communicate()
        assert "delete" not in caught.value.hint
        assert (here / path).exists()


def pointer_for(here, kind):
    """Put a Git LFS pointer where a file of data should be; return what is opened."""
    if kind == "h5":
        (here / "d.h5").write_text(POINTER)
        return "d.h5"
    if kind == "lmdb":
        (here / "d.lmdb").mkdir()
        (here / "d.lmdb" / "data.mdb").write_text(POINTER)
        return "d.lmdb"
    write_system(here / "a", 6, 2, seed=1)
    (here / "a" / {"npy": "set.000/coord.npy", "raw": "type.raw"}[kind]).write_text(POINTER)
    return "a"


@pytest.mark.parametrize("kind", [
    case("Git LFS | a pointer for coord.npy | called so", "npy"),
    case("Git LFS | a pointer for type.raw | called so", "raw"),
    case("Git LFS | a pointer for HDF5 data | called so", "h5"),
    case("Git LFS | a pointer for data.mdb | called so", "lmdb"),
])  # fmt: skip
def test_a_pointer_of_git_lfs_is_called_so(here, kind):
    place = pointer_for(here, kind)
    with pytest.raises(DataError, match="pointer of Git LFS") as caught:
        open_systems(place)
    assert "git lfs pull" in caught.value.hint
    result = outcome("data", "check", place, "--json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert "pointer of Git LFS" in finding["message"]


@situation("Git LFS | a pointer for a checkpoint | called so")
def test_a_checkpoint_that_is_a_pointer(here):
    (here / "model.pt").write_text(POINTER)
    with pytest.raises(CheckpointError, match="Git LFS"):
        load("model.pt")


def one_frame(path, types, more=None, **metadata):
    record = {
        "coord": np.arange(3.0 * len(types)).reshape(-1, 3),
        "box": 30 * np.eye(3),
        "atype": np.array(types, dtype=np.int32),
        "energy": np.float64(-1.0),
    }
    return str(write_lmdb(path, [record | (more or {})], **metadata))


@situation("""LMDB by deepmd-kit's writers | no type_map in the metadata | type numbers are those of
    the model, said""")
def test_lmdb_without_element_names(here):
    place = one_frame(here / "d.lmdb", [0, 1, 1])
    (system,) = open_systems(place, ["O", "H"])
    assert system.frames([0]).atom_types.tolist() == [[0, 1, 1]]
    assert "positions in the model's type_map (O H)" in system.warnings[0]
    (nameless,) = open_systems(place)
    assert nameless.type_map is None
    with pytest.raises(DataError, match="of type 1, but the model's type_map names only 1"):
        open_systems(place, ["O"])


ZEROS = {"type": "<f8", "shape": [3, 3], "data": bytes(72)}
"""Forces as an LMDB record holds them."""


@pytest.mark.parametrize(("more", "labels"), [
    case("LMDB by a writer of full records | zeros for forces that are not there, find_force 0 | "
         "no forces, as in deepmd-kit", {"force": ZEROS, "find_force": 0.0}, {"energy"}),
    case("LMDB | find_energy 0, find_box 1 | no energy, the cell is kept",
         {"forces": ZEROS, "find_energy": 0, "find_box": 1.0}, {"force"}),
    case("LMDB | find_force 1 as an array | forces",
         {"force": ZEROS, "find_force": {"type": "<f4", "shape": [], "data": b"\0\0\x80?"}},
         {"energy", "force"}),
    case("LMDB | nothing where forces would be | no forces", {"force": None, "find_force": 0.0},
         {"energy"}),
])  # fmt: skip
def test_placeholders_of_lmdb_are_no_labels(here, more, labels):
    (system,) = open_systems(one_frame(here / "d.lmdb", [0, 1, 1], more, type_map=["O", "H"]))
    assert system.labels == labels
    assert system.periodic
    assert np.allclose(system.frames([0]).box, 30 * np.eye(3))


@situation("LMDB | named by a path and by a link to it | opened once, as LMDB demands")
def test_lmdb_by_two_paths(here):
    place = one_frame(here / "d.lmdb", [0, 1, 1], type_map=["O", "H"])
    (here / "link.lmdb").symlink_to(here / "d.lmdb")
    assert len(open_systems([place, "link.lmdb", "./d.lmdb"], ["O", "H"])) == 3


def flatten(folder):
    """Save the arrays of a single frame without the axis of frames."""
    for file in (folder / "set.000").glob("*.npy"):
        np.save(file, np.load(file).reshape(-1))
    energy = folder / "set.000" / "energy.npy"
    np.save(energy, np.load(energy).reshape(()))


@situation("""deepmd/npy by hand | a set of one frame whose arrays have one dimension | read and
    trained on, as deepmd-kit does""")
def test_a_single_frame_without_its_axis(here):
    write_system(here / "a", 6, 1, seed=1)
    expected = open_systems("a")[0].frames([0])
    flatten(here / "a")
    frames = open_systems("a")[0].frames([0])
    for name in ("coord", "box", "energy", "force"):
        assert np.array_equal(getattr(frames, name), getattr(expected, name))
    quiet(SHORT)
    assert "a/set.000" not in zoo(SHORT, "validate").stdout


@situation("""deepmd/npy of another model | aparam.npy of another shape, which the model does not
    take | trained on as if it were not there, said""")
def test_an_unused_label_of_another_shape(here):
    write_system(here / "a", 6, 3, seed=1)
    quiet(SHORT, output_dir="plain")
    np.save(here / "a" / "set.000" / "aparam.npy", np.zeros((3, 5)))
    (system,) = open_systems("a")
    assert "aparam.npy has shape (3, 5)" in system.warnings[0]
    quiet(SHORT, output_dir="with")
    assert (here / "with/lcurve.out").read_text() == (here / "plain/lcurve.out").read_text()


@situation("""deepmd/npy of another model | aparam.npy of a wrong shape, which the model takes |
    refused, with the shape""")
def test_a_needed_label_of_a_wrong_shape(here):
    write_system(here / "a", 6, 3, seed=1)
    np.save(here / "a" / "set.000" / "aparam.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"aparam.npy has shape \(3, 5\)"):
        quiet(changed(SHORT, {"model.fitting_net.numb_aparam": 1}))


@pytest.mark.parametrize("layout", ["npy", "hdf5"])
@situation("""crystals with virials beside molecules without a cell | zoo validate and zoo data
    check on both | no word of virials: a molecule has none""")
def test_molecules_need_no_virials(here, layout):
    write_system(here / "a", 6, 3, seed=1)
    write_system(here / "b", 6, 3, seed=2)
    np.save(here / "a" / "set.000" / "virial.npy", np.zeros((3, 9)))
    (here / "b" / "set.000" / "box.npy").unlink()
    (here / "b" / "nopbc").touch()
    if layout == "hdf5":
        to_hdf5(here / "b", here / "b.h5", "b")
    loss = {"start_pref_v": 0.02, "limit_pref_v": 1.0}
    document = small_input("a", "b" if layout == "npy" else "b.h5#/b", loss=loss)
    assert "virial" not in zoo(document, "validate").stdout
    (here / "b" / "nopbc").unlink()
    if layout == "npy":
        np.save(here / "b" / "set.000" / "box.npy", np.tile(9 * np.eye(3).ravel(), (3, 1)))
        assert "b has no virial.npy" in zoo(document, "validate").stdout


@situation("""two data sets, one of them without virials | zoo init on both | pref_v stays on; the
    term is left out where it is missing""")
def test_init_keeps_a_term_that_some_data_have(here):
    for number, name in enumerate(("with", "without")):
        write_system(here / name, 8, 3, seed=number)
    np.save(here / "with" / "set.000" / "virial.npy", np.ones((3, 9)))
    result = outcome("init", "with", "without", "--json")
    assert result.exit_code == 0, result.output
    loss = json.loads(result.stdout)["input"]["loss"]
    assert loss["start_pref_v"] > 0
