"""`zoo data`: convert data sets, look into them, check them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.options import EnergyKey, ForcesKey, StressKey, StressUnit, Vacuum, label_keys, names_of
from cli.output import Output

data_app = typer.Typer(help="Convert data sets and look into them.", no_args_is_help=True)

_LETTERS = {"energy": "E", "force": "F", "virial": "V"}

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")]


@data_app.command("convert")
def convert(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...", help="Files, folders, prefixes; FILE@INDEX takes some frames."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FMT",
            help="extxyz, vasp/outcar, cp2k/output, qe/pw/scf, abacus/scf, lammps/dump, any other "
            "format of dpdata or ASE, or deepmd. By name and content if left out.",
        ),
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    stress_unit: StressUnit = None,
    vacuum: Vacuum = 20.0,
    type_map: Annotated[
        str | None,
        typer.Option(
            "--type-map",
            metavar="'O H'",
            help="Elements, in order; they name the types 1, 2, ... of files that do not. "
            "Default: as found.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Parts for training and validation; 1 for no validation.")
    ] = "0.9/0.1",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random split.")] = 0,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Write mixed-type systems, one per number of atoms.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier conversion.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert files into OUTPUT/train and OUTPUT/validation (deepmd/npy).

    Frames with faults and files that cannot be read are left out and named. Exit code: 0, or 1
    where a file was refused; the others are written. What is read from what: docs/structures.md.
    """
    from dpa2.data import convert as conversion

    out = Output(json_mode=as_json, quiet=quiet)
    with out.status(f"reading {len(inputs)} inputs"):
        done = conversion.convert(
            inputs,
            output,
            format_name=format_name,
            type_map=names_of(type_map),
            keys=label_keys(energy_key, forces_key, stress_key, stress_unit),
            vacuum=vacuum,
            train_fraction=conversion.parse_split(split),
            seed=seed,
            mixed=mixed,
            force=force,
        )
    for note in done.warnings:
        out.warning(note)
    for refused in done.refused:
        out.warning(str(refused))
    out.result(
        {
            **asdict(done),
            "ok": not done.refused,
            "output": str(done.output),
            "files": [report.to_json() for report in done.files],
        }
    )
    out.table(
        "",
        ["system", "atoms", "cell", "train", "validation", "labels"],
        [
            [
                system.name,
                str(system.num_atoms),
                "yes" if system.periodic else "no",
                str(system.num_train),
                str(system.num_validation),
                " ".join(system.labels),
            ]
            for system in done.systems
        ],
    )
    out.text(f"wrote {output}; elements: {' '.join(done.type_map)}")
    if done.refused:
        raise typer.Exit(1)


@data_app.command("info")
def info(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folders, HDF5 or LMDB.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List systems: frames, atoms, elements, labels, ranges."""
    from dpa2.data.system import describe
    from dpa2.data.systems import open_systems

    out = Output(json_mode=as_json, quiet=quiet)
    with out.status("reading data"):
        systems = [describe(system) for system in open_systems(paths)]
    for system in systems:
        for note in system.warnings:
            out.warning(note)
    out.result({"ok": True, "systems": [asdict(system) for system in systems]})
    out.table(
        "",
        ["system", "frames", "atoms", "cell", "elements", "labels", "max |F| eV/Å"],
        [
            [
                system.name,
                str(system.num_frames),
                str(system.num_atoms),
                "yes" if system.periodic else "no",
                "".join(f"{element}{count}" for element, count in system.composition.items()),
                " ".join(_LETTERS.get(label, label) for label in system.labels),
                "-" if system.max_force is None else f"{system.max_force:.2f}",
            ]
            for system in systems
        ],
    )
    frames = sum(system.num_frames for system in systems)
    out.text(f"{len(systems)} systems, {frames} frames (E energy, F force, V virial)")


@data_app.command("check")
def check(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folders, HDF5 or LMDB.")],
    type_map: Annotated[
        str | None,
        typer.Option("--type-map", metavar="'O H'", help="Elements. Default: each system's own."),
    ] = None,
    rcut: Annotated[
        list[float] | None,
        typer.Option("--rcut", metavar="Å", help="Count neighbours within; may be repeated."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for faults in data: NaN, overlaps, units, outliers, repeats; count neighbours.

    Exit code: 0 clean or warnings only, 1 errors.
    """
    from dpa2.data.preflight.run import check_data

    out = Output(json_mode=as_json, quiet=quiet)
    elements = None if type_map is None else tuple(type_map.replace(",", " ").split())
    with out.status("reading data"):
        found = check_data(paths, elements, sorted(set(rcut or [6.0])))
    for item in found.findings:
        out.text(f"{paths[int(item.path[0])]}  {item.severity}  {item.code}  {item.message}")
        if item.hint:
            out.text(f"    = {item.hint}")
    out.result(found.document())
    out.table(
        "",
        ["system", "frames", "formula", "closest Å", "E eV/atom", "max |F| eV/Å"],
        [
            [
                system.name,
                str(system.num_frames),
                system.formula,
                _number(system.closest, ".3f"),
                _number(system.energy_per_atom, ".3f"),
                _number(system.max_force, ".2f"),
            ]
            for system in found.systems
        ],
    )
    for around in found.neighbors:
        out.text(
            f"within {around.cutoff.rcut:g} Å: {around.mean:.1f} neighbours in the mean, "
            f"{around.most} at most ({around.where}); nsel {around.suggested} leaves some room"
        )
    if not found.ok:
        raise typer.Exit(1)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def register_data(app: typer.Typer) -> None:
    """Add `zoo data` to the application."""
    app.add_typer(data_app, name="data")
