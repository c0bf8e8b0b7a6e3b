"""What the command line imports before it is asked for anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "tests" / "golden" / "multitask" / "model.pt")
SCRIPT = """
import json, sys
sys.argv = ["zoo", *{arguments!r}]
from cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code in (None, 0, 1), end.code
print("\\n" + json.dumps(sorted(sys.modules)), end="", file=sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    script = SCRIPT.format(arguments=list(arguments))
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy():
    loaded = modules_after("--help")
    # typer itself may import rich; what is ours needs no library
    for name in ("torch", "numpy", "pydantic", "dpdata", "huggingface_hub", "yaml", "jsonschema"):
        assert name not in loaded, name
    ours = {name for name in loaded if name.startswith("schemas.")}
    allowed = {"errors", "diagnostics", "terminal", "environment"}
    assert ours <= {"schemas.base", *(f"schemas.base.{name}" for name in allowed)}


NETWORK = {"httpx2", "huggingface_hub", "modelscope_hub"}
HEAVY = {"torch", "numpy", "h5py", "rich.console"}


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (("explain", "ZOO102"), HEAVY - {"rich.console"}),
        (("validate", "input.json", "--no-data"), HEAVY),
        (("validate", "without_data.json"), HEAVY),
        (("plan", "input.json"), {"torch"}),
        (("list",), HEAVY | NETWORK),
        (("search", "water"), HEAVY | NETWORK),
        (("registry", "list"), HEAVY | NETWORK),
        (("branches", MODEL), {"torch", "numpy"}),
        (("extract", MODEL, "--head", "scan", "-o", "scan.pt"), {"torch"}),
    ],
)
def test_commands_import_what_they_need(words, unwanted, workspace, good):
    Path("input.json").write_text(json.dumps(good))
    Path("without_data.json").write_text('{"model": {}}')
    assert not unwanted & modules_after(*words)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("train", "input.json", "--set", "training.numb_steps=1"), "model.ckpt-1.pt"),
        (("freeze", "-c", MODEL, "--head", "scan", "-o", "scan.pth"), "scan.pth"),
        (("test", "-m", MODEL, "--head", "scan", "-s", "data/water", "-d", "scan"), "scan.e.out"),
        (("predict", "-m", MODEL, "--head", "scan", "data/water", "-o", "scan.xyz"), "scan.xyz"),
    ],
)
def test_networks_run_without_a_compiler(words, made, workspace, good):
    Path("input.json").write_text(json.dumps(good))
    loaded = modules_after(*words)
    assert Path(made).exists()
    # These two take longer to import than torch itself.
    assert not {"torch._dynamo", "sympy"} & loaded


def test_completing_imports_nothing_heavy():
    program = (
        "import sys; from cli.options import complete_model; "
        f"assert list(complete_model('DPA')); assert not {HEAVY | NETWORK!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
