"""A bad frame among good ones: named by its number in its system, the others evaluated."""

import json

import ase.io
import numpy as np
import pytest

from dpa2.evaluate.potential import load
from dpa2.training.run import train
from schemas.base.errors import DataError
from tests.commands import document, zoo
from tests.containers import to_hdf5, write_lmdb, write_npy
from tests.evaluate.conftest import GOLDEN
from tests.strangers.runs import small_input
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import write_system

WATER = str(GOLDEN / "small" / "model.pt")
FRAMES = 7
BAD = 5
"""The bad frame's number in its system; it is the third of set.001."""
BRANCHES = str(GOLDEN / "multitask" / "model.pt")


def water():
    """Return arrays of frames that the golden model can evaluate, and its energies."""
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        known = dict(archive)
    rng = np.random.default_rng(1)
    coord = known["coord"][[0] * FRAMES] + rng.normal(0, 0.02, (FRAMES, 12, 3))
    box = known["box"][[0] * FRAMES]
    found = load(WATER).predict(coord, box, known["atype"], atomic=False)
    arrays = {"coord": coord, "box": box, "energy": found.energy + 0.5, "force": found.force}
    return arrays, known["atype"]


FAULTS = {
    "coincide": ("coord", 4, None, "atoms 4 and 7 are at the same place"),
    "position": ("coord", (3, 1), np.nan, "coord, atom 3, y is nan"),
    "energy": ("energy", (), np.nan, "energy is nan"),
    "force": ("force", (2, 0), np.inf, "force, atom 2, x is inf"),
    "flat": ("box", (), 0.0, "a cell without volume"),
    "cell": ("box", (1, 1), np.nan, "box is nan"),
}
"""Array of a frame, place in it, value (None: as atom 7), what is said."""


def spoil(arrays, fault, frame=BAD):
    """Put a fault into a frame."""
    name, place, value, _ = FAULTS[fault]
    place = (frame, *np.atleast_1d(place).astype(int))
    arrays[name][place] = arrays[name][frame, 7] if value is None else value


SETS = (3, 4)


def as_npy(folder, arrays, types):
    return write_npy(folder, arrays, types, sizes=SETS)


def as_hdf5(folder, arrays, types):
    return to_hdf5(as_npy(folder, arrays, types), folder.with_suffix(".h5"), "water")


def as_mixed(folder, arrays, types):
    return as_npy(folder, {**arrays, "real_atom_types": np.tile(types, (FRAMES, 1))}, types * 0)


def as_lmdb(folder, arrays, types, elements=("O", "H")):
    """Write a data base whose first record is of another size, so that it has two parts."""
    kinds = np.broadcast_to(types, (FRAMES, 12))
    records = [
        {name: values[frame] for name, values in arrays.items()} | {"atype": kinds[frame]}
        for frame in range(FRAMES)
    ]
    small = {name: x[:3] if np.shape(x)[:1] == (12,) else x for name, x in records[0].items()}
    place = folder.with_suffix(".lmdb")
    return write_lmdb(place, [small, *records], type_map=list(elements))


