"""`zoo freeze`, `convert` and `export`: models in other formats."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from cli.options import (
    Branch,
    Device,
    Document,
    Dtype,
    DtypeName,
    FileArgument,
    Replace,
    dtype_option,
    find_model,
    keep,
)
from cli.output import Output
from schemas.base.errors import ConversionError

if TYPE_CHECKING:
    from dpa2.formats.compression import Compression, Tabulation
    from dpa2.formats.conversion import PortableModel


@dataclass(frozen=True, slots=True)
class Compress:
    """The options of compression."""

    compress: Annotated[
        bool,
        Option("--compress", help="Make a table of the first embedding network; only in a .pth."),
    ] = False
    step: Annotated[
        float, Option("--step", help="Of the table where training data lie; tenfold beyond.")
    ] = 0.01
    extrapolate: Annotated[
        int,
        Option(
            "--extrapolate",
            min=2,
            max=10_000,
            help="How many times as far as these data the table reaches.",
        ),
    ] = 5
    training_script: Annotated[
        Path | None,
        Option(
            "--training-script",
            metavar="INPUT",
            help="Input whose data say how close atoms come, where the model does not.",
        ),
    ] = None

    def tabulation(self) -> "Tabulation | None":
        """Return how to compress; None: not at all."""
        from dpa2.formats.compression import Tabulation

        if not self.compress:
            if self != Compress():
                raise ConversionError("a table is only made with --compress", hint="add --compress")
            return None
        script = self.training_script
        shortest = None if script is None else _shortest_distance(script)
        return Tabulation(self.step, self.extrapolate, shortest)


def _shortest_distance(script: Path) -> float | None:
    """Return the distance of the closest two atoms of the training data of an input, Å."""
    from dpa2.data.systems import open_systems
    from dpa2.training.start import read_input
    from dpa2.training.statistics import shortest_distance

    config, _ = read_input(script, [])
    found = []
    for branch in config.branches.values():
        data = branch.data.training_data
        systems = open_systems(data.systems, branch.model.type_map, data.rglob_patterns)
        found.append(shortest_distance(systems, data.min_pair_dist))
    return min((distance for distance in found if distance is not None), default=None)


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
    dtype: Dtype = "auto",
    atomic_virial: Annotated[
        bool, Option("--atomic-virial", help="In a .pt2: virials of atoms, too; slower.")
    ] = False,
    device: Device = "cpu",
    compression: Compress,
    out: Output,
) -> Document:
    """Freeze a checkpoint to TorchScript, or compile it; both run without this program.

    A .pt2 file holds machine code: it belongs to the kind of processor or GPU, and to the release
    of torch, that compiled it, and LAMMPS runs it on one rank with `atom_modify map yes`.

    With --compress the first embedding network of a model of `tebd_input_mode: strip` becomes a
    table, as with dp compress; its greatest error is measured.

    Example: zoo freeze -c model.ckpt.pt -o model.pth

    Example: zoo freeze -c model.ckpt.pt --compress -o table.pth
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
            tabulation=compression.tabulation(),
            report=report,
        )
    seconds = perf_counter() - start
    out.text(
        f"{frozen.path}: {len(frozen.type_map)} types, {frozen.num_parameters:,} parameters, "
        f"{frozen.num_bytes / 1e6:.1f} MB, {seconds:.0f} s"
    )
    made = frozen.compression
    if made is not None:
        _show_table(made, out)
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
        **({} if made is None else {"compression": _table_document(made)}),
    }


def _show_table(made: "Compression", out: Output) -> None:
    grid, parts = made.grid, (made.error, made.error_beyond)
    out.text(
        f"compressed: {made.num_intervals} intervals, of {grid.fine:g} from {grid.lower:g} to "
        f"{grid.upper:g} (atoms {made.shortest:.3g} Å apart), of {grid.coarse:g} to {grid.end:g}"
    )
    for title, error in zip(("greatest error", "beyond the training data"), parts, strict=True):
        out.text(f"{title}: value {error.value:.1e}, slope {error.slope:.1e}")


def _table_document(made: "Compression") -> Document:
    facts = asdict(made)
    return {**facts, "grid": made.grid._asdict()}


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
        DtypeName, dtype_option("Write parameters in float32 or float64; auto: as they are.")
    ] = "auto",
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
    del facts["compression"]
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
