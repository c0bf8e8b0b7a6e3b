"""Texts of other people's files reach the terminal without power over it, from every command."""

import io
import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import pytest
from rich.progress import Progress, TextColumn

from cli.main import main
from cli.output import Output
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from schemas.base.terminal import (
    GuardedStream,
    LastingStream,
    console,
    guard_streams,
    harmless,
    one_line,
    unguarded,
)
from tests.evaluate.conftest import GOLDEN, write_system
from tests.strangers.situations import situation

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\x08[bold red]x[/]\r\x7f\U000e0041"
POWER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\U000e0041]")
COLOURS = re.compile(r"\x1b\[[\d;]*m")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line as a program; return its exit code and all that it printed."""

    def invoke(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), said.out + said.err

    return invoke


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint, a registry, an input, data and names, all hostile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    many = read_checkpoint(GOLDEN / "multitask" / "model.pt")
    names = [f"{EVIL}{number}" for number in range(len(many.branches))]
    sections = list(many.model_params["model_dict"].values())
    loss = {"loss_dict": {name: {"type": EVIL} for name in names}}
    write_checkpoint(
        "many.pt",
        tensors={new: many.branch(old)[1] for new, old in zip(names, many.branches, strict=True)},
        model_params=many.model_params
        | {"model_dict": dict(zip(names, sections, strict=True))}
        | loss,
        step=1,
        learning_rate=1e-3,
    )
    one = read_checkpoint(GOLDEN / "small" / "model.pt")
    write_checkpoint(
        "one.pt",
        tensors={"Default": one.branch()[1]},
        model_params=one.model_params | {"type_map": ["O", EVIL], EVIL: EVIL},
        step=1,
        learning_rate=1e-3,
    )
    shutil.copy("one.pt", f"{EVIL.replace('/', '')}.pt")
    with np.load(GOLDEN / "small" / "expected.npz") as frames:
        write_system(tmp_path / "data", dict(frames))
    (tmp_path / "data" / "type_map.raw").write_text("O\nH\x1b[2J\n")
    (tmp_path / "lcurve.out").write_text(f"# step rmse_{EVIL[:8]}_val lr\n1 0.5 0.1\n2 0.4 0.1\n")
    document = {"model": {EVIL: 1, "type_map": [EVIL]}, "training": {"systems": [EVIL]}}
    (tmp_path / "input.json").write_text(json.dumps(document, ensure_ascii=False))
    (tmp_path / "bad.yaml").write_text(f"a: 'x{EVIL[-3:]}\nb: [")
    model = {
        "name": "evil-model",
        "description": EVIL,
        "family": EVIL,
        "trainable": True,
        "elements": [EVIL],
        "branches": [{"name": EVIL, "domain": EVIL, "functional": EVIL, "code": EVIL}],
        "file": {"name": "m.pt", "sources": [{"kind": "file", "path": "m.pt"}]},
        "licence": EVIL,
        "citation": EVIL,
        "training_input": EVIL,
        "known_bad": [{"deepmd_kit": EVIL, "reason": EVIL}],
    }
    registry = json.dumps({"version": 1, "models": [model]}).replace("\\udb40\\udc41", "")
    (tmp_path / "registry.yaml").write_text(registry)
    return tmp_path


NAMED = f"{EVIL.replace('/', '')}.pt"
COMMANDS = {
    "branches": ["branches", "many.pt"],
    "branches --json": ["branches", "many.pt", "--json"],
    "show": ["show", "many.pt"],
    "show one": ["show", "one.pt"],
    "extract": ["extract", "many.pt", "-o", "x.pt"],
    "extract wrong": ["extract", "many.pt", "--branch", EVIL, "-o", "x.pt"],
    "export": ["export", "one.pt", "--safetensors", "-o", "x.safetensors"],
    "diff": ["diff", "one.pt", "many.pt"],
    "convert": ["convert", "many.pt", "x.dp"],
    "freeze": ["freeze", "-c", "many.pt", "-o", "x.pth"],
    "test": ["test", "-m", "one.pt", "-s", "data"],
    "test a file": ["test", "-m", NAMED, "-s", "data"],
    "compare": ["compare", f"{EVIL}=one.pt", "-s", "data"],
    "speed": ["speed", "many.pt", "-s", "data"],
    "recommend": ["recommend", "data", "-m", "many.pt"],
    "deviation": ["deviation", "-m", "one.pt", "-m", "one.pt", "-s", "data"],
    "predict": ["predict", EVIL, "-m", "one.pt"],
    "md": ["md", EVIL, "-m", "one.pt"],
    "bias": ["bias", "one.pt", "-s", "data", "-o", "x.pt"],
    "data check": ["data", "check", "data"],
    "validate": ["validate", "input.json"],
    "validate concise": ["validate", "input.json", "--format", "concise"],
    "validate github": ["validate", "input.json", "--format", "github"],
    "validate json": ["validate", "input.json", "--json"],
    "validate yaml": ["validate", "bad.yaml"],
    "validate diff": ["validate", "input.json", "--diff"],
    "explain": ["explain", EVIL],
    "plan": ["plan", "input.json"],
    "train": ["train", "input.json"],
    "finetune": ["finetune", "input.json", "-m", "many.pt"],
    "plot": ["plot", "lcurve.out"],
    "plot two": ["plot", "lcurve.out", "lcurve.out"],
    "verify": ["verify", NAMED],
    "pull": ["pull", EVIL],
    "search": ["search", EVIL, "--offline"],
    "usage": ["test", f"--{EVIL}"],
    "bundle": ["bundle", "many.pt", "--branch", EVIL, "-o", "folder"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@situation("""a stranger's checkpoint, input, data | escape sequences in names of branches,
    elements, keys, files and headers | every command prints them written out; none reaches the
    terminal""")
def test_no_text_has_power_over_the_terminal(command: list[str], run: Run, place: Path) -> None:
    _, said = run(*command)
    assert said
    assert not POWER.search(said), POWER.findall(said)


@pytest.mark.parametrize("command", ["validate", "validate diff", "plot", "branches", "usage"])
@situation("""a stranger's checkpoint, input, data | the same on a terminal with colours | colours
    are ours alone; markup of rich in names is text""")
def test_colours_are_ours_alone(
    command: str, run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, said = run(*COMMANDS[command])
    assert not POWER.search(COLOURS.sub("", said))
    assert "\x1b[2J" not in said
    assert "\x1b]" not in said


@situation("""a stranger's registry | escape sequences in descriptions, families, branches,
    licences, reasons | list, show, search print them written out""")
def test_registries_have_no_power_over_the_terminal(run: Run, place: Path) -> None:
    code, said = run("registry", "add", str(place))
    assert code == 0, said
    for command in (["list"], ["show", "evil-model"], ["registry", "list"], ["pull", "evil-model"]):
        _, said = run(*command)
        assert not POWER.search(said), command
    assert "\\u001b" in run("show", "evil-model")[1]
    descriptions = [
        model["description"] for model in json.loads(run("list", "--json")[1])["models"]
    ]
    assert EVIL[:-1] in descriptions


def test_json_means_the_same(run: Run, place: Path) -> None:
    _, said = run("branches", "many.pt", "--json")
    assert f"{EVIL}0" in [branch["name"] for branch in json.loads(said)["branches"]]


def test_warnings_and_libraries_are_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    with guard_streams():
        sys.stderr.write(warnings.formatwarning(UserWarning(EVIL), UserWarning, "file.py", 1))
        sys.stdout.writelines([EVIL, EVIL])
        print(EVIL, file=sys.stderr)  # noqa: T201 - as a library does
    said = capsys.readouterr()
    assert not POWER.search(said.out + said.err)
    assert sys.stdout.write("") == 0


def test_a_guard_behind_a_lasting_stream_lets_colours_through() -> None:
    real = io.StringIO()
    stream = cast("TextIO", LastingStream(cast("TextIO", GuardedStream(real))))
    stream.write("\x1b[2J")
    unguarded(stream).write("\x1b[1m")
    assert real.getvalue() == "\\u001b[2J\x1b[1m"


def test_bars_and_tables_show_text_as_it_is() -> None:
    stream = io.StringIO()
    drawn = console(stream, force_terminal=True, width=100)
    with Progress(TextColumn("{task.description}", markup=False), console=drawn) as bar:
        bar.add_task(EVIL)
    drawn.print("[bold red]:smile:[/]")
    said = stream.getvalue()
    assert "[bold red]:smile:[/]" in said
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert "\x07" not in said


def test_tables_keep_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("t\nu", ["a", "b"], [["[red]x\ny", "\x1b[2J"]])
    Output().plain_table(["a"], [["x\ny"]])
    said = capsys.readouterr().out
    assert "[red]x\\ny" in said
    assert "\\u001b[2J" in said
    assert not POWER.search(said)


def test_what_is_written_out() -> None:
    assert harmless("plain ü 水 Å\tx\n") == "plain ü 水 Å\tx\n"
    assert one_line("a\nb") == "a\\nb"
    assert json.loads(f'"{harmless(EVIL.replace(chr(92), ""))}"') == EVIL
    assert harmless("\udc80") == "\\udc80"
