"""`zoo plan`: a run explained before it starts."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli.input_check import StartOptions, read_start
from cli.options import Document
from cli.output import DocumentOutput, Output

if TYPE_CHECKING:
    from dpa2.training.plan import BranchPlan, RunPlan
    from dpa2.training.plan_probe import Probe
    from schemas.check.report import Report
    from schemas.input.weights import Neighbors


_GIB = 2**30
_MOST_SYSTEMS = 20
"""Longer lists of systems are cut for a person; `--json` has them all."""


def tables(plan: "RunPlan", probe: "Probe | None", gpu_memory: float | None, out: Output) -> None:
    """Print a plan for a person."""
    _show_rates(plan, out)
    _show_data(plan, out)
    _show_parameters(plan, out)
    _show_costs(plan, probe, gpu_memory, out)


def _show_rates(plan: "RunPlan", out: Output) -> None:
    weights = [item.prefactors for item in plan.milestones]
    names = [branch.name for branch in plan.branches]
    several = len(names) > 1
    columns = [(name, term) for name in names for term in (weights[0][name] if weights else {})]
    out.table(
        f"{plan.num_steps} steps: learning rate and weights in the loss",
        ["", "step", "learning rate", *(f"{b}: {t}" if several else t for b, t in columns)],
        [
            [
                item.name,
                str(item.step),
                f"{item.learning_rate:.3g}",
                *(f"{item.prefactors[branch][term]:.4g}" for branch, term in columns),
            ]
            for item in plan.milestones
        ],
    )
    if plan.stop_step is None and plan.milestones:
        end = plan.milestones[-1].learning_rate
        out.text(f"the run ends at {end:.3g}, above stop_lr ({plan.last_lr:.3g})\n")


def _show_data(plan: "RunPlan", out: Output) -> None:
    for branch in plan.branches:
        name = f"{branch.name}: " if len(plan.branches) > 1 else ""
        if branch.steps is None or branch.epochs is None:
            known = "" if branch.steps is None else f"{branch.steps:.0f} steps, "
            out.text(f"{name}{known}the data were not looked at\n")
            continue
        assert branch.probability is not None
        share = f"{branch.steps:.0f} steps ({100 * branch.probability:.3g} %), " if name else ""
        out.table(
            f"{name}{share}{branch.steps_per_epoch} steps per epoch, {branch.epochs:.4g} epochs",
            ["system", "frames", "atoms", "batch", "batches", "probability", "epochs"],
            _systems(branch),
        )
        if len(branch.systems) > _MOST_SYSTEMS:
            more = len(branch.systems) - _MOST_SYSTEMS
            out.text(f"and {more} more systems (--json lists them all)\n")


def _systems(branch: "BranchPlan") -> Sequence[Sequence[str]]:
    return [
        [
            item.name,
            str(item.num_frames),
            str(item.num_atoms),
            str(item.batch_size),
            str(item.num_batches),
            f"{item.probability:.3f}",
            f"{item.epochs:.4g}",
        ]
        for item in branch.systems[:_MOST_SYSTEMS]
    ]


def _show_parameters(plan: "RunPlan", out: Output) -> None:
    names = list(plan.parameters)
    parts = list(dict.fromkeys(part for counts in plan.parameters.values() for part in counts))
    rows = [
        [part, *(f"{plan.parameters[name].get(part, 0):,}" for name in names)] for part in parts
    ]
    rows.append(["all", *(f"{sum(plan.parameters[name].values()):,}" for name in names)])
    heads = names if len(names) > 1 else ["parameters"]
    out.table("Parameters", ["part", *heads], rows)
    for item in plan.shared:
        for branch, parts in item.parts.items():
            out.text(
                f"{branch} uses the {item.component} of {item.owner} ({item.name}, level "
                f"{item.branches[branch]}): {', '.join(parts)}; {item.parameters[branch]:,} "
                "parameters"
            )
    if len(names) > 1:
        out.text(f"{plan.num_parameters:,} parameters, shared ones counted once")


def _show_costs(
    plan: "RunPlan", probe: "Probe | None", gpu_memory: float | None, out: Output
) -> None:
    disk, memory = plan.disk, plan.memory
    rows = [["checkpoints on the disk", _size(disk.total), f"{disk.num_checkpoints} are kept"]]
    if memory is not None:
        tensors = _size(memory.activations) + " tensors"
        rows.append(["memory of a step (estimate)", _size(memory.total), tensors])
    if probe is not None:
        rows += [
            ["memory, measured", _size(probe.peak_bytes), "of the process"],
            *_branch_times(probe),
            ["time per step, measured", f"{probe.seconds_per_step:.3g} s", "on this machine"],
            ["time of the run", _time(probe.total_seconds), "at this pace"],
        ]
    if gpu_memory is not None and memory is not None:
        fits = memory.total <= gpu_memory * _GIB
        hint = "estimated" if fits else "take a smaller batch_size, or float32"
        rows.append([f"a GPU of {gpu_memory:g} GiB", "fits" if fits else "too small", hint])
    out.table("Costs", ["", "", " "], rows)


def _branch_times(probe: "Probe") -> list[list[str]]:
    """Return a row for each branch, if there are several."""
    if len(probe.branches) < 2:
        return []
    return [
        [f"time per step of {name}", f"{seconds:.3g} s", "measured"]
        for name, seconds in probe.branches.items()
    ]


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def plan(
    *,
    input_file: Annotated[str, Argument(metavar="INPUT", help="Input file, JSON or YAML.")],
    overrides: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Change a key for this plan."),
    ] = None,
    with_probe: Annotated[
        bool, Option("--probe", help="Run two real steps (of each branch) and measure them.")
    ] = False,
    device: Annotated[
        str | None, Option("--device", help="Where --probe runs: cpu or cuda.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        Option("--gpu-memory", metavar="GIB", min=0.1, help="Say whether it fits a GPU."),
    ] = None,
    data: Annotated[
        bool, Option("--data/--no-data", help="Look at the data; else plan without them.")
    ] = True,
    options: StartOptions,
    out: DocumentOutput,
) -> Document:
    """Explain a run: learning rate, loss, epochs, sharing, parameters, disk, memory."""
    from cli.input_check import with_data
    from cli.render import refuse, show
    from schemas.check.input_file import check_file

    if not data and (with_probe or gpu_memory is not None):
        option = "--probe" if with_probe else "--gpu-memory"
        raise typer.BadParameter(f"{option} needs the data: leave out --no-data")
    start, found = read_start(**asdict(options))
    report = check_file(input_file, overrides or [], start, data_elsewhere=not data)
    report = report.extend(found)
    if data:
        report = with_data(report)
    if report.config is None or not report.ok:
        refuse(report, out)
    show(report)

    from dpa2.training.plan import plan as plan_run
    from schemas.base.errors import DataError

    try:
        planned = plan_run(report.config, _neighbors(report) if data else {}, with_data=data)
    except DataError as error:
        hint = f"{error.hint}; or plan without the data: --no-data"
        raise DataError(error.message, hint=hint) from error
    probed: Probe | None = None
    if with_probe:
        from dpa2.training.plan_probe import probe

        with out.status("running training steps"):
            probed = probe(report.config, planned.branches, planned.num_steps, device)
    tables(planned, probed, gpu_memory, out)
    return _document(report, planned, probed, gpu_memory)


def _neighbors(report: "Report") -> "dict[str, Neighbors]":
    """Return the mean numbers of neighbours that the preflight has counted, by branch."""
    from dpa2.data.preflight.opened import default_folder
    from dpa2.data.preflight.request import REPFORMER, REPINIT, THREE_BODY, task_of
    from dpa2.data.preflight.run import preflight
    from schemas.input.weights import Neighbors

    tasks = [task_of(target.sound, target.name) for target in report.targets]
    found = {}
    for flown in preflight([task for task in tasks if task.has_data], default_folder()).tasks:
        mean = {item.cutoff.name: item.mean for item in flown.neighborhoods}
        if mean:
            numbers = (mean.get(name, 0.0) for name in (REPINIT, THREE_BODY, REPFORMER))
            found[flown.task.name] = Neighbors(*numbers)
    return found


def _document(
    report: "Report", plan: "RunPlan", probe: "Probe | None", gpu_memory: float | None
) -> dict[str, Any]:
    document = {"ok": True, "file": report.name, **asdict(plan)}
    document["disk"]["total"] = plan.disk.total
    if plan.memory is not None:
        document["memory"]["total"] = plan.memory.total
    document["diagnostics"] = [item.document() for item in report.diagnostics]
    document["probe"] = None if probe is None else asdict(probe)
    if gpu_memory is not None and plan.memory is not None:
        fits = plan.memory.total <= gpu_memory * _GIB
        document["gpu"] = {"memory": round(gpu_memory * _GIB), "fits": fits}
    return document
