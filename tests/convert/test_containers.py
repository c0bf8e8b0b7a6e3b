"""`.dp` and `.yaml` files: the same bytes each time, nothing but data, every fault explained."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from dpa2.formats.conversion import convert
from dpa2.formats.dictionary import from_dictionary, to_dictionary
from dpa2.formats.dictionary_files import (
    read_archive,
    read_hdf5,
    read_yaml,
    to_json,
    write_hdf5,
    write_yaml,
)
from schemas.base.errors import CheckpointError, ConversionError, WriteError
from tests.convert.test_dictionary import GOLDEN, HERE, assert_same_state, open_case

TREE = {
    "note": "/variable_0000 is no array here",
    "part": {"@variables": {"w": np.arange(6.0).reshape(2, 3), "b": None, "list": [np.ones(1)]}},
    "@variables": {"distance": np.asarray(0.5)},
}


def same(found, expected):
    assert found["note"] == expected["note"]
    variables = found["part"]["@variables"]
    assert variables["b"] is None
    np.testing.assert_array_equal(variables["w"], expected["part"]["@variables"]["w"])
    np.testing.assert_array_equal(variables["list"][0], [1.0])
    assert found["@variables"]["distance"] == 0.5


def test_a_dictionary_goes_through_hdf5(tmp_path):
    write_hdf5(tmp_path / "x.dp", TREE)
    same(read_hdf5(tmp_path / "x.dp"), TREE)


def test_a_dictionary_goes_through_yaml(tmp_path):
    write_yaml(tmp_path / "x.yaml", TREE)
    same(read_yaml(tmp_path / "x.yaml"), TREE)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_yaml_gives_numbers_back_to_the_bit(dtype, tmp_path):
    numbers = np.random.default_rng(3).normal(size=200).astype(dtype)
    numbers[:4] = [0.0, -0.0, np.finfo(dtype).tiny, np.finfo(dtype).max]
    write_yaml(tmp_path / "x.yaml", {"@variables": {"w": numbers}})
    found = read_yaml(tmp_path / "x.yaml")["@variables"]["w"]
    assert found.dtype == numbers.dtype
    assert found.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pt"])
def test_the_same_model_gives_the_same_bytes(suffix, tmp_path):
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        convert(GOLDEN / "medium" / "model.pt", file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_dp_file_cut_short_is_said_to_be_damaged(size, tmp_path):
    whole = (HERE / "data" / "strip_two_side.dp").read_bytes()
    (tmp_path / "x.dp").write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_hdf5(tmp_path / "x.dp")


def test_an_hdf5_file_of_something_else_is_said_to_hold_no_model(tmp_path):
    with h5py.File(tmp_path / "x.dp", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(CheckpointError, match="without a model"):
        read_hdf5(tmp_path / "x.dp")


def write_description(path, document):
    with h5py.File(path, "w") as file:
        file.attrs["json"] = document


@pytest.mark.parametrize("text", ["[1]", "{", "", "[" * 100_000])
def test_a_description_that_is_no_dictionary_is_refused(text, tmp_path):
    write_description(tmp_path / "x.dp", text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_hdf5(tmp_path / "x.dp")


def test_no_other_file_is_opened_through_a_link(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["key"] = [1.0]
    document = json.dumps({"@variables": {"w": "/variable_0000"}})
    write_description(tmp_path / "x.dp", document)
    with h5py.File(tmp_path / "x.dp", "a") as file:
        file["variable_0000"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/key")
    with pytest.raises(CheckpointError, match="variable_0000 is not in it"):
        read_hdf5(tmp_path / "x.dp")


def test_no_other_file_is_read_as_external_storage(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 8)
    document = json.dumps({"@variables": {"w": "/variable_0000"}})
    write_description(tmp_path / "x.dp", document)
    with h5py.File(tmp_path / "x.dp", "a") as file:
        place = [(str(tmp_path / "secret.bin"), 0, 8)]
        file.create_dataset("variable_0000", shape=(1,), dtype="f8", external=place)
    with pytest.raises(CheckpointError, match="lies in another file"):
        read_hdf5(tmp_path / "x.dp")


def test_a_file_that_claims_to_be_enormous_is_refused_before_memory_is_taken(tmp_path):
    write_description(tmp_path / "x.dp", json.dumps({"@variables": {"w": "/variable_0000"}}))
    with h5py.File(tmp_path / "x.dp", "a") as file:
        file.create_dataset("variable_0000", shape=(1 << 40,), dtype="f8", chunks=(1 << 10,))
    with pytest.raises(ConversionError, match="claims to hold"):
        read_hdf5(tmp_path / "x.dp")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "- 1",
        "",
        "\0",
        "!!python/object/apply:os.system ['true']",
        "{'@class': np.ndarray, dtype: object, value: [1]}",
        "{w: {'@class': np.ndarray, dtype: float64, value: [[1], [1, 2]]}}",
        "{w: {'@class': np.ndarray, value: [1]}}",
        "[" * 5000,
    ],
)
def test_yaml_that_is_no_model_is_refused(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read") as raised:
        read_yaml(tmp_path / "x.yaml")
    assert raised.value.hint


def test_an_older_file_survives_a_failed_write(tmp_path):
    for name, write in (("x.dp", write_hdf5), ("x.yaml", write_yaml)):
        with pytest.raises(WriteError):
            write(tmp_path / "no folder" / name, TREE)
        (tmp_path / name).write_text("older")
        with pytest.raises(Exception, match="object"):
            write(tmp_path / name, {"x": object()})
        assert (tmp_path / name).read_text() == "older"


def write_archive(path, text, member="model/extra/model.json"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/code.so", b"never looked at")
        archive.writestr(member, text)
    return path


def test_the_weights_in_a_compiled_archive_are_read(tmp_path):
    model, section = open_case("strip_two_side")
    text = to_json(to_dictionary(model, section))
    found, same_section, notes = from_dictionary(read_archive(write_archive(tmp_path / "x", text)))
    assert_same_state(found, model)
    assert (same_section, notes) == (section, [])


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = write_archive(tmp_path / "x.pt2", "{}", member="model/extra/other.json")
    with pytest.raises(CheckpointError, match="without the weights"):
        read_archive(path)


@pytest.mark.parametrize("text", ["[1]", "{", "1", '{"w": {"@class": "np.ndarray"}}'])
def test_an_archive_with_a_damaged_dictionary_is_refused(text, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_archive(write_archive(tmp_path / "x.pt2", text))


@pytest.mark.parametrize(
    ("method", "words"),
    [(zipfile.ZIP_BZIP2, "is compressed"), (zipfile.ZIP_DEFLATED, "has 80,000,002 bytes")],
)
def test_an_archive_that_would_fill_the_memory_is_refused(method, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt2", "w", method, compresslevel=1) as archive:
        archive.writestr("model/extra/model.json", "[" + " " * 80_000_000 + "]")
    with pytest.raises(CheckpointError, match=words):
        read_archive(tmp_path / "x.pt2")
