"""`.dp`, `.yaml` and archives: the same bytes each time, only data, every fault explained."""

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
from schemas.base.errors import WriteError, ZooError
from tests.convert.test_dictionary import HERE, assert_same_state, open_case
from tests.golden_cases import GOLDEN

TREE = {
    "note": "/variable_0000 is no array here",
    "part": {"@variables": {"w": np.arange(6.0).reshape(2, 3), "b": None, "list": [np.ones(1)]}},
    "@variables": {"distance": np.asarray(0.5)},
}
CONTAINERS = {".dp": (write_hdf5, read_hdf5), ".yaml": (write_yaml, read_yaml)}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_dictionary_goes_through_a_file(suffix, tmp_path):
    write, read = CONTAINERS[suffix]
    write(tmp_path / f"x{suffix}", TREE)
    found = read(tmp_path / f"x{suffix}")
    assert found["note"] == TREE["note"]
    variables = found["part"]["@variables"]
    assert variables["b"] is None
    np.testing.assert_array_equal(variables["w"], TREE["part"]["@variables"]["w"])
    np.testing.assert_array_equal(variables["list"][0], [1.0])
    assert found["@variables"]["distance"] == 0.5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_yaml_gives_numbers_back_to_the_bit(dtype, tmp_path):
    numbers = np.random.default_rng(3).normal(size=200).astype(dtype)
    numbers[:4] = [0.0, -0.0, np.finfo(dtype).tiny, np.finfo(dtype).max]
    write_yaml(tmp_path / "x.yaml", {"@variables": {"w": numbers}})
    found = read_yaml(tmp_path / "x.yaml")["@variables"]["w"]
    assert found.dtype == numbers.dtype
    assert found.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("suffix", [*CONTAINERS, ".pt"])
def test_the_same_model_gives_the_same_bytes(suffix, tmp_path):
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        convert(GOLDEN / "medium" / "model.pt", file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_an_older_file_survives_a_failed_write(suffix, tmp_path):
    write, _ = CONTAINERS[suffix]
    with pytest.raises(WriteError):
        write(tmp_path / "no folder" / "x", TREE)
    (tmp_path / "x").write_text("older")
    with pytest.raises(Exception, match="object"):
        write(tmp_path / "x", {"x": object()})
    assert (tmp_path / "x").read_text() == "older"


def cut(size):
    def write(path):
        path.write_bytes((HERE / "data" / "strip_two_side.dp").read_bytes()[:size])

    return write


def described(text, **dataset):
    """Write a description and the dataset that it may name."""

    def write(path):
        with h5py.File(path, "w") as file:
            if text is not None:
                file.attrs["json"] = text
            if dataset:
                file.create_dataset("variable_0000", **dataset)

    return write


def linked(path):
    with h5py.File(path.with_name("secret.h5"), "w") as file:
        file["key"] = [1.0]
    described(NAMED)(path)
    with h5py.File(path, "a") as file:
        file["variable_0000"] = h5py.ExternalLink(str(path.with_name("secret.h5")), "/key")


def outside(path):
    path.with_name("secret.bin").write_bytes(b"\0" * 8)
    place = [(str(path.with_name("secret.bin")), 0, 8)]
    described(NAMED, shape=(1,), dtype="f8", external=place)(path)


def archive(text, member="model.json", method=zipfile.ZIP_STORED):
    def write(path):
        with zipfile.ZipFile(path, "w", method, compresslevel=1) as stream:
            stream.writestr("model/data/code.so", b"never looked at")
            stream.writestr(f"model/extra/{member}", text)

    return write


def text(content):
    return lambda path: path.write_text(content)


NAMED = json.dumps({"@variables": {"w": "/variable_0000"}})
ENORMOUS = {"shape": (1 << 40,), "dtype": "f8", "chunks": (1 << 10,)}
LARGE = "[" + " " * 80_000_000 + "]"
ARRAY = "{w: {'@class': np.ndarray, %s}}"
UNREADABLE = "cannot be read"
REFUSED = [
    *((read_hdf5, cut(size), UNREADABLE) for size in (0, 100, 20_000)),
    *((read_hdf5, described(x), UNREADABLE) for x in ("[1]", "{", "", "[" * 100_000)),
    (read_hdf5, described(None, data=[1, 2]), "without a model"),
    (read_hdf5, linked, "variable_0000 is not in it"),
    (read_hdf5, outside, "lies in another file"),
    (read_hdf5, described(NAMED, **ENORMOUS), "claims to hold"),
    *((read_yaml, text(x), UNREADABLE) for x in ("a: [1", "- 1", "", "\0", "[" * 5000)),
    (read_yaml, text("!!python/object/apply:os.system ['true']"), UNREADABLE),
    (read_yaml, text("{'@class': np.ndarray, dtype: object, value: [1]}"), UNREADABLE),
    (read_yaml, text(ARRAY % "dtype: float64, value: [[1], [1, 2]]"), UNREADABLE),
    (read_yaml, text(ARRAY % "value: [1]"), UNREADABLE),
    (read_archive, archive("{}", "other.json"), "without the weights"),
    *((read_archive, archive(x), UNREADABLE) for x in ("[1]", "{", "1")),
    (read_archive, archive('{"w": {"@class": "np.ndarray"}}'), UNREADABLE),
    (read_archive, archive(LARGE, method=zipfile.ZIP_BZIP2), "is compressed"),
    (read_archive, archive(LARGE, method=zipfile.ZIP_DEFLATED), "has 80,000,002 bytes"),
]


@pytest.mark.parametrize(("read", "write", "words"), REFUSED)
def test_what_is_no_model_is_refused(read, write, words, tmp_path):
    path = tmp_path / {read_hdf5: "x.dp", read_yaml: "x.yaml", read_archive: "x.pt2"}[read]
    write(path)
    with pytest.raises(ZooError, match=words) as raised:
        read(path)
    assert raised.value.hint


def test_the_weights_in_a_compiled_archive_are_read(tmp_path):
    model, section = open_case("strip_two_side")
    archive(to_json(to_dictionary(model, section)))(tmp_path / "x")
    found, same_section, notes = from_dictionary(read_archive(tmp_path / "x"))
    assert_same_state(found, model)
    assert (same_section, notes) == (section, [])
