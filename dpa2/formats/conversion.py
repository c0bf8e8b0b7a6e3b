"""A model read from one file format and written in another: `zoo convert`, `zoo freeze`."""

import os
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpa2.formats.compressed import is_compressed, take_table
from dpa2.formats.compression import Compression, Tabulation, compress
from dpa2.formats.table import Report, format_of, silent
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConversionError
from schemas.base.writing import file_sha256
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.input.model import parse_model

SOFTWARE = "dpa-zoo"
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class PortableModel:
    """A model of one task, and where it comes from.

    Attributes:
        model: The network with its weights and statistics.
        model_params: The `model` section it was trained with.
        path: The file it was read from.
        branch: Its name there; `Default` in a single-task model.
        branches: All branches of the file.
        step: 0-based index of the last training step, None where the file does not say.
        learning_rate: Rate of that step.
        left_behind: What the file held beside the model, in words.
        notes: What was odd about the file, in words.
        history: Earlier conversions, oldest first (see `with_history`).
    """

    model: EnergyModel
    model_params: dict[str, Any]
    path: Path
    branch: str = SINGLE_TASK_BRANCH
    branches: tuple[str, ...] = (SINGLE_TASK_BRANCH,)
    step: int | None = None
    learning_rate: float | None = None
    left_behind: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def with_history(self) -> list[dict[str, Any]]:
        """Return the conversions that lead to a file written now: name and digest, no time."""
        step = {
            "software": SOFTWARE,
            "version": software_version(),
            "source": self.path.name,
            "sha256": file_sha256(self.path),
            "branch": self.branch,
        }
        return [*self.history, step]


def refuse_branch(path: Path, branch: str | None) -> None:
    """Raise CheckpointError if a branch is asked of a file that holds one model."""
    if branch is not None:
        raise CheckpointError(
            f"{path} holds one model: it has no branches to choose from",
            hint="leave the branch out",
        )


def in_precision(portable: PortableModel, dtype: str) -> PortableModel:
    """Return the model with parameters of another floating-point type.

    Raises:
        ConversionError: If there is no such type.
    """
    if dtype not in DTYPES:
        raise ConversionError(
            f"parameters cannot be of type `{dtype}` here", hint=f"use one of: {', '.join(DTYPES)}"
        )
    section = dict(portable.model_params)
    for name in ("descriptor", "fitting_net"):
        section[name] = {**section[name], "precision": dtype}
    model = build_model(parse_model(section))
    state = to_deepmd_state(portable.model)
    take_table(state)
    load_deepmd_state(model, state)
    lookup = portable.model.descriptor.repinit.embedding.lookup
    if lookup is not None:
        model.descriptor.repinit.embedding.lookup = deepcopy(lookup).to(model.descriptor.dtype)
    return replace(portable, model=model, model_params=section)


