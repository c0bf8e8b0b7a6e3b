"""Models of strangers: programs are run only by their name, read only as data, damage is seen."""

import json
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import dpa2
from cli.convert import register_safetensors
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import convert
from dpa2.formats.dictionary_files import read_hdf5, write_hdf5
from dpa2.formats.table import format_of
from schemas.base.errors import CheckpointError, ConversionError, ZooError
from schemas.checkpoint.kinds import check_name
from tests.commands import answer
from tests.evaluate.conftest import GOLDEN
from tests.strangers.situations import case, situation

SMALL = GOLDEN / "small" / "model.pt"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Stranger(torch.nn.Module):
    """A program that is loud whenever TorchScript runs any of it."""

    model_def_script: str

    def __init__(self) -> None:
        super().__init__()
        self.model_def_script = "{}"
        self.state = 1

    @torch.jit.export
    def __getstate__(self) -> int:
        return self.state

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        raise RuntimeError("the program of a stranger ran")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file that runs as it is opened, written so that no search for text finds it."""
    folder = tmp_path_factory.mktemp("programs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Stranger()), folder / "plain.pth")
    spaced = folder / "spaced.pth"
    with zipfile.ZipFile(folder / "plain.pth") as old, zipfile.ZipFile(spaced, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".py"):
                assert b"def __setstate__" in content
                content = content.replace(b"def __setstate__", b"def  __setstate__")
            new.writestr(item.filename, content)
    with pytest.raises(torch.jit.Error, match="of a stranger ran"):
        torch.jit.load(str(spaced))
    return spaced


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind, by its suffix, rightly named."""
    register_safetensors()
    folder = tmp_path_factory.mktemp("models")
    found = {".pt": Path(shutil.copy(SMALL, folder / "model.pt"))}
    for suffix in (".pth", ".dp", ".yaml", ".safetensors"):
        found[suffix] = convert(SMALL, folder / f"model{suffix}").path
    found[".pt2"] = folder / "model.pt2"
    with zipfile.ZipFile(found[".pt2"], "w") as archive:
        archive.writestr("model/archive_version", "0")
        archive.writestr("model/extra/metadata.json", "{}")
        archive.writestr("model/extra/model.json", "{}")
    tree = read_hdf5(found[".dp"])
    programs = {"stablehlo": np.frombuffer(b"program", dtype="V1")}
    found[".hlo"] = folder / "model.hlo"
    write_hdf5(found[".hlo"], tree | {"@variables": programs, "constants": {}})
    found[".savedmodel"] = folder / "model.savedmodel"
    found[".savedmodel"].mkdir()
    (found[".savedmodel"] / "saved_model.pb").write_bytes(b"\x08\x01")
    return found


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where TorchScript, AOTInductor, JAX or TensorFlow is asked to open a program."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a program was opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", opened)
    monkeypatch.setattr("dpa2.formats.hlo.need_to_run", opened)
    monkeypatch.setattr("dpa2.formats.savedmodel.need_to_run", opened)


COMMANDS = {
    "test": ["test", "-m", "MODEL", "-s", "data"],
    "predict": ["predict", "water.xyz", "-m", "MODEL", "-o", "out.xyz"],
    "md": ["md", "water.xyz", "-m", "MODEL"],
    "speed": ["speed", "MODEL", "-s", "data"],
    "deviation": ["deviation", "-m", "MODEL", "-m", "MODEL", "-s", "data"],
    "compare": ["compare", "a=MODEL", "-s", "data"],
    "freeze": ["freeze", "-c", "MODEL", "-o", "out.pth"],
    "convert": ["convert", "MODEL", "out.dp"],
    "show": ["show", "MODEL"],
    "branches": ["branches", "MODEL"],
    "bias": ["bias", "MODEL", "-s", "data", "-o", "out.pt"],
    "recommend": ["recommend", "data", "-m", "MODEL"],
    "diff": ["diff", "MODEL", "MODEL"],
    "extract": ["extract", "MODEL", "-o", "out.pt"],
    "export": ["export", "MODEL", "--safetensors", "-o", "out.safetensors"],
    "finetune": ["finetune", "input.json", "-m", "MODEL"],
    "restart": ["train", "input.json", "--restart", "MODEL"],
    "bundle": ["bundle", "MODEL", "-o", "bundle"],
}


