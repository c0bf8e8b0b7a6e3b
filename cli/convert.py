"""`zoo freeze`, `convert` and `export`: models in other formats."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from cli.options import Branch, Device, Document, FileArgument, Replace, find_model, keep
from cli.output import Output
from schemas.base.errors import ConversionError

if TYPE_CHECKING:
    from dpa2.formats.conversion import PortableModel


def freeze(
    *,
    checkpoint: Annotated[
        Path,
        Option(
            "--checkpoint",
            "-c",
            callback=find_model,
            help="Checkpoint (.pt), name or address, or a folder with a `checkpoint` file.",
        ),
    ] = Path(),
    output: Annotated[
        Path,
        Option(
            "--output",
            "-o",
            help="File to write: .pth runs on every machine; .pt2 is compiled for this one.",
        ),
    ] = Path("frozen_model.pth"),
    branch: Branch = None,
    dtype: Annotated[
        str | None, Option("--dtype", help="Compute in float32 or float64; default: as trained.")
    ] = None,
    atomic_virial: Annotated[
        bool, Option("--atomic-virial", help="In a .pt2: virials of atoms, too; slower.")
    ] = False,
    device: Device = "cpu",
    out: Output,
) -> Document:
    """Freeze a checkpoint to TorchScript, or compile it; both run without this program.

    A .pt2 file holds machine code: it belongs to the kind of processor or GPU, and to the release
    of torch, that compiled it, and LAMMPS runs it on one rank with `atom_modify map yes`.

    Example: zoo freeze -c model.ckpt.pt -o model.pth
    """
    from time import perf_counter

    from dpa2.formats.conversion import freeze as freeze_checkpoint

    start = perf_counter()
    with out.status(f"freezing {checkpoint}") as report:
        frozen = freeze_checkpoint(
            checkpoint,
            output,
            branch,
            dtype=dtype,
            atomic_virial=atomic_virial,
            device=device,
            report=report,
        )
    seconds = perf_counter() - start
    out.text(
        f"{frozen.path}: {len(frozen.type_map)} types, {frozen.num_parameters:,} parameters, "
        f"{frozen.num_bytes / 1e6:.1f} MB, {seconds:.0f} s"
    )
    elements = " ".join(frozen.type_map[:8]) + (" ..." if len(frozen.type_map) > 8 else "")
    out.info(f"LAMMPS: pair_style deepmd {frozen.path}; pair_coeff * * {elements}")
    if frozen.format == ".pt2":
        out.info("LAMMPS: on one rank, with `atom_modify map yes` before the atoms are read")
    return {
        "ok": True,
        "checkpoint": frozen.source,
        "branch": frozen.branch,
        "output": frozen.path,
        "type_map": frozen.type_map,
        "num_parameters": frozen.num_parameters,
        "num_bytes": frozen.num_bytes,
        "seconds": round(seconds, 1),
    }


def convert(
    *,
    source: Annotated[
        Path,
        Argument(
            metavar="IN", callback=find_model, help="Model file, or name of a pretrained model."
        ),
    ],
    output: Annotated[
        Path, Argument(metavar="OUT", help="File to write; its suffix names the format.")
    ],
    branch: Branch = None,
    dtype: Annotated[
        str | None,
        Option("--dtype", help="Write parameters in float32 or float64; default: as is."),
    ] = None,
    force: Replace = False,
    out: Output,
) -> Document:
    """Convert between .pt, .pth, .dp, .yaml, .safetensors; write .savedmodel, .hlo for JAX.

    Weights keep their bits. What the output cannot hold is named.

    Example: zoo convert model.ckpt.pt model.dp
    """
    from dpa2.formats.conversion import convert as convert_model

    register_safetensors()

    with out.status(f"converting {source}"):
        done = convert_model(
            source, output, branch=branch, dtype=dtype, force=force, report=out.info
        )
    for note in done.notes:
        out.warning(note)
    if done.left_behind:
        out.info(f"not in {done.path.name}: {'; '.join(done.left_behind)}")
    out.text(
        f"{done.path}: {len(done.type_map)} types, {done.num_parameters:,} parameters in "
        f"{done.precision}, {done.num_bytes / 1e6:.1f} MB"
    )
    facts = asdict(done)
    return {"ok": True, "output": facts.pop("path"), **facts}


def export(
    *,
    model: FileArgument,
    output: Annotated[Path, Option("--output", "-o", help="File to write.")],
    safetensors: Annotated[bool, Option("--safetensors", help="Write a safetensors file.")] = False,
    force: Replace = False,
    out: Output,
) -> Document:
    """Write a checkpoint as safetensors (tensors and JSON, no pickle), and such a file back.

    Example: zoo export model.pt --safetensors -o model.safetensors

    Example: zoo export model.safetensors -o model.pt
    """
    from zoo.safetensors_file import from_safetensors, to_safetensors

    backwards = Path(model).suffix == ".safetensors"
    if backwards and safetensors:
        raise ConversionError(
            f"{model} is a safetensors file already", hint="zoo export F.safetensors -o M.pt"
        )
    if not (backwards or safetensors):
        raise ConversionError(
            "the format to write is not said", hint="zoo export M.pt --safetensors -o F.safetensors"
        )
    keep(output, force=force, error=ConversionError)
    with out.status(f"reading {model}"):
        found = from_safetensors(model, output) if backwards else to_safetensors(model, output)
    out.text(f"{found.path}: {found.tensors} tensors, {found.num_bytes / 1e6:.1f} MB")
    return {
        "ok": True,
        "model": model,
        "output": found.path,
        "tensors": found.tensors,
        "num_bytes": found.num_bytes,
    }


def register_safetensors() -> None:
    """Add `.safetensors` to the table of `dpa2.formats.table`, with `read` and `write` below.

    `zoo` knows the file, `dpa2` the model. Both meet in a checkpoint, which is written to a
    temporary folder and gone afterwards.
    """
    from dpa2.formats.table import Format, add_format

    title = "checkpoint without any pickle"
    add_format(Format((".safetensors",), title, __name__, may_have_branches=True))


def read(path: Path, branch: str | None) -> "PortableModel":
    """Read a model from a safetensors file."""
    from dpa2.formats import checkpoint
    from zoo.safetensors_file import from_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        # a name like the file's, because messages mention it
        between = Path(folder) / path.with_suffix(".pt").name
        from_safetensors(path, between)
        return replace(checkpoint.read(between, branch), path=path)


def write(portable: "PortableModel", path: Path, report: Callable[[str], None]) -> None:
    """Write a model to a safetensors file."""
    from dpa2.formats import checkpoint
    from zoo.safetensors_file import to_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        between = Path(folder) / "model.pt"
        checkpoint.write(portable, between, report)
        to_safetensors(between, path)
