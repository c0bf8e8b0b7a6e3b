"""`zoo plan`: a run explained before it starts."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli.options import Document, StartOptions
from cli.output import DocumentOutput, Output, shown_size, shown_time
from schemas.base.errors import DataError

if TYPE_CHECKING:
    from dpa2.training.plan import RunPlan
    from dpa2.training.plan_probe import Probe
    from schemas.check.report import Report
    from schemas.input.weights import Neighbors


_GIB = 2**30
_MOST_SYSTEMS = 20
"""Longer lists of systems are cut for a person; `--json` has them all."""


def _show_rates(plan: "RunPlan", out: Output) -> None:
    weights = [item.prefactors for item in plan.milestones]
    names = [branch.name for branch in plan.branches]
    columns = [(name, term) for name in names for term in (weights[0][name] if weights else {})]
    out.table(
        f"{plan.num_steps} steps: learning rate and weights in the loss",
        ["", "step", "learning rate", *(f"{b}: {t}" if names[1:] else t for b, t in columns)],
        [
            [
                item.name,
                item.step,
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
            [
                [
                    item.name,
                    item.num_frames,
                    item.num_atoms,
                    item.batch_size,
                    item.num_batches,
                    f"{item.probability:.3f}",
                    f"{item.epochs:.4g}",
                ]
                for item in branch.systems[:_MOST_SYSTEMS]
            ],
        )
        if len(branch.systems) > _MOST_SYSTEMS:
            more = len(branch.systems) - _MOST_SYSTEMS
            out.text(f"and {more} more systems (--json lists them all)\n")


def _show_parameters(plan: "RunPlan", out: Output) -> None:
    names = list(plan.parameters)
    parts = list(dict.fromkeys(part for counts in plan.parameters.values() for part in counts))
    rows = [
        [part, *(f"{plan.parameters[name].get(part, 0):,}" for name in names)] for part in parts
    ]
    rows.append(["all", *(f"{sum(plan.parameters[name].values()):,}" for name in names)])
    out.table("Parameters", ["part", *(names if names[1:] else ["parameters"])], rows)
    for item in plan.shared:
        for branch, parts in item.parts.items():
            out.text(
                f"{branch} uses the {item.component} of {item.owner} ({item.name}, level "
                f"{item.branches[branch]}): {', '.join(parts)}; {item.parameters[branch]:,} "
                "parameters"
            )
    if names[1:]:
        out.text(f"{plan.num_parameters:,} parameters, shared ones counted once")


def _show_costs(
    plan: "RunPlan", probe: "Probe | None", gpu_memory: float | None, out: Output
) -> None:
    size = partial(shown_size, binary=True)
    disk, memory = plan.disk, plan.memory
    rows = [["checkpoints on the disk", size(disk.total), f"{disk.num_checkpoints} are kept"]]
    if memory is not None:
        tensors = f"{size(memory.activations)} tensors"
        rows.append(["memory of a step (estimate)", size(memory.total), tensors])
    if probe is not None:
        times = list(probe.branches.items()) if len(probe.branches) > 1 else []
        rows += [
            ["memory, measured", size(probe.peak_bytes), "of the process"],
            *([f"time per step of {name}", f"{mean:.3g} s", "measured"] for name, mean in times),
            ["time per step, measured", f"{probe.seconds_per_step:.3g} s", "on this machine"],
            ["time of the run", shown_time(probe.total_seconds), "at this pace"],
        ]
    if gpu_memory is not None and memory is not None:
        fits = memory.total <= gpu_memory * _GIB
        hint = "estimated" if fits else "take a smaller batch_size, or float32"
        rows.append([f"a GPU of {gpu_memory:g} GiB", "fits" if fits else "too small", hint])
    out.table("Costs", ["", "", " "], rows)


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
    from cli.input_check import read_start, with_data
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
    for show_part in (_show_rates, _show_data, _show_parameters):
        show_part(planned, out)
    _show_costs(planned, probed, gpu_memory, out)
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
