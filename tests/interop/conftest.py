"""Fixtures that reach deepmd-kit 3.2.0 in its own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dpa2.formats.conversion import freeze

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


class Deepmd:
    """deepmd-kit, called through its own Python.

    Attributes:
        python: That interpreter.
    """

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        libraries = folder.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")
        self.environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "DP_INTRA_OP_PARALLELISM_THREADS": "1",
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        }

    def call(self, *command: object, cwd: Path = HERE) -> str:
        """Run a program of the environment's `bin`; returns stdout, fails with its stderr."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.python.with_name(program)), *arguments],
            cwd=cwd,
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script of this folder; returns the JSON document it writes to the last line."""
        out = self.call("python", HERE / script, *arguments)
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="session")
def deepmd() -> Deepmd:
    """deepmd-kit's environment, built by `make interop`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "dpa-zoo" / "deepmd-kit-3.2.0"
    assert (folder / ".complete").exists(), f"no deepmd-kit 3.2.0 in {folder}: run `make interop`"
    return Deepmd(folder)


@pytest.fixture(scope="session")
def compiled_with_parameters(tmp_path_factory) -> tuple[Path, Path]:
    """Return a checkpoint that takes fparam and aparam, and its `.pt2`: one compilation for all."""
    checkpoint = GOLDEN / "fparam_aparam" / "model.pt"
    target = tmp_path_factory.mktemp("compiled") / "water.pt2"
    return checkpoint, freeze(checkpoint, target).path


@pytest.fixture
def golden() -> Path:
    """Folder of the golden cases."""
    return GOLDEN
