"""`zoo plan`: a run explained before it starts."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Output
from cli.start import (
    Branch,
    Finetune,
    InitModel,
    PretrainScript,
    Restart,
    StartOptions,
    read_start,
)

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
        bool, typer.Option("--probe", help="Run two real steps (of each branch) and measure them.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="Where --probe runs: cpu or cuda.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GIB", min=0.1, help="Say whether it fits a GPU."),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data/--no-data", help="Look at the data; else plan without them.")
    ] = True,
    finetune: Finetune = None,
    restart: Restart = None,
    init_model: InitModel = None,
    branch: Branch = None,
    use_pretrain_script: PretrainScript = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Explain a run: learning rate, loss, epochs, sharing, parameters, disk, memory."""
    from cli.preflight import with_data
    from cli.render import render
    from schemas.check import check_file

    if not data and (with_probe or gpu_memory is not None):
        option = "--probe" if with_probe else "--gpu-memory"
        raise typer.BadParameter(f"{option} needs the data: leave out --no-data")
    out = Output(json_mode=as_json)
    start, found = read_start(
        StartOptions(finetune, restart, init_model, branch, use_pretrain_script)
    )
    report = check_file(input_file, overrides or [], start, data_elsewhere=not data)
    if found and report.extend is not None:
        report = report.extend(found)
    if data:
        report = with_data(report)
    for line in render(report, "full"):
        out.info(line)
    if report.config is None or not report.ok:
        faults = [item.document() for item in report.diagnostics]
        out.result({"ok": False, "file": report.name, "diagnostics": faults})
        raise typer.Exit(1)

    from cli.plan_tables import show
    from dpa2.plan.run_plan import plan as plan_run
    from schemas.errors import DataError

    try:
        planned = plan_run(report.config, _neighbors(report) if data else {}, with_data=data)
    except DataError as error:
        hint = f"{error.hint}; or plan without the data: --no-data"
        raise DataError(error.message, hint=hint) from error
    probed: Probe | None = None
    if with_probe:
        from dpa2.plan.probe import probe

        with out.status("running training steps"):
            probed = probe(report.config, planned.branches, planned.num_steps, device)
    show(planned, probed, gpu_memory, out)
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
    if plan.memory is not None:
        document["memory"]["total"] = plan.memory.total
    document["diagnostics"] = [item.document() for item in report.diagnostics]
    document["probe"] = None if probe is None else asdict(probe)
    if gpu_memory is not None and plan.memory is not None:
        fits = plan.memory.total <= gpu_memory * _GIB
        document["gpu"] = {"memory": round(gpu_memory * _GIB), "fits": fits}
    return document