@pytest.mark.parametrize("name", ["model.ckpt.pt", "model", "model.dp", "model.pt2", "link.pt"])
@situation("""a stranger's checkpoint | TorchScript under another name: .pt, .dp, .pt2, none, a link
    | refused as a program; rename it to .pth to run it""")
def test_a_program_is_not_run_by_another_name(
    name: str, program: Path, place: Path, nothing_runs: None
) -> None:
    if name == "link.pt":
        (place / name).symlink_to(program)
    else:
        shutil.copy(program, place / name)
    with pytest.raises(CheckpointError, match="TorchScript") as caught:
        dpa2.load(name)
    assert ".pth" in str(caught.value.hint)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@situation("""a stranger's checkpoint | a TorchScript archive named model.ckpt.pt given to a command
    | every command that takes a model refuses it in words""")
def test_no_command_runs_a_program_called_checkpoint(
    command: list[str], program: Path, place: Path, nothing_runs: None
) -> None:
    shutil.copy(program, place / "model.ckpt.pt")
    code, said = answer(*(part.replace("MODEL", "model.ckpt.pt") for part in command))
    assert code != 0
    assert "TorchScript" in said
    assert not list(place.glob("out.*"))


PAIRS = [
    (content, name)
    for content in (".pt", ".pth", ".pt2", ".dp", ".hlo", ".savedmodel", ".safetensors")
    for name in (".pt", ".pth", ".pt2", ".dp", ".hlo", ".savedmodel", ".safetensors", ".yaml")
    if content != name
]


@pytest.mark.parametrize(("content", "name"), PAIRS, ids=["-as-".join(pair) for pair in PAIRS])
@situation("""a stranger's model | any kind of model under the name of any other kind | refused:
    what it is and how its name must end""")
def test_name_and_content_agree(
    content: str, name: str, models: dict[str, Path], tmp_path: Path, nothing_runs: None
) -> None:
    wrong = tmp_path / f"model{name}"
    copy = shutil.copytree if models[content].is_dir() else shutil.copy
    copy(models[content], wrong)
    for read in (dpa2.load, lambda path: format_of(path).read(path, None)):
        with pytest.raises(ZooError) as caught:
            read(wrong)
        assert f"its name ends in {name}" in caught.value.message
        assert content in str(caught.value.hint)


def test_rightly_named_files_pass(models: dict[str, Path]) -> None:
    for path in models.values():
        check_name(path)
    for suffix in (".pt", ".pth", ".dp", ".yaml", ".safetensors"):
        assert format_of(models[suffix]).read(models[suffix], None).model.type_map == ["O", "H"]


@situation("""a stranger's frozen model | zoo convert stranger.pth x.pt, with code that runs as
    TorchScript opens the file | read as data or refused, never opened as a program""")
def test_conversion_reads_programs_as_data(
    program: Path, models: dict[str, Path], tmp_path: Path, nothing_runs: None
) -> None:
    with pytest.raises(CheckpointError, match="__setstate__"):
        convert(program, tmp_path / "x.pt")
    found = read_checkpoint(convert(models[".pth"], tmp_path / "y.pt").path)
    expected = read_checkpoint(SMALL)
    kept = [key for key in expected.tensors if key in found.tensors]
    assert len(kept) == len(expected.tensors)
    assert all(torch.equal(found.tensors[key], expected.tensors[key]) for key in kept)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return format_of(path).read(path, None).model.state_dict()


def places_of(path: Path) -> Callable[[int], str]:
    """Return what tells to which part of a zip archive a byte belongs."""
    content = path.read_bytes()
    parts: list[tuple[int, int, str]] = []
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            name, extra = np.frombuffer(content, "<u2", 2, item.header_offset + 26)
            start = item.header_offset + 30 + int(name) + int(extra)
            parts.append((start, start + item.compress_size, item.filename))
    return lambda place: next((name for a, b, name in parts if a <= place < b), "")


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@situation("""a disk or a network | one bit of a model file is flipped, 100 times at random | damage
    to any content is an error; bits unseen lie in headers that are not read, or fill up the last
    byte of what is packed""")