LAYOUTS = {"npy": as_npy, "hdf5": as_hdf5, "mixed": as_mixed, "lmdb": as_lmdb}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a system with one bad frame."""

    def make(fault, layout="npy"):
        arrays, types = water()
        spoil(arrays, fault)
        return LAYOUTS[layout](tmp_path / "water", arrays, types)

    return make


@pytest.mark.parametrize(("fault", "layout"), [
    case("AIMD explored far from equilibrium | two atoms coincide in frame 5, which is row 2 of "
         "set.001 | named frame 5 of its system; the errors are those of the other frames",
         "coincide", "npy"),
    case("deepmd/hdf5 | atoms coincide in a frame of the second set | frame 5 of the group",
         "coincide", "hdf5"),
    case("deepmd/npy/mixed | NaN in a position | frame 5, atom 3, y", "position", "mixed"),
    case("LMDB with frames of several sizes | atoms coincide in record 6, frame 5 of the frames of "
         "its size | both numbers are said", "coincide", "lmdb"),
    case("a crashed calculation | NaN for an energy | frame 5 is left out", "energy", "npy"),
    case("a crashed calculation | inf for a force | frame 5 is left out", "force", "npy"),
    case("a converter that lost one cell | box of zeros in one frame | frame 5 is left out", "flat",
         "npy"),
    case("a converter | NaN in the cell of one frame | frame 5 is left out", "cell", "npy"),
])  # fmt: skip
def test_test_leaves_a_bad_frame_out(make, fault, layout, tmp_path):
    details = tmp_path / "details"
    result = zoo("test", "-m", WATER, "-s", make(fault, layout), "--json", "-d", details)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["ok"]
    (bad,) = found["bad_frames"]
    assert bad["frame"] == BAD
    assert FAULTS[fault][-1] in bad["reason"]
    assert "water" in bad["system"]
    named = f"frame {BAD} (record {BAD + 1})" if layout == "lmdb" else f"frame {BAD}:"
    assert named in result.stderr
    here = found["systems"][-1]
    assert (here["num_frames"], here["num_bad_frames"]) == (FRAMES - 1, 1)
    assert here["errors"]["energy"]["rmse"] == pytest.approx(0.5)
    rows = np.loadtxt(f"{details}.e.out")[-FRAMES:]
    assert np.flatnonzero(np.isnan(rows[:, 1])).tolist() == [BAD]


@pytest.mark.parametrize("words", [
    case("dp test | a bad frame, --strict | the test ends and names the frame",
         ["test", "-m", WATER, "--strict"]),
    case("zoo bias | a bad frame | named by system and number", ["bias", WATER, "-o", "out.pt"]),
])  # fmt: skip
@pytest.mark.parametrize("fault", FAULTS)
def test_what_stops_at_a_bad_frame_names_it(make, fault, words, here):
    with pytest.raises(DataError, match=rf"water.*frame {BAD}\b"):
        zoo(*words, "-s", make(fault))


@pytest.mark.parametrize("fault", [
    case("an explored trajectory for dp model-devi | two atoms coincide in one frame | a row of "
         "nan at its step, exit code 1", "coincide"),
    case("an explored trajectory | a cell without volume | a row of nan at its step", "flat"),
])  # fmt: skip
def test_deviation_keeps_its_rows(make, fault, tmp_path):
    output = tmp_path / "model_devi.out"
    system = make(fault)
    arguments = ("deviation", "-m", WATER, "-m", WATER, "-s", system, "-o", output)
    (entry,) = document(*arguments, "--atomic", code=1)["systems"]
    rows = np.loadtxt(output)
    assert rows[:, 0].tolist() == list(range(FRAMES))
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [BAD]
    assert np.isnan(rows[BAD, 1:]).all()
    assert FAULTS[fault][-1] in output.read_text()
    assert entry["bad_frames"][0]["frame"] == BAD
    assert entry["max_devi_f"] == 0.0
    with pytest.raises(DataError, match=rf"frame {BAD}\b"):
        zoo(*arguments, "--strict", "--force")


@situation("""an explored trajectory | every frame is bad | rows of nan only, nothing is made of
    them""")
def test_deviation_of_bad_frames_alone(tmp_path):
    arrays, types = water()
    arrays["coord"][:, 0] = arrays["coord"][:, 1]
    output = tmp_path / "model_devi.out"
    system = as_npy(tmp_path / "water", arrays, types)
    words = ("-m", WATER, "-m", WATER, "-s", system, "-o", output)
    (entry,) = document("deviation", *words, code=1)["systems"]
    assert entry["num_bad_frames"] == FRAMES
    assert entry["max_devi_f"] is None
    assert np.isnan(np.loadtxt(output)[:, 1:]).all()


def atoms_of(arrays, types, frame):
    symbols = np.array(["O", "H"])[types]
    return ase.Atoms(symbols, arrays["coord"][frame], cell=arrays["box"][frame], pbc=True)


@situation("""extended XYZ of a trajectory | two atoms coincide in one frame | it is written with
    nan and said; the others have their energies""")
def test_predict_goes_on(tmp_path):
    arrays, types = water()
    spoil(arrays, "coincide")
    frames = [atoms_of(arrays, types, frame) for frame in range(FRAMES)]
    frames[2].positions[0, 0] = np.nan
    ase.io.write(tmp_path / "all.extxyz", frames)
    output = tmp_path / "out.extxyz"
    arguments = ("predict", "-m", WATER, tmp_path / "all.extxyz", "-o", output)
    result = zoo(*arguments, "--json", "-a")
    assert result.exit_code == 1
    listed = json.loads(result.stdout)["structures"]
    assert [item["index"] for item in listed if item["energy"] is None] == [2, BAD]
    assert "not a finite number" in listed[2]["problem"]
    assert "structure 5 (counted from 0)" in result.stderr
    written = ase.io.read(output, ":")
    energies = np.array([atoms.calc.results["energy"] for atoms in written])
    assert np.flatnonzero(np.isnan(energies)).tolist() == [2, BAD]
    assert np.isnan(written[BAD].calc.results["forces"]).all()
    assert np.delete(energies, [2, BAD]) == pytest.approx(
        np.delete(arrays["energy"] - 0.5, [2, BAD])
    )
    with pytest.raises(DataError, match="structure 2"):
        zoo(*arguments, "--strict")


@pytest.mark.parametrize("fault", [
    case("zoo predict on deepmd/npy | atoms coincide in a frame of set.001 | nan, said",
         "coincide"),
    case("zoo predict on deepmd/npy | a cell without volume in one frame | null, said", "flat"),
])  # fmt: skip
def test_predict_goes_on_with_systems(make, fault, tmp_path):
    system, output = make(fault), tmp_path / "out.extxyz"
    listed = document("predict", "-m", WATER, system, "-o", output, "-q", code=1)["structures"]
    assert [item["index"] for item in listed if item["energy"] is None] == [BAD]
    assert len(ase.io.read(output, ":")) == FRAMES - (fault == "flat")  # it has no cell to write
    with pytest.raises(DataError, match=rf"structure {BAD}\b"):
        zoo("predict", "-m", WATER, system, "-o", output, "--strict")


@situation("zoo compare | a bad frame | left out for every model, said once, exit code 1")
def test_compare_leaves_it_out(make):
    arguments = ("compare", f"a={WATER}", f"b={WATER}", "-s", make("coincide"))
    result = zoo(*arguments, "--json")
    assert result.exit_code == 1
    for model in json.loads(result.stdout)["models"]:
        assert model["num_frames"] == FRAMES - 1
        assert model["bad_frames"][0]["frame"] == BAD
        assert model["errors"]["energy"]["rmse"] == pytest.approx(0.5)
    assert result.stderr.count("frame 5: atoms 4 and 7") == 1


@situation("zoo recommend | a bad frame | branches are ranked on the other frames")
def test_recommend_leaves_it_out(make):
    system = make("coincide")
    found = document("recommend", system, "-m", BRANCHES, "--all-forces", code=1)
    assert found["bad_frames"][0]["frame"] == BAD
    with pytest.raises(DataError, match=f"water: frame {BAD}: atoms"):
        zoo("recommend", system, "-m", BRANCHES, "--strict")


@pytest.mark.parametrize("layout", [
    case("deepmd/npy/mixed | a frame of set.001 has an element that the model does not know | "
         "refused before anything is evaluated; the element and the frame are named", "mixed"),
    case("LMDB | a record has an element that the model does not know | refused before anything is "
         "evaluated; the element and the record are named", "lmdb"),
])  # fmt: skip
def test_an_unknown_element_in_one_frame(tmp_path, layout):
    arrays, types = water()
    kinds = np.tile(types, (FRAMES, 1))
    kinds[BAD, 6] = 2
    if layout == "mixed":
        arrays["real_atom_types"] = kinds
        place = as_npy(tmp_path / "water", arrays, types * 0)
        (place / "type_map.raw").write_text("O\nH\nKr\n")
        where = f"frame {BAD}"
    else:
        place = as_lmdb(tmp_path / "water", arrays, kinds, elements=("O", "H", "Kr"))
        where = f"record {BAD + 1}"
    with pytest.raises(DataError, match=rf"has Kr \(1 atoms\) \(first in {where}\)"):
        zoo("test", "-m", WATER, "-s", place)


@situation("zoo speed | the frame that is timed is bad | named by system and number")
def test_speed_names_the_frame(tmp_path):
    arrays, types = water()
    spoil(arrays, "coincide", 0)
    system = as_npy(tmp_path / "water", arrays, types)
    with pytest.raises(DataError, match="water: frame 0: atoms 4 and 7"):
        zoo("speed", WATER, "-s", system, "-r", 1)


def write_training_system(folder, fault):
    write_system(folder, 8, FRAMES, seed=1)
    arrays = {
        name: np.load(folder / "set.000" / f"{name}.npy").reshape(FRAMES, *shape)
        for name, shape in (("coord", (8, 3)), ("box", (3, 3)), ("energy", ()), ("force", (8, 3)))
    }
    spoil(arrays, fault)
    for name, values in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", values.reshape(FRAMES, -1))


@pytest.mark.parametrize("nbatch", [
    case("zoo train | a bad frame in the statistics | named by its number", 20),
    case("zoo train | a bad frame met in a step | named by its number", 1),
])  # fmt: skip
@pytest.mark.parametrize("fault", ["coincide", "energy", "flat", "position"])
def test_training_names_the_frame(tmp_path, monkeypatch, nbatch, fault):
    monkeypatch.chdir(tmp_path)
    write_training_system(tmp_path / "a", fault)
    with pytest.raises(DataError, match=rf"a\b.*frame {BAD}\b") as caught:
        train(small_input("a", steps=12, model={"data_stat_nbatch": nbatch}), progress=False)
    if fault == "coincide":  # as in the file, although training sorts atoms by type
        assert FAULTS[fault][-1] in caught.value.message


@situation("zoo finetune | a bad frame in the new data | named by its number")
@pytest.mark.parametrize("fault", ["coincide", "energy"])
def test_fine_tuning_names_the_frame(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    write_training_system(tmp_path / "a", fault)
    with pytest.raises(DataError, match=rf"a\b.*frame {BAD}\b"):
        train(
            small_input("a", steps=12, model={"data_stat_nbatch": 20}),
            finetune=WATER,
            use_pretrain_script=True,
            progress=False,
        )


@situation("""a folder of two systems | atoms coincide in frame 5 of the second, a cell is gone
    there | zoo predict names the system and the frame in it""")
def test_predict_names_the_frame_in_its_system(tmp_path):
    arrays, types = water()
    as_npy(tmp_path / "all" / "first", arrays, types)
    spoil(arrays, "coincide")
    arrays["box"][2] = 0.0
    second = as_npy(tmp_path / "all" / "second", arrays, types)
    output = tmp_path / "out.xyz"
    result = zoo("predict", "-m", WATER, tmp_path / "all", "-o", output, "--json")
    assert result.exit_code == 1
    bad = [item for item in json.loads(result.stdout)["structures"] if item["problem"]]
    assert [(item["index"], item["source"]) for item in bad] == [
        (FRAMES + 2, f"{second} frame 2"),
        (FRAMES + BAD, f"{second} frame {BAD}"),
    ]
    assert f"{second} frame {BAD}: atoms 4 and 7" in result.stderr


@situation("deepmd/hdf5 | a group of the file for zoo predict | its frames are evaluated")
def test_predict_takes_a_group(tmp_path):
    arrays, types = water()
    group = as_hdf5(tmp_path / "water", arrays, types)
    output = tmp_path / "out.xyz"
    result = zoo("predict", "-m", WATER, group, "-o", output)
    assert result.exit_code == 0
    energies = [atoms.get_potential_energy() for atoms in ase.io.read(output, ":")]
    assert np.allclose(energies, arrays["energy"] - 0.5, atol=1e-6)


@situation("""extended XYZ of a work flow | a name with #: run#2.xyz | a file like any, no group of
    HDF5""")
def test_a_hash_in_a_name_is_no_group(tmp_path):
    arrays, types = water()
    place = tmp_path / "run#2.xyz"
    ase.io.write(place, atoms_of(arrays, types, 0), format="extxyz")
    found = document("predict", "-m", WATER, place, "-o", tmp_path / "out.xyz")
    assert len(found["structures"]) == 1
