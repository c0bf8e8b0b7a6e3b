"""`zoo convert`: a model from one file format to another."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpa2.convert.formats import format_of
from dpa2.convert.portable import in_precision
from schemas.errors import ConversionError


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


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    branch: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Write a model in the format that the output's suffix names (`dpa2.convert.formats`).

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
    reader, writer = format_of(given), format_of(target, to_write=True)
    writer.check_writable(target)
    _refuse_overwriting(given, target, force=force)
    portable = reader.read(given, branch)
    if dtype is not None:
        portable = in_precision(portable, dtype)
    model = portable.model
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = str(model.descriptor.dtype).removeprefix("torch.")
    type_map = list(model.type_map)
    writer.write(portable, target, report)
    return Converted(
        portable.path,
        target,
        reader.name,
        writer.name,
        portable.branch,
        type_map,
        precision,
        num_parameters,
        _size(target),
        portable.left_behind,
        portable.notes,
    )


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size


def _refuse_overwriting(source: Path, target: Path, *, force: bool) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise ConversionError(f"{target} is the file to convert", hint="name another file to write")
    if target.exists() and not force:
        raise ConversionError(
            f"{target} is there already", hint="name another one, or add --force to replace it"
        )
