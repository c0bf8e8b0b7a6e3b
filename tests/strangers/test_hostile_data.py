"""Data sets, texts and inputs of strangers: bounded, and nothing beside them is opened."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import lmdb
import msgpack
import numpy as np
import pytest
import yaml

from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import Reading
from dpa2.data.systems import open_systems
from dpa2.evaluate.learning_curve import read_learning_curve
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.dictionary_files import read_hdf5, read_yaml
from dpa2.training.stat_file import StatisticsFile
from schemas.base.errors import CheckpointError, DataError, RegistryError, ZooError
from schemas.base.writing import file_sha256
from schemas.check.input_file import check_file
from schemas.checkpoint.header import read_header
from schemas.text.yaml_text import RepeatedError, load_yaml
from tests.fuzz_readers import KINDS, fuzz, hdf5_system, lmdb_system, system
from tests.strangers.situations import case, situation
from zoo.registry import read_registry

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 10)}]\n" for k in range(9)
)
MERGED = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{k + 1}: &a{k + 1} {{<<: [{', '.join([f'*a{k}'] * 10)}]}}\n" for k in range(9)
)
ENDLESS = "a: &a [1, *a]\n"


@pytest.mark.parametrize("text", [LAUGHS, MERGED, ENDLESS], ids=["laughs", "merged", "endless"])
@situation("""a stranger's .yaml | references that stand for billions of values, by lists, by merged
    keys, by themselves | refused before anything is built: as model, as input, as registry""")
def test_references_do_not_multiply_a_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_yaml(path)
    with pytest.raises(RegistryError, match="cannot be read"):
        read_registry(path)
    report = check_file(path)
    assert [item.code for item in report.diagnostics] == ["ZOO001"]
    with pytest.raises(RepeatedError):
        load_yaml(text.encode())


def test_references_that_add_little_are_kept() -> None:
    assert load_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 3},
    }
    many = yaml.safe_dump({"a": (numbers := list(range(1000))), "b": numbers})
    assert "&id001" in many
    assert load_yaml(many)["b"] == list(range(1000))


def nodes(folder: Path) -> dict[str, Path]:
    """Return a pipe and links to devices, none of which must be read."""
    os.mkfifo(folder / "pipe")
    found = {"pipe": folder / "pipe"}
    for name in ("zero", "random", "tty"):
        (folder / name).symlink_to(f"/dev/{name}")
        found[name] = folder / name
    return found


READERS: dict[str, Callable[[Path], object]] = {
    "header": read_header,
    "checkpoint": read_checkpoint,
    "yaml model": read_yaml,
    "learning curve": read_learning_curve,
    "systems": lambda path: open_systems([path], ["O"]),
    "hdf5 model": KINDS["dp"].read,
    "frozen model": KINDS["pth"].read,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@situation("""a stranger's folder | a model, a curve or a system that is a FIFO or a device
    (/dev/zero) | refused in words; nothing hangs or fills the memory""")
def test_what_never_ends_is_not_read(reader: Callable[[Path], object], tmp_path: Path) -> None:
    for name, node in nodes(tmp_path).items():
        with pytest.raises(ZooError) as caught:
            reader(node)
        assert caught.value.message, name


def test_what_never_ends_is_not_hashed(tmp_path: Path) -> None:
    for node in nodes(tmp_path).values():
        with pytest.raises(OSError, match="not a file"):
            file_sha256(node)


@pytest.mark.parametrize("inside", ["set.000/coord.npy", "set.000/energy.npy", "type_map.raw"])
@situation("""a stranger's data set | a FIFO or a link to /dev/zero in place of an array or a list
    of elements | refused or absent; nothing hangs""")
def test_a_pipe_among_data_is_not_read(inside: str, tmp_path: Path) -> None:
    system(tmp_path / "data")
    place = tmp_path / "data" / inside
    place.unlink()
    os.mkfifo(place)
    if inside == "set.000/coord.npy":
        with pytest.raises(DataError, match=r"coord"):
            open_systems([tmp_path / "data"], ["O", "H"])
        return
    (opened,) = open_systems([tmp_path / "data"], ["O", "H"])
    assert ("energy" in opened.labels) == (inside == "type_map.raw")


def npy(shape: str, descr: str = "'<f8'", body: bytes = b"\0" * 64) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(("content", "words"), [
    case("a stranger's .npy | a shape whose size overflows 64 bits | refused: truncated",
         npy("(4294967296, 4294967296)"), "truncated"),
    case("a stranger's .npy | a header that claims 7 TB | refused: truncated",
         npy("(100000000000, 9)"), "truncated"),
    case("a stranger's .npy | a negative length | refused: the shape", npy("(-1, 9)"), "shape"),
    case("a stranger's .npy | pickled objects in an array | refused: no real numbers",
         npy("(2,)", "'|O'", b"\x80\x04cposix\nsystem\n."), "objects"),
    case("a stranger's .npy | a header nested 50 deep | refused in words",
         npy("(" * 50 + "2" + ")" * 50), "is not a numpy array file"),
])  # fmt: skip
def test_arrays_are_no_larger_than_their_file(content: bytes, words: str, tmp_path: Path) -> None:
    system(tmp_path / "data")
    (tmp_path / "data" / "set.000" / "box.npy").write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_systems([tmp_path / "data"], ["O", "H"])


def secret(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["numbers"] = np.zeros((5, 1))
    return folder / "secret.h5"


def replaced(path: Path, link: object) -> None:
    with h5py.File(path, "a") as file:
        del file["set.000/energy.npy"]
        if isinstance(link, dict):
            file.create_dataset("set.000/energy.npy", **link)
        else:
            file["set.000/energy.npy"] = link


@pytest.mark.parametrize(("change", "words"), [
    case("a stranger's .hdf5 | an external link to another file | refused, not opened",
         lambda folder: h5py.ExternalLink(str(secret(folder)), "/numbers"), "lies in another file"),
    case("a stranger's .hdf5 | a soft link to other numbers | refused",
         lambda _: h5py.SoftLink("/set.000/coord.npy"), "lies in another file or place"),
    case("a stranger's .hdf5 | numbers stored in an external file | refused, not opened",
         lambda folder: {"shape": (5, 1), "dtype": "f8", "external": [(str(secret(folder)), 0,
         40)]}, "lies in another file"),
    case("a stranger's .hdf5 | an array of 256 GB that was never filled | refused: claims",
         lambda _: {"shape": (1 << 35, 1), "dtype": "f8", "chunks": (1024, 1), "fillvalue": 1.0},
         "claims"),
])  # fmt: skip
def test_hdf5_data_lie_in_their_file(
    change: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    hdf5_system(tmp_path / "x.h5")
    replaced(tmp_path / "x.h5", change(tmp_path))
    with pytest.raises(DataError, match=words):
        open_systems([tmp_path / "x.h5"], ["O", "H"])


@situation("""HDF5 files of other programs | arrays packed with a filter that is not installed here
    (LZ4 and the like) | said in words, with the array's place; of a model and of data""")
