"""`zoo branches`: what a checkpoint holds, branch by branch."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.model_names import complete_model
from cli.options import Json, Offline
from cli.output import Output

if TYPE_CHECKING:
    from schemas.checkpoint.header import CheckpointHeader
    from zoo.branches import BranchSummary

_MOST_ELEMENTS = 8
"""Longer lists of elements are counted for a person; `--json` has them all."""


def branches(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint (.pt), name or address of a pretrained model.",
            autocompletion=complete_model,
        ),
    ],
    remote: Annotated[
        bool, typer.Option("--remote", help="Read the file on the network, even if it is here.")
    ] = False,
    offline: Offline = False,
    json_mode: Json = False,
) -> None:
    """List the branches of a checkpoint, which need not be multi-task; no weight is read.

    Of a model that is not on this machine only the description is fetched.

    Example: zoo branches DPA2_medium
    """
    from dataclasses import asdict

    from zoo.branches import not_ours, num_parameters, summarize

    out = Output(json_mode=json_mode)
    place, header = _read(model, remote=remote, offline=offline)
    found = summarize(header)
    total = num_parameters(header)
    out.result(
        {
            "ok": True,
            "model": place,
            "steps": header.steps,
            "num_parameters": total,
            "branches": [asdict(branch) for branch in found],
        }
    )
    for text in not_ours(found):
        out.warning(text)
    kind = f"{len(found)} branches" if "model_dict" in header.model_params else "single-task model"
    out.table(
        f"{place}: {kind}, {_descriptors(found)}, {_counted(total)} parameters"
        if header.complete
        else f"{place}: {kind}",
        ("branch", "elements", "not in training", "descriptor", "fitting net", "parameters"),
        [_row(branch, _owner(branch, found)) for branch in found],
    )


def _read(model: str, *, remote: bool, offline: bool) -> "tuple[str, CheckpointHeader]":
    """Return where a model was read, and what its file says."""
    from schemas.checkpoint.header import read_header
    from zoo.local_copies import local_file
    from zoo.pulled_branch import remote_header
    from zoo.reference import LocalPath, parse_reference
    from zoo.resolve import located

    reference = parse_reference(model)
    if isinstance(reference, LocalPath):
        return str(reference.path), read_header(reference.path)
    place = located(reference)
    local = None if remote else local_file(place.file, place.base)
    if local is not None:
        return str(local.path), read_header(local.path)
    header = remote_header(place, offline=offline)
    return header.name, header


def _row(branch: "BranchSummary", owner: str) -> tuple[str, ...]:
    names = f" ({', '.join(branch.aliases)})" if branch.aliases else ""
    unseen = "unknown"
    if branch.observed is not None:
        unseen = _elements([name for name in branch.type_map if name not in branch.observed])
    of = "" if owner == branch.name else f" of {owner}"
    return (
        branch.name + names,
        _elements(branch.type_map),
        unseen,
        branch.descriptor + of,
        f"{branch.fitting} {'-'.join(map(str, branch.neuron))}".strip(),
        _counted(branch.num_parameters),
    )


def _counted(parameters: int | None) -> str:
    return "unknown" if parameters is None else f"{parameters:,}"


def _owner(branch: "BranchSummary", branches: "list[BranchSummary]") -> str:
    """Return the first branch that has the same descriptor."""
    return next(b.name for b in branches if b.name in (branch.name, *branch.shared_with))


def _descriptors(branches: "list[BranchSummary]") -> str:
    number = len({_owner(branch, branches) for branch in branches})
    return "1 descriptor" if number == 1 else f"{number} descriptors"


def _elements(names: list[str]) -> str:
    shown = " ".join(names[:_MOST_ELEMENTS])
    more = len(names) - _MOST_ELEMENTS
    return f"{shown} + {more}" if more > 0 else shown or "-"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(branches)
