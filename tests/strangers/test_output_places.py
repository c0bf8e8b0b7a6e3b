"""Where `-o` leads: links are written through; devices, pipes and folders are refused."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest

from dpa2.formats.savedmodel import MARK, replaced_folder
from schemas.base.errors import WriteError
from schemas.base.writing import atomic_write, destination
from tests.commands import answer
from tests.strangers.situations import situation

MODEL = "model.pt"
COMMANDS = {
    "predict": ["predict", "water.xyz", "-m", MODEL, "-o", "OUT.xyz"],
    "deviation": ["deviation", "-m", MODEL, "-m", MODEL, "-s", "data", "--force", "-o", "OUT.out"],
    "convert": ["convert", MODEL, "OUT.dp", "--force"],
    "convert to yaml": ["convert", MODEL, "OUT.yaml", "--force"],
    "convert to pt": ["convert", MODEL, "OUT.pt", "--force"],
    "freeze": ["freeze", "-c", MODEL, "-o", "OUT.pth"],
    "bias": ["bias", MODEL, "-s", "data", "-o", "OUT.pt"],
    "extract": ["extract", MODEL, "-o", "OUT.pt", "--force"],
    "export": ["export", MODEL, "--safetensors", "-o", "OUT.safetensors", "--force"],
    "init": ["init", "data", "-o", "OUT.json", "--force"],
    "lock": ["lock", "-o", "OUT.lock", "train", "input.json"],
    "bundle": ["bundle", MODEL, "-o", "OUT.tar"],
}


def target_of(command: list[str]) -> Path:
    return Path(next(part for part in command if part.startswith("OUT")))


@pytest.mark.parametrize("there", [True, False], ids=["link", "dangling link"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@situation("""a scratch disk behind a link | -o names a symbolic link, to a file or to where one
    shall be | the link stays; the file it leads to is written""")
def test_a_link_is_written_through(command: list[str], there: bool, place: Path) -> None:
    link, real = target_of(command), place / "scratch" / "real.bin"
    real.parent.mkdir()
    if there:
        real.write_bytes(b"old")
        real.chmod(0o600)
    link.symlink_to(real)
    code, said = answer(*command)
    assert code == 0, said
    assert link.is_symlink()
    assert real.is_file()
    assert real.read_bytes() not in (b"", b"old")
    if there:
        assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(item.name for item in real.parent.iterdir()) == ["real.bin"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to(os.devnull)


def stream(path: Path) -> None:
    path.symlink_to("/dev/stdout")


def circle(path: Path) -> None:
    Path("other").symlink_to(path)
    path.symlink_to("other")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("kept")


NODES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (pipe, "is a pipe"),
    "socket": (listening, "is a socket"),
    "device": (device, "is a device"),
    "stdout": (stream, "is an open stream"),
    "circle": (circle, "lead in a circle"),
    "folder": (folder, "is a folder"),
}


@pytest.mark.parametrize("node", NODES)
@situation("""a shell | a file is written onto a FIFO, a socket, /dev/null, /dev/stdout, a circle of
    links, a folder | refused in words; the node is as it was""")
def test_what_is_no_file_is_not_replaced(node: str, place: Path) -> None:
    make, words = NODES[node]
    target = place / "out.bin"
    make(target)
    before = target.lstat()
    with pytest.raises(WriteError, match=words) as caught, atomic_write(target) as out:
        out.write(b"new")
    assert caught.value.hint
    assert target.lstat() == before
    assert not list(place.glob(".out*"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@situation("""a shell | -o of any command names a FIFO | every command refuses in words and leaves
    it; none hangs""")
def test_no_command_replaces_a_pipe(command: list[str], place: Path) -> None:
    target = target_of(command)
    os.mkfifo(target)
    code, said = answer(*command)
    assert code != 0
    assert stat.S_ISFIFO(target.lstat().st_mode)
    assert "there already" in said or "pipe" in said


@situation("""a scratch disk behind a link | zoo data convert -o or a SavedModel is written onto a
    link to a folder | the link stays; the folder it leads to is replaced""")
def test_folders_are_written_through_links(place: Path) -> None:
    real = place / "scratch"
    real.mkdir()
    (place / "converted").symlink_to(real)
    ase.io.write(place / "POSCAR", ase.io.read(place / "water.xyz"))
    code, said = answer("data", "convert", "POSCAR", "-o", "converted", "--force")
    assert code == 0, said
    assert (place / "converted").is_symlink()
    assert list(real.rglob("coord.npy"))
    saved = place / "real.savedmodel"
    saved.mkdir()
    (place / "x.savedmodel").symlink_to(saved)
    with replaced_folder(place / "x.savedmodel") as fresh:
        fresh.mkdir()
        (fresh / MARK).write_bytes(b"new")
    assert (place / "x.savedmodel").is_symlink()
    assert (saved / MARK).read_bytes() == b"new"


def test_a_plain_path_is_its_own_destination(place: Path) -> None:
    assert destination("new/file.txt") == Path("new/file.txt")
    assert destination(place, folder=True) == place
