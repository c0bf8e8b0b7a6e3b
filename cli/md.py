"""`zoo md`: a ready molecular dynamics run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Branch, Device, Json, Model, Quiet, numbers
from cli.output import Output
from cli.reading import FormatName, TypeNames, names_of


class Engine(StrEnum):
    """Programs that can run it."""

    LAMMPS = "lammps"
    ASE = "ase"


class Couple(StrEnum):
    """How the cell follows the pressure."""

    ISO = "iso"
    ANISO = "aniso"
    TRI = "tri"


class Ensemble(StrEnum):
    """What is kept constant."""

    NVE = "nve"
    NVT = "nvt"
    NPT = "npt"


def md(
    structure: Annotated[
        str,
        typer.Argument(
            help="Any file of structures or deepmd system: its first frame; FILE@-1: its last one."
        ),
    ],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("md"),
    engine: Annotated[Engine, typer.Option("--engine", help="Program to run it.")] = Engine.LAMMPS,
    ensemble: Annotated[Ensemble, typer.Option("--ensemble", help="What to keep constant.")] = (
        Ensemble.NVT
    ),
    temperature: Annotated[float, typer.Option("--temperature", "-T", help="K.")] = 300.0,
    pressure: Annotated[float, typer.Option("--pressure", help="bar, for npt.")] = 1.0,
    couple: Annotated[
        Couple,
        typer.Option("--couple", help="npt: all lengths alike, each its own, or angles, too."),
    ] = Couple.ISO,
    timestep: Annotated[float, typer.Option("--timestep", help="fs.")] = 0.5,
    steps: Annotated[int, typer.Option("--steps", "-n", min=0, help="Number of steps.")] = 1000,
    dump_every: Annotated[
        int, typer.Option("--dump-every", min=1, help="Steps between two frames.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=1, help="Of the velocities.")] = 1,
    format_name: FormatName = None,
    type_map: TypeNames = None,
    fparam: Annotated[
        str | None, typer.Option("--fparam", help="Frame parameters, as 1.0,2.0")
    ] = None,
    aparam: Annotated[
        str | None, typer.Option("--aparam", help="Parameters of every atom, as 1.0,2.0")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Start it, too.")] = False,
    lammps: Annotated[
        str | None, typer.Option("--lammps", metavar="PROGRAM", help="LAMMPS, if not lmp.")
    ] = None,
    branch: Branch = None,
    device: Device = "cpu",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace files that are there.")
    ] = False,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the input, structure and model of a molecular dynamics run; start it with --run.

    Example: zoo md water.xyz -m model.pt --ensemble nvt --temperature 330 --steps 20000 -o md
    """
    from dpa2.interfaces.parameters import Parameters
    from dpa2.interfaces.simulation import (
        MdSettings,
        run_simulation,
        type_map_of,
        write_simulation,
    )
    from dpa2.interfaces.start import starting_structure

    out = Output(json_mode=json_mode, quiet=quiet)
    settings = MdSettings(
        ensemble.value, temperature, pressure, timestep, steps, dump_every, seed, couple.value
    )
    parameters = Parameters(numbers("--fparam", fparam), numbers("--aparam", aparam))
    with out.status(f"writing {output}"):
        elements = type_map_of(Path(model), branch)
        atoms, remarks = starting_structure(structure, elements, format_name, names_of(type_map))
        written = write_simulation(
            atoms,
            Path(model),
            output,
            engine.value,
            settings,
            branch=branch,
            device=device,
            force=force,
            parameters=parameters,
        )
    if run:
        run_simulation(written, lammps)
    out.result(
        {
            "ok": True,
            "engine": engine.value,
            "folder": str(output),
            "files": list(written.files),
            "command": written.command,
            "elements": list(written.elements),
            "num_atoms": written.num_atoms,
            "notes": list(written.notes),
            "warnings": remarks,
            "ran": run,
        }
    )
    out.text(f"{output}: {', '.join(written.files)}; {written.num_atoms} atoms")
    for remark in remarks:
        out.warning(remark)
    for note in written.notes:
        out.info(note)
    if not run:
        out.info(f"start it in that folder: {written.command}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(md)
