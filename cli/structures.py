"""`zoo predict`, `deviation` and `md`: models on structures."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from cli.models import BranchOfAll, chosen_model, tell_bad_frames
from cli.options import (
    Branch,
    Device,
    Document,
    Dtype,
    FormatName,
    FrameParameters,
    Model,
    Strict,
    TypeNames,
    keep,
    names_of,
    numbers,
)
from cli.output import Output
from schemas.base.errors import DataError

if TYPE_CHECKING:
    from dpa2.evaluate.deviation import SystemDeviation
    from dpa2.interfaces.predict import Predicted


def predict(
    *,
    files: Annotated[
        list[str],
        Argument(
            metavar="FILE...",
            help="Any format of dpdata or ASE, or deepmd systems; FILE@INDEX takes some frames.",
        ),
    ],
    model: Model,
    output: Annotated[Path, Option("--output", "-o", help="Extended XYZ file to write.")],
    format_name: FormatName = None,
    type_map: TypeNames = None,
    fparam: FrameParameters = None,
    atomic: Annotated[bool, Option("--atomic", "-a", help="Write energies of atoms too.")] = False,
    strict: Strict = False,
    branch: Branch = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    out: Output,
) -> Document:
    """Evaluate structures and write them with energy, forces, stress and virial.

    One that cannot be evaluated is written with nan; what cannot be read is left out and named.
    The exit code is 1 then.

    Example: zoo predict -m model.ckpt.pt POSCAR water.xyz -o predicted.extxyz
    """
    from dpa2.evaluate.potential import load
    from dpa2.interfaces.predict import predict_files

    with out.python_warnings():
        with out.status(f"loading {model}"):
            potential = load(model, branch, device, dtype)
        with out.progress("structures", None) as advance:
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
    _print_predicted(out, structures)
    out.info(f"wrote {output}")
    tell_bad_frames(out, bad)
    return {
        "ok": not bad and not predicted.refused,
        "model": model,
        "branch": branch,
        "output": output,
        "structures": [structure.to_json() for structure in structures],
        "refused": [asdict(item) for item in predicted.refused],
        "warnings": warnings,
    }


def _print_predicted(out: Output, structures: "list[Predicted]") -> None:
    rows = []
    for file in dict.fromkeys(structure.file for structure in structures):
        here = [structure for structure in structures if structure.file == file]
        per_atom = [item.energy / item.num_atoms for item in here if item.energy is not None]
        forces = [item.max_force for item in here if item.max_force is not None]
        mean = f"{sum(per_atom) / len(per_atom):.6f}" if per_atom else "-"
        rows.append((file, len(here), mean, f"{max(forces):.4g}" if forces else "-"))
    columns = ("file", "structures", "mean E/atom (eV)", "largest F (eV/Å)")
    out.table("", columns, rows)


def deviation(
    *,
    models: Annotated[
        list[str],
        Option(
            "--model",
            "-m",
            metavar="MODEL[:BRANCH]",
            help="Model of any format, or name; give several.",
        ),
    ],
    systems: Annotated[
        list[str],
        Option("--system", "-s", help="Systems of deepmd-kit, or a trajectory of any format."),
    ],
    output: Annotated[Path, Option("--output", "-o", help="File to write.")] = Path(
        "model_devi.out"
    ),
    frequency: Annotated[
        int, Option("--frequency", "-f", min=1, help="Steps between two frames.")
    ] = 1,
    real_error: Annotated[
        bool,
        Option("--real-error", "--real_error", help="Errors against labels instead."),
    ] = False,
    atomic: Annotated[
        bool, Option("--atomic", help="Add the force deviation of every atom.")
    ] = False,
    relative: Annotated[
        float | None,
        Option("--relative", min=0.0, help="Relative force deviation; its level in eV/Å."),
    ] = None,
    relative_v: Annotated[
        float | None,
        Option(
            "--relative-v", "--relative_v", min=0.0, help="Relative virial deviation; level in eV."
        ),
    ] = None,
    strict: Strict = False,
    branch: BranchOfAll = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    force: Annotated[bool, Option("--force", help="Replace an output file that is there.")] = False,
    out: Output,
) -> Document:
    """Compare several models frame by frame, in the columns of dp model-devi.

    Frames that cannot be evaluated get a row of nan, and exit code 1; the others are evaluated.

    Example: zoo deviation -m a.pt -m b.pt -m c.pt -s explored -o model_devi.out
    """
    from dpa2.data.structures.systems import open_data
    from dpa2.evaluate.deviation import DeviationSettings, deviate, write_deviations
    from dpa2.evaluate.potential import load

    keep(output, force=force, error=DataError)
    with out.python_warnings():
        with out.status(f"loading {len(models)} models"):
            chosen = [chosen_model(model, branch) for model in models]
            potentials = [load(model.file, model.branch, device, dtype) for model in chosen]
        opened = open_data(systems, potentials[0].type_map, read_labels=real_error)
        for text in (text for system in opened for text in system.warnings):
            out.warning(text)
        settings = DeviationSettings(relative, relative_v, real_error, frequency, strict)
        total = sum(system.num_frames for system in opened)
        with out.progress("frames", total) as advance:
            found = write_deviations(
                output, deviate(potentials, opened, settings, advance, models), atomic=atomic
            )
    bad = [frame for entry in found for frame in entry.bad]
    _print_largest(out, found)
    out.info(f"wrote {output}")
    tell_bad_frames(out, bad)
    return {
        "ok": not bad,
        "models": models,
        "output": output,
        "systems": [entry.to_json() for entry in found],
    }


def _print_largest(out: Output, found: "list[SystemDeviation]") -> None:
    """Show the largest of each kind: what decides whether frames go to be labelled."""
    rows = [
        (
            entry.system,
            len(entry.step),
            *("-" if value is None else f"{value:.4g}" for value in largest),
        )
        for entry in found
        if (largest := [entry.largest[column] for column in (3, 5, 0, 6)])
    ]
    columns = ("system", "frames", "max_devi_f", "avg_devi_f", "max_devi_v", "devi_e")
    out.table("largest over the frames", columns, rows)


def md(
    *,
    structure: Annotated[
        str,
        Argument(
            help="Any file of structures or deepmd system: its first frame; FILE@-1: its last one."
        ),
    ],
    model: Model,
    output: Annotated[Path, Option("--output", "-o", help="Folder to write.")] = Path("md"),
    engine: Annotated[
        Literal["lammps", "ase"], Option("--engine", help="Program to run it.")
    ] = "lammps",
    ensemble: Annotated[
        Literal["nve", "nvt", "npt"], Option("--ensemble", help="What to keep constant.")
    ] = "nvt",
    temperature: Annotated[float, Option("--temperature", "-T", help="K.")] = 300.0,
    pressure: Annotated[float, Option("--pressure", help="bar, for npt.")] = 1.0,
    couple: Annotated[
        Literal["iso", "aniso", "tri"],
        Option("--couple", help="npt: all lengths alike, each its own, or angles, too."),
    ] = "iso",
    timestep: Annotated[float, Option("--timestep", help="fs.")] = 0.5,
    steps: Annotated[int, Option("--steps", "-n", min=0, help="Number of steps.")] = 1000,
    dump_every: Annotated[
        int, Option("--dump-every", min=1, help="Steps between two frames.")
    ] = 100,
    seed: Annotated[int, Option("--seed", min=1, help="Of the velocities.")] = 1,
    format_name: FormatName = None,
    type_map: TypeNames = None,
    fparam: FrameParameters = None,
    aparam: Annotated[
        str | None, Option("--aparam", help="Parameters of every atom, as 1.0,2.0")
    ] = None,
    run: Annotated[bool, Option("--run", help="Start it, too.")] = False,
    lammps: Annotated[
        str | None, Option("--lammps", metavar="PROGRAM", help="LAMMPS, if not lmp.")
    ] = None,
    branch: Branch = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    force: Annotated[bool, Option("--force", "-f", help="Replace files that are there.")] = False,
    out: Output,
) -> Document:
    """Write the input, structure and model of a molecular dynamics run; start it with --run.

    Example: zoo md water.xyz -m model.pt --ensemble nvt --temperature 330 --steps 20000 -o md
    """
    from dpa2.ase import Parameters
    from dpa2.evaluate.potential import load
    from dpa2.interfaces.md import MdSettings
    from dpa2.interfaces.simulation import (
        run_simulation,
        starting_structure,
        write_simulation,
    )

    settings = MdSettings(
        ensemble, temperature, pressure, timestep, steps, dump_every, seed, couple
    )
    parameters = Parameters(numbers("--fparam", fparam), numbers("--aparam", aparam))
    with out.status(f"writing {output}"):
        elements = load(model, branch).type_map
        atoms, remarks = starting_structure(structure, elements, format_name, names_of(type_map))
        written = write_simulation(
            atoms,
            Path(model),
            output,
            engine,
            settings,
            branch=branch,
            device=device,
            dtype=dtype,
            force=force,
            parameters=parameters,
        )
    if run:
        run_simulation(written, lammps)
    out.text(f"{output}: {', '.join(written.files)}; {written.num_atoms} atoms")
    for remark in remarks:
        out.warning(remark)
    for note in written.notes:
        out.info(note)
    if not run:
        out.info(f"start it in that folder: {written.command}")
    return {
        "ok": True,
        "engine": engine,
        "folder": output,
        "files": list(written.files),
        "command": written.command,
        "elements": list(written.elements),
        "num_atoms": written.num_atoms,
        "notes": list(written.notes),
        "warnings": remarks,
        "ran": run,
    }
