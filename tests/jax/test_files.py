"""What the exports write, short of running it: deepmd-kit runs it in tests/interop."""

import json

import h5py
import jax
import pytest

from dpa2.jax import export
from dpa2.jax.export import replaced_folder, write_hlo, write_savedmodel
from schemas.base.errors import ConversionError, WriteError
from tests.jax.systems import section_of
from tests.model.conftest import load_case

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
        write_hlo(load_case("bfloat16").model, section_of("bfloat16"), tmp_path / "model.hlo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("write", "missing", "extra"),
    [(write_hlo, "jax", "jax"), (write_savedmodel, "tensorflow", "tensorflow")],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch, tmp_path, write, missing, extra
):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ConversionError, match=missing) as caught:
        write(load_case("small").model, {}, tmp_path / "model")
    assert caught.value.hint == f"pip install 'dpa-zoo[{extra}]'"


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model.savedmodel"
    for text in ("first", "second"):
        with replaced_folder(target) as fresh:
            fresh.mkdir()
            (fresh / "saved_model.pb").write_text(text)
    assert (target / "saved_model.pb").read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_folder(tmp_path):
    target = tmp_path / "model.savedmodel"
    with replaced_folder(target) as fresh:
        fresh.mkdir()
        (fresh / "saved_model.pb").write_text("first")

    def interrupted():
        with replaced_folder(target) as fresh:
            fresh.mkdir()
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power"):
        interrupted()
    assert (target / "saved_model.pb").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_other_things_of_that_name_are_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    for target in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(WriteError, match="not a SavedModel"), replaced_folder(target):
            pass
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_a_missing_parent_is_said_before_the_work(tmp_path):
    with pytest.raises(WriteError, match="no folder"), replaced_folder(tmp_path / "a" / "b"):
        pass