def software_version() -> str:
    """Return the version of this program."""
    try:
        return version(SOFTWARE)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    Attributes:
        source: The file that was read.
        path: The file (or folder) that was written.
        source_format: Usual suffix of the format of the source.
        format: Usual suffix of the format that was written.
        branch: Branch of the source; `Default` for a single-task model.
        type_map: Element of each type.
        precision: Floating-point type of the descriptor's parameters.
        num_parameters: Trainable numbers in it.
        num_bytes: Size of the file, or of all files of the folder.
        left_behind: What the source holds beside the model, in words.
        notes: What was odd about the source, in words.
        compression: The table that was made of its embedding network, if one was asked for.
    """

    source: Path
    path: Path
    source_format: str
    format: str
    branch: str
    type_map: list[str]
    precision: str
    num_parameters: int
    num_bytes: int
    left_behind: list[str]
    notes: list[str]
    compression: Compression | None = None


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    branch: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    report: Report = silent,
) -> Converted:
    """Write a model in the format that the output's suffix names (`dpa2.formats.table`).

    Weights and statistics keep their bits unless `dtype` asks for others.

    Args:
        source: A model of this project or of deepmd-kit.
        output: What to write.
        branch: Which branch of a multi-task checkpoint: its name or an alias, in any case.
        dtype: `float32` or `float64`: precision of the parameters; None keeps it.
        force: Replace a file that is there.
        report: Told what is being done where that takes long.

    Raises:
        CheckpointError: If the source or the branch cannot be used.
        ConversionError: If the model cannot be represented in the format asked for.
        ConfigError: If the model is none that this engine runs.
        WriteError: If the output cannot be written; an older file of that name is untouched.
    """
    given, target = Path(source), Path(output)
    format_of(target, to_write=True).check_writable(target)
    if target.exists() and given.exists() and target.samefile(given):
        raise ConversionError(f"{target} is the file to convert", hint="name another file to write")
    if target.exists() and not force:
        raise ConversionError(
            f"{target} is there already", hint="name another one, or add --force to replace it"
        )
    return _rewritten(given, target, branch, dtype, report)


def freeze(
    checkpoint: Path | str,
    output: Path | str = "frozen_model.pth",
    branch: str | None = None,
    *,
    dtype: str | None = None,
    atomic_virial: bool = False,
    device: str = "cpu",
    tabulation: Tabulation | None = None,
    report: Report = silent,
) -> Converted:
    """Freeze a checkpoint of this project or of deepmd-kit, or a model in a portable format.

    Args:
        checkpoint: The file, or a folder with a `checkpoint` file that names it.
        output: What to write: `.pth` (TorchScript) or `.pt2` (compiled, see `dpa2.formats.pt2`);
            without one of these suffixes, `.pth` is added. An older file is replaced.
        branch: Branch of a multi-task model: its name or an alias, in any case.
        dtype: Compute in `float32` or `float64`; None: as it was trained.
        atomic_virial: Only `.pt2`: split virials among atoms. A `.pth` file always can.
        device: Only `.pt2`: `cpu` or `cuda`. A `.pth` file runs on both.
        tabulation: Only `.pth`: compress it so. None: do not.
        report: Told what is being done.

    Raises:
        CheckpointError: If the file or the branch cannot be used.
        ConfigError: If the model is none that this engine runs.
        ConversionError: If the model cannot be compiled or compressed.
        WriteError: If the output cannot be written; an older file of that name is untouched.
    """
    target = Path(output)
    options = {"atomic_virial": atomic_virial, "device": device}
    if target.suffix != ".pt2":
        options = {}
        target = target if target.suffix == ".pth" else target.with_name(target.name + ".pth")
    source = find_checkpoint(Path(checkpoint))
    return _rewritten(source, target, branch, dtype, report, tabulation, **options)


def _rewritten(
    source: Path,
    target: Path,
    branch: str | None,
    dtype: str | None,
    report: Report,
    tabulation: Tabulation | None = None,
    **options: Any,
) -> Converted:
    reader, writer = format_of(source), format_of(target, to_write=True)
    portable = reader.read(source, branch)
    if dtype is not None:
        portable = in_precision(portable, dtype)
    model = portable.model
    if writer.name != ".pth" and (tabulation is not None or is_compressed(model)):
        raise ConversionError(
            f"a compressed model has a table in place of its embedding network, for which "
            f"{writer.name} files have no place",
            hint="write a .pth file, or the model that it was compressed from",
        )
    compression = None
    if tabulation is not None:
        report("tabulating the embedding network")
        compression = compress(model, tabulation)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = str(model.descriptor.dtype).removeprefix("torch.")
    type_map = list(model.type_map)
    writer.write(portable, target, report, **options)
    return Converted(
        portable.path,
        target,
        reader.name,
        writer.name,
        portable.branch,
        type_map,
        precision,
        num_parameters,
        sum(item.stat().st_size for item in (target, *target.rglob("*")) if item.is_file()),
        portable.left_behind,
        portable.notes,
        compression,
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
