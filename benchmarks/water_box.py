"""The box of water and the float64 model that the molecular dynamics benchmarks run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from schemas.checkpoint.branch_names import single_task_section

WATER = Path(__file__).parents[1] / "examples" / "water" / "gfn2" / "test"
PEER = "deepmd-kit-3.2.0"


def water_box(repeat: tuple[int, int, int]) -> Atoms:
    """Return 32 molecules of liquid water, repeated: (2, 1, 1) makes 192 atoms."""
    elements = (WATER / "type_map.raw").read_text().split()
    types = np.loadtxt(WATER / "type.raw", dtype=int)
    coord = np.load(WATER / "set.000" / "coord.npy")[0].reshape(-1, 3)
    box = np.load(WATER / "set.000" / "box.npy")[0].reshape(3, 3)
    return Atoms([elements[i] for i in types], coord, cell=box, pbc=True).repeat(repeat)


def in_float64(model: Path, branch: str | None, target: Path) -> Path:
    """Write a branch of a checkpoint as a single-task checkpoint that computes in float64."""
    source = read_checkpoint(model)
    name = source.resolve(branch)
    section: dict[str, Any] = single_task_section(source.model_params, name)
    for part in ("descriptor", "fitting_net"):
        section[part] = {**section[part], "precision": "float64"}
    _, tensors = source.branch(name)
    wider = {k: t.to(torch.float64) if t.is_floating_point() else t for k, t in tensors.items()}
    write_checkpoint(
        target,
        tensors={"Default": {key: tensor.clone() for key, tensor in wider.items()}},
        model_params=section,
        step=0,
        learning_rate=0.0,
        optimizer={},
    )
    return target


@dataclass(frozen=True)
class Peer:
    """deepmd-kit 3.2.0 with LAMMPS, in the environment that `make interop` builds."""

    folder: Path

    @property
    def lammps(self) -> Path:
        """Return LAMMPS with deepmd-kit's plugin."""
        return self.folder / "bin" / "lmp"

    def environment(self, threads: int) -> dict[str, str]:
        """Return the variables that a run with so many threads needs."""
        libraries = self.folder.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")
        return os.environ | {
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": str(threads),
            "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        }


def find_peer() -> Peer:
    """Return the environment, or say how to make it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "dpa-zoo" / PEER
    if not (folder / "bin" / "lmp").exists():
        raise SystemExit(
            f"no deepmd-kit with LAMMPS in {folder}: run bash tests/interop/setup_peer.sh"
        )
    return Peer(folder)
