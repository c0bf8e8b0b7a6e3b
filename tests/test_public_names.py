"""The names that `import dpa2` promises."""

import importlib
import subprocess
import sys

import dpa2


def test_load_and_train_stay_functions_after_every_room_was_imported():
    for room in ("training.run", "evaluate.potential", "formats.torchscript"):
        importlib.import_module(f"dpa2.{room}")
    assert callable(dpa2.load)
    assert callable(dpa2.train)
    assert dpa2.ase.Calculator.implemented_properties


def test_importing_dpa2_imports_neither_torch_nor_ase():
    program = "import sys, dpa2; print('torch' in sys.modules, 'ase' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_command_line_runs_as_a_module():
    command = [sys.executable, "-m", "cli.main", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("zoo ")
