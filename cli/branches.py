"""`zoo branches`, `recommend` and `extract`: the branches of a multi-task model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from cli.catalog import description
from cli.models import tell_bad_frames
from cli.options import (
    Branch,
    Device,
    Document,
    EnergyKey,
    FileArgument,
    ForcesKey,
    Model,
    Offline,
    Replace,
    Strict,
    keep,
    model_argument,
    with_suffix,
)
from cli.output import JsonOutput, Output
from schemas.base.errors import CheckpointError

if TYPE_CHECKING:
    from dpa2.evaluate.recommendation import BranchFit, Recommendation
    from zoo.branches import BranchSummary


_MOST_ELEMENTS = 8
"""Longer lists of elements are counted for a person; `--json` has them all."""


def branches(
    *,
    model: Annotated[str, model_argument()],
    remote: Annotated[
        bool, Option("--remote", help="Read the file on the network, even if it is here.")
    ] = False,
    offline: Offline = False,
    out: JsonOutput,
) -> Document:
    """List the branches of a checkpoint, which need not be multi-task; no weight is read.

    Of a model that is not on this machine only the description is fetched.

    Example: zoo branches DPA2_medium
    """
    from zoo.branches import not_ours, num_parameters, summarize
    from zoo.local_copies import local_file
    from zoo.resolve import LocalPath, located, parse_reference

    reference = parse_reference(model)
    place = reference.path if isinstance(reference, LocalPath) else located(reference)
    local = None if remote or isinstance(place, Path) else local_file(place)
    header = description(local.path if local else place, offline=offline)
    found = summarize(header)
    total = num_parameters(header)
    for text in not_ours(found):
        out.warning(text)
    kind = f"{len(found)} branches" if "model_dict" in header.model_params else "single-task model"
    owners = [_owner(branch, found) for branch in found]
    descriptors = f"{len(set(owners))} descriptor{'s' * (len(set(owners)) != 1)}"
    out.table(
        f"{header.name}: {kind}"
        + (f", {descriptors}, {_counted(total)} parameters" if header.complete else ""),
        ("branch", "elements", "not in training", "descriptor", "fitting net", "parameters"),
        list(map(_row_of_branch, found, owners)),
    )
    return {
        "ok": True,
        "model": header.name,
        "steps": header.steps,
        "num_parameters": total,
        "branches": [asdict(branch) for branch in found],
    }


def _row_of_branch(branch: "BranchSummary", owner: str) -> tuple[str, ...]:
    names = f" ({', '.join(branch.aliases)})" if branch.aliases else ""
    seen = branch.observed
    of = "" if owner == branch.name else f" of {owner}"
    return (
        branch.name + names,
        _elements(branch.type_map),
        "unknown" if seen is None else _elements([x for x in branch.type_map if x not in seen]),
        branch.descriptor + of,
        f"{branch.fitting} {'-'.join(map(str, branch.neuron))}".strip(),
        _counted(branch.num_parameters),
    )


def _counted(parameters: int | None) -> str:
    return "unknown" if parameters is None else f"{parameters:,}"


def _owner(branch: "BranchSummary", branches: "list[BranchSummary]") -> str:
    """Return the first branch that has the same descriptor."""
    return next(b.name for b in branches if b.name in (branch.name, *branch.shared_with))


def _elements(names: list[str]) -> str:
    shown = " ".join(names[:_MOST_ELEMENTS])
    more = len(names) - _MOST_ELEMENTS
    return f"{shown} + {more}" if more > 0 else shown or "-"


def recommend(
    *,
    data: Annotated[
        list[str],
        Argument(
            metavar="DATA...",
            help="Labelled data: systems of deepmd-kit, or any format of dpdata or ASE.",
        ),
    ],
    model: Model,
    num_frames: Annotated[
        int, Option("--frames", "-n", min=0, help="Frames to look at in all; 0: every frame.")
    ] = 32,
    all_forces: Annotated[
        bool,
        Option("--all-forces", help="Compare forces on all of them, which takes longer."),
    ] = False,
    plot: Annotated[
        Path | None, Option("--plot", help="Draw the errors: .png, .pdf or .svg.")
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    strict: Strict = False,
    device: Device = "cpu",
    out: Output,
) -> Document:
    """Rank the branches of a multi-task model by their errors on your labelled frames.

    An energy per element is fitted out first, as fine-tuning does. Branches that lack an element
    of the data come last. The score is the error relative to the best branch, over all energies
    and force components that were compared: 1 is best in both.

    Example: zoo recommend data/water -m DPA-2.4-7M.pt
    """
    from dpa2.data.structures.structure import LabelKeys
    from dpa2.evaluate.figures import figure_format
    from dpa2.evaluate.recommend import recommend as compare_branches
    from dpa2.evaluate.recommendation import plot_recommendation

    if plot is not None:
        figure_format(plot)
    with out.python_warnings(), out.progress("frames", None) as advance:
        found = compare_branches(
            model,
            data,
            keys=LabelKeys(energy_key, forces_key),
            num_frames=num_frames or None,
            all_forces=all_forces,
            strict=strict,
            device=device,
            progress=advance,
        )
    for warning in found.warnings:
        out.warning(warning)
    if plot is not None:
        plot_recommendation(found, plot)
    _print(out, model, found)
    if plot is not None:
        out.info(f"wrote {plot}")
    tell_bad_frames(out, found.bad)
    return {"ok": not found.bad, "model": model, **found.to_json()}


def _print(out: Output, model: str, found: "Recommendation") -> None:
    columns = ("branch", "score", "force RMSE (eV/Å)", "energy RMSE (eV/atom)", "remarks")
    title = (
        f"{found.num_frames} frames of {' '.join(found.elements)}: "
        f"energies of {found.num_energy_frames}, forces of {found.num_force_frames}"
    )
    out.table(title, columns, [_row_of_fit(fit) for fit in found.branches])
    if found.num_descriptors > 1:
        out.info(f"the branches have {found.num_descriptors} descriptors; each was computed once")
    if 0 < found.num_force_frames < found.num_frames:
        out.info(
            "forces take a backward pass per branch: they were compared on as many frames as keep "
            "the cost near that of one branch; --all-forces takes all"
        )
    if found.rivals:
        out.info(
            f"{', '.join(found.rivals)} did as well within 2 %: more frames may decide "
            "(--frames, --all-forces)"
        )
    best = found.best
    if not best.is_covered:
        out.warning(f"no branch knows all elements of the data; {best.branch} knows the most")
    out.text(f"start from {best.branch}: zoo finetune input.json -m {model} --branch {best.branch}")


def _row_of_fit(fit: "BranchFit") -> tuple[str, ...]:
    remarks = [fit.problem] if fit.problem else []
    if fit.unseen:
        remarks.append(f"never trained on {', '.join(fit.unseen)}")
    numbers = ((fit.score, ".2f"), (fit.force_rmse, ".4g"), (fit.energy_rmse, ".4g"))
    shown = ("-" if value is None else format(value, form) for value, form in numbers)
    return (fit.branch, *shown, "; ".join(remarks) or "-")


def extract(
    *,
    model: FileArgument,
    output: Annotated[Path, Option("--output", "-o", help="Checkpoint to write.")],
    branch: Branch = None,
    force: Replace = False,
    out: Output,
) -> Document:
    """Write a branch as a single-task checkpoint, for this program and for deepmd-kit.

    Example: zoo extract DPA-2.4-7M.pt --branch H2O_H2O_PD -o water.pt
    """
    from schemas.base.foreign_files import missing_file
    from zoo.checkpoint_writer import extract_branch

    if output.is_dir():
        raise CheckpointError(f"{output} is a folder", hint="name the file to write")
    keep(output, force=force, error=CheckpointError)
    source = with_suffix(model)
    if not source.exists():
        raise missing_file(model)
    with out.status(f"reading {source}"):
        found = extract_branch(source, branch, output)
    num_bytes = output.stat().st_size
    out.text(
        f"{found.path}: branch {found.branch}, {len(found.type_map)} types, "
        f"{num_bytes / 1e6:.1f} MB"
    )
    return {
        "ok": True,
        "model": source,
        "branch": found.branch,
        "output": found.path,
        "type_map": found.type_map,
        "num_bytes": num_bytes,
    }
