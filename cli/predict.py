"""`zoo predict`: energies, forces and stress of structure files."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bad_frames import Strict, tell
from cli.options import Branch, Device, Json, Model, Quiet, numbers
from cli.output import Output
from cli.reading import FormatName, TypeNames, names_of

if TYPE_CHECKING:
    from dpa2.interfaces.predict import Predicted


def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Any format of dpdata or ASE, or deepmd systems; FILE@INDEX takes some frames.",
        ),
    ],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to write.")],
    format_name: FormatName = None,
    type_map: TypeNames = None,
    fparam: Annotated[
        str | None, typer.Option("--fparam", help="Frame parameters, as 1.0,2.0")
    ] = None,
    atomic: Annotated[
        bool, typer.Option("--atomic", "-a", help="Write energies of atoms too.")
    ] = False,
    strict: Strict = False,
    branch: Branch = None,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate structures and write them with energy, forces, stress and virial.

    One that cannot be evaluated is written with nan; what cannot be read is left out and named.
    The exit code is 1 then.

    Example: zoo predict -m model.ckpt.pt POSCAR water.xyz -o predicted.extxyz
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.potential import load
    from dpa2.interfaces.predict import predict_files

    out = Output(json_mode=json_mode, quiet=quiet)
    with shown_warnings(out):
        with out.status(f"loading {model}"):
            potential = load(model, branch, device)
        with progress_bar(out, "structures", None) as advance:
            predicted = predict_files(
                potential,
                files,
                output,
                format_name=format_name,
                type_names=names_of(type_map),
                fparam=numbers("--fparam", fparam),
                atomic=atomic,
                strict=strict,
                progress=advance,
            )
    structures = predicted.structures
    warnings = [text for report in predicted.files for text in report.sentences()]
    for text in (*warnings, *map(str, predicted.refused)):
        out.warning(text)
    bad = [f"{item.name}: {item.problem}" for item in structures if item.problem is not None]
    out.result(
        {
            "ok": not bad and not predicted.refused,
            "model": model,
            "branch": branch,
            "output": str(output),
            "structures": [structure.to_json() for structure in structures],
            "refused": [asdict(item) for item in predicted.refused],
            "warnings": warnings,
        }
    )
    _print(out, structures)
    out.info(f"wrote {output}")
    tell(out, bad)
    if bad or predicted.refused:
        raise typer.Exit(1)


def _print(out: Output, structures: "list[Predicted]") -> None:
    rows = []
    for file in dict.fromkeys(structure.file for structure in structures):
        here = [structure for structure in structures if structure.file == file]
        per_atom = [item.energy / item.num_atoms for item in here if item.energy is not None]
        forces = [item.max_force for item in here if item.max_force is not None]
        mean = f"{sum(per_atom) / len(per_atom):.6f}" if per_atom else "-"
        rows.append((file, str(len(here)), mean, f"{max(forces):.4g}" if forces else "-"))
    columns = ("file", "structures", "mean E/atom (eV)", "largest F (eV/Å)")
    out.table("", columns, rows)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(predict)