def test_filters_that_are_not_here_are_said(tmp_path: Path) -> None:
    hdf5_system(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.dp", "w") as file:
        file.create_dataset("variable_0000", data=np.arange(1000.0), compression="gzip")
        file.attrs["json"] = json.dumps({"@variables": {"w": "/variable_0000"}})
    for name in ("x.h5", "x.dp"):
        content = (tmp_path / name).read_bytes()
        known, unknown = (struct.pack("<H", number) + b"\x08\0\x01\0" for number in (1, 32004))
        assert known in content
        (tmp_path / name).write_bytes(content.replace(known, unknown))
    with pytest.raises(DataError, match=r"\.npy cannot be read") as caught:
        KINDS["h5"].read(tmp_path / "x.h5")
    assert "compressed in a way that is not installed" in str(caught.value.hint)
    with pytest.raises(CheckpointError, match="cannot be read as a model"):
        read_hdf5(tmp_path / "x.dp")


def rewritten(path: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(path), map_size=2**22) as environment, environment.begin(write=True) as made:
        made.put(key, value)


def about(**changes: object) -> bytes:
    told = {"nframes": 2, "frame_idx_fmt": "012d", "type_map": ["O", "H"]} | changes
    return bytes(msgpack.packb(told))


@pytest.mark.parametrize(("key", "value", "words"), [
    case("a stranger's .lmdb | metadata that claim 10^15 frames | refused: fewer records",
         b"__metadata__", about(nframes=10**15), "fewer records"),
    case("a stranger's .lmdb | a format of frame numbers 10 GB wide | refused", b"__metadata__",
         about(frame_idx_fmt="09999999999d"), "cannot be numbered"),
    case("a stranger's .lmdb | msgpack arrays of 4 billion in 1 kB | refused: damaged",
         b"000000000000", b"\xdd\xff\xff\xff\xff" * 200, "damaged"),
    case("a stranger's .lmdb | an atom of type 2^45 | refused", b"000000000000",
         bytes(msgpack.packb({"atype": [2**45], "coord": [0.0] * 3})), "an atom of type"),
    case("a stranger's .lmdb | an array of Python objects | refused", b"000000000000",
         bytes(msgpack.packb({"atype": {"type": "|O", "data": b"12345678"}, "coord": [0.0]})),
         "damaged"),
])  # fmt: skip
def test_lmdb_records_are_no_larger_than_they_are(
    key: bytes, value: bytes, words: str, tmp_path: Path
) -> None:
    lmdb_system(tmp_path / "x.lmdb")
    rewritten(tmp_path / "x.lmdb", key, value)
    with pytest.raises(DataError, match=words):
        open_systems([tmp_path / "x.lmdb"], ["O", "H"])


class Touches:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path("touched").touch, ()


@situation("""a stranger's checkpoint | a bare pickle named model.pt, as PyTorch wrote before 1.6 |
    refused without asking torch, which would believe its sizes""")
def test_bare_pickles_are_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.load", None)
    Path("model.pt").write_bytes(pickle.dumps(Touches(), protocol=2))
    with pytest.raises(CheckpointError, match="is a pickle"):
        read_checkpoint("model.pt")
    assert not Path("touched").exists()


@pytest.mark.parametrize("name", ["old.traj", "x.pckl", "x.db", "x.npy", "frames"])
@situation("""a stranger's structures | a pickle named as a trajectory of ASE, a data base, an
    array, with no ending | refused; nothing in it is run""")
def test_pickles_are_no_structures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start = b"PickleTrajectory" if name == "old.traj" else b""
    Path(name).write_bytes(start + pickle.dumps(Touches()))
    with pytest.raises(DataError):
        list(read_structures(Reading(name, keys=None)))
    assert not Path("touched").exists()


@situation("""a copy cut short | an LMDB data base shorter than it says, which kills whoever maps it
    | refused before it is mapped: truncated""")
def test_a_short_lmdb_does_not_kill_us(tmp_path: Path) -> None:
    lmdb_system(tmp_path / "x.lmdb")
    data = tmp_path / "x.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[:8192])
    with pytest.raises(DataError, match="truncated"):
        open_systems([tmp_path / "x.lmdb"], ["O", "H"])


@situation("""a stranger's statistics file | a .npy that claims terabytes, an HDF5 file with a link
    elsewhere | refused before memory is taken""")
def test_statistics_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "stat" / "O H"
    folder.mkdir(parents=True)
    (folder / "bias.npy").write_bytes(npy("(100000000000, 9)"))
    with pytest.raises(DataError, match="damaged"):
        StatisticsFile(tmp_path / "stat", ["O", "H"], read_only=True)._read_folder(["bias"])
    with h5py.File(tmp_path / "stat.h5", "w") as file:
        file["O H/bias"] = h5py.ExternalLink(str(secret(tmp_path)), "/numbers")
    with pytest.raises(DataError, match="no array of this file"):
        StatisticsFile(tmp_path / "stat.h5", ["O", "H"], read_only=True)._read_hdf5(["bias"])


@situation("""a stranger's input | an input that never ends or is gigabytes long | refused after 64
    MB; a pipe is read""")
def test_inputs_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (item,) = check_file(tmp_path / "zero.json").diagnostics
    assert item.code == "ZOO010"
    deep = tmp_path / "deep.json"
    deep.write_text('{"a":' * 100_000)
    assert not check_file(deep).ok
    deep.write_text(json.dumps({"model": "x" * 1_000_000}))
    assert not check_file(deep).ok


@pytest.mark.parametrize("kind", KINDS)
@situation("""a disk, a network, a stranger | mutated files of every kind that is read (bits,
    lengths, pieces lost, doubled, moved) | each is read or refused in words; memory is bounded""")
def test_mutated_files_are_read_or_refused(kind: str) -> None:
    found = fuzz(kind, range(12))
    assert not found.failures
    assert found.read + found.refused == 12
    assert found.grown < 300 * 2**20


@situation("""`stat_file` | a device or a pipe in the place of the statistics file | refused at
    once; a pipe is not waited for""")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_statistics_are_not_read_from_pipes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "stat.hdf5"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=kind):
        StatisticsFile(path, ["O", "H"], read_only=False)
