"""What commands do with arguments that are not what they need, and where they must not go."""

import json
import socket
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.errors import report
from cli.main import app
from tests.cli.conftest import SINGLE_TASK, changed, write_system
from tests.strangers.situations import situation

GOLDEN = Path(__file__).parents[1] / "golden" / "small"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with data and an input, and settings of its own."""
    for variable in ("ZOO_CACHE", "ZOO_CONFIG", "HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "home" / variable))
    for variable in ("ZOO_OFFLINE", "HF_HUB_OFFLINE", "ZOO_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    work = tmp_path / "work"
    write_system(work / "data" / "water")
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>"})
    (work / "input.json").write_text(json.dumps(document))
    monkeypatch.chdir(work)
    return work


def run(capsys, *words):
    """Run a command as `zoo` does; return exit code, and what it said on both streams."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    said = result.output
    code = result.exit_code
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        capsys.readouterr()
        code = report(result.exception, json_mode=False)
        told = capsys.readouterr()
        said += told.out + told.err
    return code, said


REMOTE = [
    "pull Water",
    "pull Water --branch x",
    "pull Water --branch x --dry-run",
    "show Water --remote",
    "show hf://owner/repo/model.pt",
    "show ms://owner/repo/model.pt",
    "branches Water",
    "branches Water --remote",
    "branches https://host.example/model.pt",
    "verify Water",
    "extract Water --branch x -o out.pt",
    "export Water -o out.safetensors --safetensors",
    "convert Water out.yaml",
    "test -m Water -s data/water",
    "compare a=Water -s data/water",
    "compare a=Water:x -s data/water",
    "speed hf://owner/repo/model.pt:x -s data/water",
    "predict -m Water data/water -o out.xyz",
    "deviation -m Water -m Water -s data/water",
    "md data/water -m Water",
    "recommend data/water -m Water",
    "finetune input.json -m Water",
    "train input.json --finetune Water",
    "train input.json --init-model Water",
    "validate input.json --finetune Water",
    "validate input.json --init-model Water",
    "init data/water --finetune Water --force",
    "freeze -c Water -o out.pth",
    "bias Water -s data/water -o out.pt",
    "bundle Water -o out",
    "lock finetune input.json -m Water",
    "registry add https://host.example/registry.yaml",
    "search water --online",
]


@pytest.fixture
def no_network(monkeypatch):
    """Attempts to reach another machine; none succeeds."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("the test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def registered(workspace, capsys):
    """A registry that knows `Water`, which is not on this machine."""
    model = {
        "name": "Water",
        "description": "Water.",
        "family": "DPA-2",
        "trainable": True,
        "file": {
            "name": "water.pt",
            "sha256": "0" * 64,
            "sources": [{"kind": "https", "url": "https://host.example/water.pt"}],
        },
    }
    Path("registry.yaml").write_text(yaml.safe_dump({"version": 1, "models": [model]}))
    code, said = run(capsys, "registry", "add", "registry.yaml")
    assert code == 0, said


@pytest.mark.parametrize("line", REMOTE)
@situation(
    "compute nodes without a network",
    "HF_HUB_OFFLINE or ZOO_OFFLINE is set and the model is not here",
    "the network is not touched, and the message says why and what to do",
)
def test_offline_variables_are_respected(line, registered, no_network, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_OFFLINE" if len(line) % 2 else "HF_HUB_OFFLINE", "1")
    code, said = run(capsys, *line.split())
    assert code != 0
    assert no_network == []
    assert "network" in said or "is not on this machine" in said
    assert "bug of zoo" not in said
    assert not list(Path().glob("out*"))


@pytest.mark.parametrize("line", ["show Water --remote", "branches Water", "pull Water"])
@situation(
    "compute nodes without a network",
    "zoo show or zoo branches of a model that is not here, with --offline",
    "the network is not touched; the hint names --offline",
)
def test_the_option_is_respected_too(line, registered, no_network, capsys):
    code, said = run(capsys, *line.split(), "--offline")
    assert code != 0
    assert no_network == []
    assert "network" in said
