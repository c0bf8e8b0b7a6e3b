"""A checkpoint's branch written as a file for deepmd-kit, LAMMPS and everything C++."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpa2.formats.conversion import in_precision
from dpa2.formats.table import format_of
from dpa2.lower.frozen_model import FrozenEnergyModel
from dpa2.lower.ghost_exchange import declare_border_operator
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError

SUFFIX = ".pth"
COMPILED_SUFFIX = ".pt2"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was written.

    Attributes:
        path: The file.
        checkpoint: Where the weights come from.
        branch: Branch of the checkpoint; `Default` for a single-task model.
        type_map: Element of each type.
        num_parameters: Trainable numbers in it.
        num_bytes: Size of the file.
    """

    path: Path
    checkpoint: Path
    branch: str
    type_map: list[str]
    num_parameters: int
    num_bytes: int

    @property
    def is_compiled(self) -> bool:
        """Whether it is machine code for this machine rather than TorchScript."""
        return self.path.suffix == COMPILED_SUFFIX


def script(model: EnergyModel, model_params: dict[str, Any]) -> torch.jit.ScriptModule:
    """Return the TorchScript module of a model, which is taken apart.

    Args:
        model: A trained model; not to be used afterwards.
        model_params: The `model` section it was trained with.
    """
    declare_border_operator()
    with warnings.catch_warnings():
        # torch deprecates TorchScript, which is still what deepmd-kit and LAMMPS load.
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen = FrozenEnergyModel(model, model_params).eval()
        return torch.jit.script(frozen)


def freeze(
    checkpoint: Path | str,
    output: Path | str = "frozen_model.pth",
    branch: str | None = None,
    *,
    dtype: str | None = None,
    atomic_virial: bool = False,
    device: str = "cpu",
    report: Callable[[str], None] = lambda _: None,
) -> Frozen:
    """Freeze a checkpoint of this project or of deepmd-kit, or a model in a portable format.

    Args:
        checkpoint: The file, or a folder with a `checkpoint` file that names it.
        output: What to write: `.pth` (TorchScript) or `.pt2` (compiled, see `dpa2.formats.pt2`);
            without one of these suffixes, `.pth` is added.
        branch: Branch of a multi-task model: its name or an alias, in any case.
        dtype: Compute in `float32` or `float64`; None: as it was trained.
        atomic_virial: Only `.pt2`: split virials among atoms. A `.pth` file always can.
        device: Only `.pt2`: `cpu` or `cuda`. A `.pth` file runs on both.
        report: Told what is being done.

    Raises:
        CheckpointError: If the file or the branch cannot be used.
        ConfigError: If the model is none that this engine runs.
        ConversionError: If the model cannot be compiled.
        WriteError: If the output cannot be written; an older file of that name is untouched.
    """
    target = Path(output)
    if target.suffix not in (SUFFIX, COMPILED_SUFFIX):
        target = target.with_name(target.name + SUFFIX)
    source = find_checkpoint(Path(checkpoint))
    portable = format_of(source).read(source, branch)
    if dtype is not None:
        portable = in_precision(portable, dtype)
    num_parameters = sum(p.numel() for p in portable.model.parameters())
    type_map = list(portable.model.type_map)
    if target.suffix == COMPILED_SUFFIX:
        from dpa2.formats.pt2 import write_pt2

        write_pt2(portable, target, report, atomic_virial=atomic_virial, device=device)
    else:
        format_of(target).write(portable, target, report)
    return Frozen(
        target, portable.path, portable.branch, type_map, num_parameters, target.stat().st_size
    )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a folder's `checkpoint` file names, or `path` itself if a file.

    Raises:
        CheckpointError: If the folder does not say, or says wrongly.
    """
    if not path.is_dir():
        return path
    pointer = path / "checkpoint"
    if not pointer.is_file():
        found = sorted(item.name for item in path.glob("*.pt"))
        raise CheckpointError(
            f"the folder {path} has no file `checkpoint` that names its newest checkpoint",
            hint=f"name one of: {', '.join(found)}" if found else "give a model.ckpt-N.pt",
        )
    text = pointer.read_text(errors="replace").strip()
    named = path / text
    if not text or "\n" in text or not named.is_file():
        raise CheckpointError(
            f"{pointer} names `{text[:80]}`, which is not a file in {path}",
            hint="name the checkpoint itself",
        )
    return named
