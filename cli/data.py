"""`zoo data`: convert data sets, look into them, check them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from cli.options import (
    DataPaths,
    Document,
    EnergyKey,
    ForcesKey,
    StressKey,
    StressUnit,
    names_of,
)
from cli.output import Output

_LETTERS = {"energy": "E", "force": "F", "virial": "V"}


@dataclass
class DataOutput(Output):
    """What a command about data prints."""

    json_mode: Annotated[bool, Option("--json", help="Print the result as one JSON document.")] = (
        False
    )
    quiet: Annotated[bool, Option("--quiet", "-q", help="Print results and warnings only.")] = False


def convert(
    *,
    inputs: Annotated[
        list[str],
        Argument(metavar="IN...", help="Files, folders, prefixes; FILE@INDEX takes some frames."),
    ],
    output: Annotated[Path, Option("--output", "-o", help="Folder to write.")],
    format_name: Annotated[
        str | None,
        Option(
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
    vacuum: Annotated[
        float,
        Option(
            "--vacuum",
            metavar="Å",
            min=1.0,
            max=1000.0,
            help="Between images where a structure is periodic in some directions only.",
        ),
    ] = 20.0,
    type_map: Annotated[
        str | None,
        Option(
            "--type-map",
            metavar="'O H'",
            help="Elements, in order; they name the types 1, 2, ... of files that do not. "
            "Default: as found.",
        ),
    ] = None,
    split: Annotated[
        str, Option("--split", help="Parts for training and validation; 1 for no validation.")
    ] = "0.9/0.1",
    seed: Annotated[int, Option("--seed", min=0, help="Seed of the random split.")] = 0,
    mixed: Annotated[
        bool, Option("--mixed", help="Write mixed-type systems, one per number of atoms.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Replace an earlier conversion.")] = False,
    out: DataOutput,
) -> Document:
    """Convert files into OUTPUT/train and OUTPUT/validation (deepmd/npy).

    Frames with faults and files that cannot be read are left out and named. Exit code: 0, or 1
    where a file was refused; the others are written. What is read from what: docs/structures.md.
    """
    from dpa2.data import convert as conversion
    from dpa2.data.structures.structure import LabelKeys

    with out.status(f"reading {len(inputs)} inputs"):
        done = conversion.convert(
            inputs,
            output,
            format_name=format_name,
            type_map=names_of(type_map),
            keys=LabelKeys(energy_key, forces_key, stress_key, stress_unit),
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
    out.table(
        "",
        ["system", "atoms", "cell", "train", "validation", "labels"],
        [
            [
                system.name,
                system.num_atoms,
                "yes" if system.periodic else "no",
                system.num_train,
                system.num_validation,
                " ".join(system.labels),
            ]
            for system in done.systems
        ],
    )
    out.text(f"wrote {output}; elements: {' '.join(done.type_map)}")
    return {
        **asdict(done),
        "ok": not done.refused,
        "files": [report.to_json() for report in done.files],
    }


def info(
    *,
    paths: DataPaths,
    out: DataOutput,
) -> Document:
    """List systems: frames, atoms, elements, labels, ranges."""
    from dpa2.data.system import describe
    from dpa2.data.systems import open_systems

    with out.status("reading data"):
        systems = [describe(system) for system in open_systems(paths)]
    for system in systems:
        for note in system.warnings:
            out.warning(note)
    out.table(
        "",
        ["system", "frames", "atoms", "cell", "elements", "labels", "max |F| eV/Å"],
        [
            [
                system.name,
                system.num_frames,
                system.num_atoms,
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
    return {"ok": True, "systems": [asdict(system) for system in systems]}


def check(
    *,
    paths: DataPaths,
    type_map: Annotated[
        str | None,
        Option("--type-map", metavar="'O H'", help="Elements. Default: each system's own."),
    ] = None,
    rcut: Annotated[
        list[float] | None,
        Option("--rcut", metavar="Å", help="Count neighbours within; may be repeated."),
    ] = None,
    out: DataOutput,
) -> Document:
    """Look for faults in data: NaN, overlaps, units, outliers, repeats; count neighbours.

    Exit code: 0 clean or warnings only, 1 errors.
    """
    from dpa2.data.preflight.run import check_data

    elements = None if type_map is None else tuple(names_of(type_map) or ())
    with out.status("reading data"):
        found = check_data(paths, elements, sorted(set(rcut or [6.0])))
    for item in found.findings:
        out.text(f"{paths[int(item.path[0])]}  {item.severity}  {item.code}  {item.message}")
        if item.hint:
            out.text(f"    = {item.hint}")
    out.table(
        "",
        ["system", "frames", "formula", "closest Å", "E eV/atom", "max |F| eV/Å"],
        [
            [
                system.name,
                system.num_frames,
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
    return found.document()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