def test_flipped_bits_are_seen(suffix: str, models: dict[str, Path], tmp_path: Path) -> None:
    whole = models[suffix].read_bytes()
    part_of = places_of(models[suffix])
    expected = weights(models[suffix])
    dice = random.Random(20261128)
    seen = dict.fromkeys(("content", "header", "unread"), 0)
    path = tmp_path / f"x{suffix}"
    for _ in range(100):
        bit = dice.randrange(8 * len(whole))
        path.write_bytes(flipped(whole, bit))
        inside = part_of(bit // 8)
        try:
            found = weights(path)
        except ZooError:
            seen["content" if inside else "header"] += 1
            continue
        with zipfile.ZipFile(path) as one, zipfile.ZipFile(models[suffix]) as other:
            assert not inside or one.read(inside) == other.read(inside)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        seen["unread"] += 1
    assert seen["content"] > 20


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@situation("""a disk or a network | each bit of an entry of the zip archive's directory is flipped,
    one after the other | an error, or the same model: a tensor called a folder would be memory that
    nobody filled""")
def test_flipped_bits_of_the_directory(
    suffix: str, models: dict[str, Path], tmp_path: Path
) -> None:
    whole = models[suffix].read_bytes()
    expected = weights(models[suffix])
    path = tmp_path / f"x{suffix}"
    entry = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"/data/"))
    refused = set()
    for bit in range(8 * 28, 8 * 46):  # behind checksum and sizes
        path.write_bytes(flipped(whole, 8 * entry + bit))
        try:
            found = weights(path)
        except ZooError:
            refused.add(bit)
            continue
        assert all(torch.equal(found[key], expected[key]) for key in expected), bit
    assert 8 * 38 + 4 in refused  # "a folder"
    assert len(refused) > 40


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@situation("""a disk or a network | a flipped bit within the numbers of one tensor | named as damage
    (CRC-32) wherever the model is used""")
def test_damage_to_a_tensor_is_named(suffix: str, models: dict[str, Path], place: Path) -> None:
    content = bytearray(models[suffix].read_bytes())
    part_of = places_of(models[suffix])
    middle = next(k for k in range(len(content)) if part_of(k).endswith(("/data/7", "/data/0")))
    content[middle + 3] ^= 4
    (place / f"bad{suffix}").write_bytes(content)
    name = f"bad{suffix}"
    for command in ("test", "predict", "freeze", "convert", "compare", "deviation"):
        arguments = [part.replace("MODEL", name) for part in COMMANDS[command]]
        code, said = answer(*arguments)
        assert code != 0
        assert "CRC-32" in said, command


@pytest.mark.parametrize(("dataset", "variables", "words"), [
    case("a stranger's .dp file | one array named 3,000 times | refused before it is read again "
         "and again", {"data": np.zeros(2_000_000)},
         dict.fromkeys(map(str, range(3000)), "/variable_0000"), "claims to hold"),
    case("a stranger's .dp file | a compressed array of 1 GB in 2 kB | refused before memory is "
         "taken", {"shape": 1 << 27, "dtype": "f8", "compression": "gzip", "fillvalue": 1.0},
         {"w": "/variable_0000"}, "claims to hold"),
    case("a stranger's .dp file | an array of 8 TB below a group | refused before memory is taken",
         {"name": "variable_x/y", "shape": 1 << 40, "dtype": "f8", "chunks": (1024,)},
         {"w": "/variable_x/y"}, "claims to hold"),
    case("a stranger's .dp file | an array of texts or objects | refused: no numbers",
         {"data": np.array(["a", "b"], dtype=h5py.string_dtype())}, {"w": "/variable_0000"},
         "holds no numbers"),
])  # fmt: skip
def test_hdf5_models_are_bounded(
    dataset: dict[str, object], variables: dict[str, str], words: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "x.dp", "w") as file:
        file.create_dataset(**{"name": "variable_0000"} | dataset)
        file.attrs["json"] = json.dumps({"@variables": variables})
    with pytest.raises((CheckpointError, ConversionError), match=words):
        read_hdf5(tmp_path / "x.dp")


@situation("""a stranger's checkpoint | a file name that is a piece of a program, given to zoo md |
    it does not reach the scripts that are written""")
def test_names_of_files_do_not_reach_scripts(place: Path) -> None:
    name = 'x."""\nimport os\nos.mkdir("owned")\n"""'
    shutil.copy(SMALL, place / name)
    for engine in ("ase", "lammps"):
        arguments = ["md", "water.xyz", "-m", name, "--engine", engine, "-o", engine]
        code, said = answer(*arguments)
        assert code == 0, said
        texts = "".join(path.read_text() for path in Path(engine).glob("*.py"))
        texts += "".join(path.read_text() for path in Path(engine).glob("in.*"))
        assert texts
        assert "owned" not in texts
