"""What the command line imports before it is asked for anything."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
sys.argv = ["zoo", *{arguments!r}]
from cli.main import main
try:
    main()
except SystemExit:
    pass
json.dump(sorted(sys.modules), sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    script = SCRIPT.format(arguments=list(arguments))
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return set(json.loads(result.stderr[result.stderr.index("[") :]))


def test_help_imports_nothing_heavy():
    loaded = modules_after("--help")
    # typer itself may import rich; what is ours needs no library
    for name in ("torch", "numpy", "pydantic", "dpdata", "huggingface_hub", "yaml", "jsonschema"):
        assert name not in loaded, name
    ours = {name for name in loaded if name.startswith("schemas.")}
    allowed = {"errors", "diagnostics", "terminal", "environment"}
    assert ours <= {"schemas.base", *(f"schemas.base.{name}" for name in allowed)}


def test_validating_leaves_torch_and_numpy_out(tmp_path):
    path = tmp_path / "input.json"
    path.write_text('{"model": {}}')
    loaded = modules_after("validate", str(path))
    assert not {"torch", "numpy", "h5py", "rich.console"} & loaded


def test_explaining_leaves_torch_and_numpy_out():
    assert not {"torch", "numpy"} & modules_after("explain", "ZOO102")
