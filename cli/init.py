"""`zoo init`: write an input file for some data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from cli.options import Document, find_model, keep, names_of
from cli.output import DocumentOutput

if TYPE_CHECKING:
    from schemas.input.model import Model


def init(
    *,
    data: Annotated[
        list[str] | None, Argument(metavar="DATA...", help="Folders, HDF5 or LMDB.")
    ] = None,
    output: Annotated[Path, Option("--output", "-o", help="File to write.")] = Path("input.json"),
    preset: Annotated[
        Literal["small", "medium", "large"], Option("--preset", help="Size of the network.")
    ] = "small",
    steps: Annotated[
        int | None, Option("--steps", min=1, help="Training steps; default: by preset.")
    ] = None,
    validation: Annotated[
        str | None,
        Option(
            "--validation", metavar="PATH|FRACTION", help="Validation data, or part of the systems."
        ),
    ] = None,
    multi_task: Annotated[
        list[str] | None,
        Option("--multi-task", metavar="NAME=PATH", help="A branch and its data; repeat."),
    ] = None,
    finetune: Annotated[
        str | None,
        Option(
            "--finetune",
            metavar="MODEL",
            help="Checkpoint, or name of a pretrained model, to fine-tune.",
        ),
    ] = None,
    branch: Annotated[
        str | None, Option("--branch", metavar="NAME", help="Branch of MODEL.")
    ] = None,
    type_map: Annotated[
        str | None,
        Option("--type-map", metavar="'O H'", help="Elements. Default: those of the data."),
    ] = None,
    force: Annotated[bool, Option("--force", help="Replace the file.")] = False,
    out: DocumentOutput,
) -> Document:
    """Write a valid, commented input: elements, nsel, loss and paths taken from the data."""
    from cli.input_check import with_data
    from cli.render import show
    from dpa2.data.preflight.run import network_facts, task_facts
    from dpa2.data.systems import open_systems
    from schemas.base.writing import write_text
    from schemas.check.input_file import check_text, checked
    from schemas.input import new_input
    from schemas.input.new_input import SIZES

    branches = _branches(data or [], multi_task or [], finetune, validation)
    if output.suffix.lower() != ".json":
        raise typer.BadParameter("the file is JSON: give it a name that ends in .json")
    keep(output, force=force)
    part = _part(validation)
    elements = names_of(type_map)
    num_steps = steps or SIZES[preset].num_steps
    with out.status("reading data"):
        tasks = {name: task_facts(paths, part) for name, paths in branches.items()}
        network = None if finetune else network_facts(list(tasks.values()), elements)
    if network is None:
        assert finetune is not None
        model, head = _pretrained(find_model(finetune), branch)
        open_systems(tasks[""].training, model.type_map)  # elements unknown to it end here
        document = new_input.fine_tuning(model, head, finetune, tasks[""], num_steps)
    elif multi_task:
        document = new_input.multi_task(network, tasks, preset, num_steps)
    else:
        document = new_input.single_task(network, tasks[""], preset, num_steps)
    text = new_input.as_text(document) + "\n"
    report = check_text(text, output.name)
    checked(report)  # only the data can be faulty, and the names of branches
    report = with_data(report)
    keep(output, force=force)  # it may have come into being meanwhile
    write_text(output, text)
    show(report)
    start = f" --finetune {finetune}" if finetune else ""
    out.text(f"wrote {output}; next: zoo validate {output}{start}, zoo plan {output}")
    return {
        "ok": report.ok,
        "output": output,
        "input": document,
        "diagnostics": [item.document() for item in report.diagnostics],
    }


def _branches(
    data: Sequence[str], named: Sequence[str], finetune: str | None, validation: str | None
) -> dict[str, list[str]]:
    """Return the data of each branch; the only task has an empty name."""
    if not named:
        if not data:
            raise typer.BadParameter("name the data: zoo init DATA..., or --multi-task NAME=PATH")
        return {"": list(data)}
    if data:
        raise typer.BadParameter("with --multi-task all data are given as NAME=PATH")
    if finetune:
        raise typer.BadParameter("--finetune makes an input of one task: leave out --multi-task")
    if validation is not None and isinstance(_part(validation), str):
        raise typer.BadParameter("with --multi-task, --validation is a fraction such as 0.1")
    found: dict[str, list[str]] = {}
    for text in named:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise typer.BadParameter(f"--multi-task {text}: write NAME=PATH")
        found.setdefault(name, []).append(path)
    return found


def _part(validation: str | None) -> str | float | None:
    """Return a fraction where it is a number, else a path."""
    if validation is None:
        return None
    try:
        fraction = float(validation)
    except ValueError:
        return validation
    if not 0 < fraction < 1:
        raise typer.BadParameter(f"--validation {validation}: a fraction lies between 0 and 1")
    return fraction


def _pretrained(file: str, branch: str | None) -> "tuple[Model, str | None]":
    """Return the model to fine-tune, and the name of its branch if there are several."""
    from schemas.checkpoint.branch_names import resolve_branch
    from schemas.checkpoint.header import read_header
    from schemas.input.model import parse_model

    header = read_header(file)
    name = resolve_branch(file, header.model_params, branch)
    return parse_model(header.branches[name]), name if "model_dict" in header.model_params else None
