"""Checkpoint files: what is refused and why, equal bytes for equal content, links and pruning."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.training.run_folder import CheckpointStore, ema_prefix, keep_counts
from schemas.base.errors import CheckpointError, WriteError
from schemas.base.writing import atomic_write, remove_leftovers
from schemas.checkpoint.header import read_header
from schemas.input.training import RunSettings

PARAMS = {"type_map": ["O", "H"], "descriptor": {"type": "dpa2"}}


def write(path, **changes):
    content = {
        "tensors": {"Default": {"atomic_model.out_bias": torch.arange(2.0)}},
        "model_params": PARAMS,
        "step": 9,
        "learning_rate": 1e-3,
        "state": {"sampler": {"state": 2**100}},
        **changes,
    }
    write_checkpoint(path, **content)
    return path


def test_what_is_written_is_read(tmp_path):
    checkpoint = read_checkpoint(write(tmp_path / "a.pt"))
    params, tensors = checkpoint.branch()
    assert params == PARAMS
    assert tensors["atomic_model.out_bias"].tolist() == [0.0, 1.0]
    assert (checkpoint.step, checkpoint.learning_rate) == (9, 1e-3)
    assert checkpoint.state == {"sampler": {"state": 2**100}}


def test_the_header_knows_no_step_from_one(tmp_path):
    for done in (0, 1):
        path = write(tmp_path / "a.pt", step=0, state={"steps_done": done})
        assert read_header(path).steps == read_checkpoint(path).steps_done == done
    assert read_header(write(tmp_path / "a.pt", state=None)).steps == 10  # a file of deepmd-kit


def test_the_suffix_may_be_left_out(tmp_path):
    write(tmp_path / "model.ckpt.pt")
    assert read_checkpoint(tmp_path / "model.ckpt").branches == ["Default"]


def test_equal_content_gives_equal_bytes(tmp_path):
    copied = pickle.loads(pickle.dumps(PARAMS))
    one = write(tmp_path / "a.pt").read_bytes()
    other = write(tmp_path / "b.pt", model_params=copied).read_bytes()
    assert one == other


def test_the_file_has_the_keys_that_deepmd_kit_reads(tmp_path):
    content = torch.load(write(tmp_path / "a.pt"), weights_only=True)
    extra = content["model"]["_extra_state"]
    assert list(content["model"]) == ["_extra_state", "model.Default.atomic_model.out_bias"]
    assert extra["train_infos"] == {"lr": 1e-3, "step": 9}
    assert "model.Default.atomic_model" in content["model"]._metadata


def test_a_multi_task_file_names_its_branches(tmp_path):
    tensors = {"water": {"x": torch.zeros(1)}, "metal": {"x": torch.ones(1)}}
    params = {"model_dict": {"water": {"type_map": ["O"]}, "metal": {"type_map": ["Fe"]}}}
    checkpoint = read_checkpoint(write(tmp_path / "m.pt", tensors=tensors, model_params=params))
    assert checkpoint.branch("metal")[0] == {"type_map": ["Fe"]}
    with pytest.raises(CheckpointError, match="2 branches") as raised:
        checkpoint.branch()
    assert raised.value.hint == "choose one with --branch: water, metal"
    with pytest.raises(CheckpointError, match="no branch `wood`"):
        checkpoint.branch("wood")


class Malicious:
    def __reduce__(self):
        return os.system, ("echo no",)


def save_frozen(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/data.pkl", b"")


def save_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")


def save_truncated(path):
    write(path, state={"padding": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:3000])


BAD_FILES = {
    "empty": (lambda path: path.touch(), "is empty"),
    "page": (lambda path: path.write_text("<!DOCTYPE html><html>404"), "is a web page"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1"),
        "pointer of Git LFS",
    ),
    "json": (lambda path: path.write_text('{"model": 1}'), "is a JSON text"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "frozen": (save_frozen, "is a frozen model"),
    "zip": (save_zip, "it has no data.pkl"),
    "truncated": (save_truncated, "is truncated"),
    "noise": (lambda path: path.write_bytes(bytes(range(1, 200))), "is not a PyTorch checkpoint"),
    "malicious": (lambda path: torch.save({"model": Malicious()}, path), "posix.system"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Malicious())), "is a pickle"),
    "list": (lambda path: torch.save([1, 2], path), "does not describe a model"),
    "other": (lambda path: torch.save({"weights": torch.zeros(1)}, path), "keys are weights"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_other_files_are_refused_by_what_they_are(tmp_path, kind, capfd):
    make, message = BAD_FILES[kind]
    path = tmp_path / "model.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_checkpoint(path)
    assert raised.value.hint
    assert capfd.readouterr().out == ""


def test_a_missing_file_is_answered_with_its_neighbours(tmp_path):
    write(tmp_path / "model.ckpt-10.pt")
    with pytest.raises(CheckpointError, match="does not exist") as raised:
        read_checkpoint(tmp_path / "model.ckpt-20.pt")
    assert "model.ckpt-10.pt" in raised.value.hint


def test_a_link_to_nowhere_is_named_as_such(tmp_path):
    (tmp_path / "model.ckpt.pt").symlink_to("gone.pt")
    with pytest.raises(CheckpointError, match=r"link to gone\.pt"):
        read_checkpoint(tmp_path / "model.ckpt.pt")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = write(tmp_path / "a.pt")
    before = path.read_bytes()

    def write_half():
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path):
    with pytest.raises(WriteError, match="cannot be written"):
        write(tmp_path / "nowhere" / "a.pt")


def test_only_leftovers_of_dead_processes_are_cleared(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = tmp_path / f".a.pt.{process.pid}-00000000.tmp"
    own = tmp_path / f".a.pt.{os.getpid()}-00000000.tmp"
    for path in (dead, own, tmp_path / ".keep.tmp"):
        path.touch()
    remove_leftovers(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {own.name, ".keep.tmp"}


def stored(folder, steps, directory=None):
    """Write checkpoints of these steps, the newest two of which are kept."""
    store = CheckpointStore(folder / "model.ckpt", directory or folder, 2, folder / "checkpoint")
    store.prepare()
    for step in steps:
        store.path_of(step).touch()
        store.publish(store.path_of(step))
    return store


def test_the_newest_checkpoints_stay(tmp_path):
    store = stored(tmp_path, (5, 10, 15))
    (tmp_path / "other.ckpt-1.pt").touch()
    names = {item.name for item in tmp_path.glob("model*")}
    assert names == {"model.ckpt-10.pt", "model.ckpt-15.pt", "model.ckpt.pt"}
    assert store.link.readlink() == Path("model.ckpt-15.pt")
    assert (tmp_path / "checkpoint").read_text() == "model.ckpt-15.pt"
    elsewhere = stored(tmp_path, (1,), tmp_path / "deep" / "er")
    assert elsewhere.link.readlink() == Path("deep/er/model.ckpt-1.pt")


def test_checkpoints_of_an_earlier_run_stay_but_for_their_name(tmp_path):
    for step in (10, 900, 1000):
        (tmp_path / f"model.ckpt-{step}.pt").touch()
    stored(tmp_path, (10, 15, 20))
    names = {item.name for item in tmp_path.glob("model.ckpt-*.pt")}
    assert names == {f"model.ckpt-{step}.pt" for step in (15, 20, 900, 1000)}


def test_names_and_counts():
    assert ema_prefix(Path("x/model.ckpt")) == Path("x/model_ema.ckpt")
    settings = {"save_freq": 10, "max_ckpt_keep": 5, "ema_ckpt_keep": 2}
    assert keep_counts(RunSettings(**settings, ckpt_keep_ratio=0.3), 100) == (3, 3)
    assert keep_counts(RunSettings(**settings), 100) == (5, 2)
