"""`zoo plan`: a run explained before it starts."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Output

if TYPE_CHECKING:
    from dpa2.plan.probe import Probe
    from dpa2.plan.run_plan import RunPlan
    from schemas.check import Report
    from schemas.memory_estimate import Neighbors

_GIB = 2**30


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="plan")(plan)


def plan(
    input_file: Annotated[str, typer.Argument(metavar="INPUT", help="Input file, JSON or YAML.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key for this plan."),
    ] = None,
    with_probe: Annotated[
        bool, typer.Option("--probe", help="Run two real steps and measure them.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="Where --probe runs: cpu or cuda.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GIB", min=0.1, help="Say whether it fits a GPU."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Explain a run: learning rate, loss, epochs, sharing, parameters, disk, memory."""
    from cli.preflight import with_data
    from cli.render import render
    from schemas.check import check_file

    out = Output(json_mode=as_json)
    report = with_data(check_file(input_file, overrides or []))
    for line in render(report, "full"):
        out.info(line)
    if report.config is None or not report.ok:
        faults = [item.document() for item in report.diagnostics]
        out.result({"ok": False, "file": report.name, "diagnostics": faults})
        raise typer.Exit(1)

    from dpa2.plan.run_plan import plan as plan_run

    planned = plan_run(report.config, _neighbors(report))
    probed: Probe | None = None
    if with_probe:
        from dpa2.plan.probe import probe

        with out.status("running two training steps"):
            probed = probe(report.config, planned.num_steps, device)
    _show(planned, probed, gpu_memory, out)
    out.result(_document(report, planned, probed, gpu_memory))


def _neighbors(report: "Report") -> "dict[str, Neighbors]":
    """Return the mean numbers of neighbours that the preflight has counted, by branch."""
    from dpa2.data.preflight.cache import default_folder
    from dpa2.data.preflight.inputs import has_data, task_of
    from dpa2.data.preflight.request import REPFORMER, REPINIT, THREE_BODY
    from dpa2.data.preflight.run import preflight
    from schemas.memory_estimate import Neighbors

    tasks = [task_of(target.sound, target.name) for target in report.targets]
    found = {}
    for flown in preflight([task for task in tasks if has_data(task)], default_folder()).tasks:
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
    document["memory"]["total"] = plan.memory.total
    document["diagnostics"] = [item.document() for item in report.diagnostics]
    document["probe"] = None if probe is None else asdict(probe)
    if gpu_memory is not None:
        fits = plan.memory.total <= gpu_memory * _GIB
        document["gpu"] = {"memory": round(gpu_memory * _GIB), "fits": fits}
    return document


def _show(plan: "RunPlan", probe: "Probe | None", gpu_memory: float | None, out: Output) -> None:
    _show_rates(plan, out)
    _show_data(plan, out)
    _show_parameters(plan, out)
    _show_costs(plan, probe, gpu_memory, out)


def _show_rates(plan: "RunPlan", out: Output) -> None:
    several = len(plan.branches) > 1
    columns = [
        (branch.name, term)
        for branch in plan.branches
        for term in (plan.milestones[0].prefactors[branch.name] if plan.milestones else {})
    ]
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
        out.text(f"stop_lr ({plan.last_lr:.3g}) is not reached: the last rate is {end:.3g}\n")


def _show_data(plan: "RunPlan", out: Output) -> None:
    for branch in plan.branches:
        name = f"{branch.name}: " if len(plan.branches) > 1 else ""
        share = f"{branch.steps:.0f} steps ({100 * branch.probability:.3g} %), " if name else ""
        out.table(
            f"{name}{share}{branch.steps_per_epoch} steps per epoch, {branch.epochs:.4g} epochs",
            ["system", "frames", "atoms", "batch", "batches", "probability", "epochs"],
            [
                [
                    item.name,
                    str(item.num_frames),
                    str(item.num_atoms),
                    str(item.batch_size),
                    str(item.num_batches),
                    f"{item.probability:.3f}",
                    f"{item.epochs:.4g}",
                ]
                for item in branch.systems
            ],
        )


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
    rows = [
        ["checkpoints on the disk", _size(disk.total), f"{disk.num_checkpoints} are kept"],
        [
            "memory of a step (estimate)",
            _size(memory.total),
            _size(memory.activations) + " tensors",
        ],
    ]
    if probe is not None:
        rows += [
            ["memory, measured", _size(probe.peak_bytes), "of the process"],
            ["time per step, measured", f"{probe.seconds_per_step:.3g} s", "on this machine"],
            ["time of the run", _time(probe.total_seconds), "at this pace"],
        ]
    if gpu_memory is not None:
        fits = memory.total <= gpu_memory * _GIB
        hint = "estimated" if fits else "take a smaller batch_size, or float32"
        rows.append([f"a GPU of {gpu_memory:g} GiB", "fits" if fits else "too small", hint])
    out.table("Costs", ["", "", " "], rows)


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
