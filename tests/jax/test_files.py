"""What the exports write, short of running it: deepmd-kit runs it in tests/interop."""

import json

import h5py
import jax
import numpy as np
import pytest

import dpa2
from dpa2.formats.conversion import convert
from dpa2.formats.dictionary_files import write_hdf5
from dpa2.formats.savedmodel import replaced_folder
from dpa2.jax import packages
from schemas.base.errors import CheckpointError, ConversionError, WriteError
from tests.golden_cases import GOLDEN

PROGRAMS = [
    "stablehlo",
    "stablehlo_atomic_virial",
    "stablehlo_atomic_virial_no_ghost",
    "stablehlo_no_ghost",
]


@pytest.fixture(scope="module")
def hlo(hlo_file):
    with h5py.File(hlo_file) as file:
        document = json.loads(file.attrs["json"])
        programs = {name: file[document["@variables"][name]][()].tobytes() for name in PROGRAMS}
    return document, programs


@pytest.mark.slow
def test_the_file_says_what_the_model_is(hlo):
    document, _ = hlo
    constants = document["constants"]
    assert constants["type_map"] == document["model_def_script"]["type_map"]
    assert constants["sel"] == [48]
    assert (constants["dim_fparam"], constants["dim_aparam"]) == (2, 1)
    assert document["model"]["type"] == "standard"


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_take_any_number_of_frames_atoms_and_ghosts(hlo, name):
    _, programs = hlo
    program = jax.export.deserialize(bytearray(programs[name]))
    shapes = [str(x.shape) for x in program.in_avals]
    assert shapes == [
        "(nf, nall, 3)",
        "(nf, nall)",
        "(nf, nloc, 48)",
        "(nf, nall)",
        "(nf, 2)",
        "(nf, nloc, 1)",
    ]
    assert program.platforms == ("cpu", "cuda")


def test_a_model_in_half_precision_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="bfloat16"):
        convert(GOLDEN / "bfloat16" / "model.pt", tmp_path / "model.hlo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "missing"), [(".hlo", "jax"), (".savedmodel", "tensorflow")])
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch, tmp_path, suffix, missing
):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == missing else name)
    path = tmp_path / f"model{suffix}"
    command = f"pip install 'dpa-zoo[{missing}]'"
    with pytest.raises(ConversionError, match=missing) as caught:
        convert(GOLDEN / "small" / "model.pt", path)
    assert caught.value.hint == command
    if suffix == ".hlo":
        write_hdf5(path, {"@variables": {"stablehlo": np.zeros(1, "V1")}})
    else:
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"runs with {missing}, not installed") as caught:
        dpa2.load(path)
    assert command in caught.value.hint


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model.savedmodel"

    def write(text, *, fails=False):
        with replaced_folder(target) as fresh:
            fresh.mkdir()
            (fresh / "saved_model.pb").write_text(text)
            if fails:
                raise RuntimeError("power failure")

    write("first")
    write("second")
    with pytest.raises(RuntimeError, match="power"):
        write("third", fails=True)
    assert (target / "saved_model.pb").read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("place", "problem"),
    [(".", "not a SavedModel"), ("thesis.txt", "not a SavedModel"), ("a/b", "no folder")],
)
def test_other_things_of_that_name_and_missing_parents_are_refused(tmp_path, place, problem):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(WriteError, match=problem), replaced_folder(tmp_path / place):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
