"""Inputs checked with the checkpoint that they start from and with their data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpa2.data.preflight.request import Task, task_of
from schemas.base.diagnostics import Diagnostic, Finding
from schemas.base.diagnostics import Path as JsonPath
from schemas.base.errors import CheckpointError, ConfigError, DataError
from schemas.check.report import Report
from schemas.checkpoint.header import read_header
from schemas.input.differences import auto_selections
from schemas.input.start import BiasMode, RunStart, Start, StartOption, Target
from schemas.input.view import UnusableError, as_written, starts_with

if TYPE_CHECKING:
    from dpa2.data.preflight.run import Flown


def read_start(
    *,
    finetune: str | None = None,
    restart: str | None = None,
    init_model: str | None = None,
    branch: str | None = None,
    use_pretrain_script: bool = False,
    bias_mode: BiasMode | None = None,
) -> tuple[Start | None, list[Finding]]:
    """Return the checkpoint to start from, and what is wrong with the options or the file."""
    named: dict[StartOption, str | None] = {
        "--finetune": finetune,
        "--restart": restart,
        "--init-model": init_model,
    }
    given = [option for option, file in named.items() if file is not None]
    if len(given) > 1:
        message = f"{' and '.join(given)} exclude each other"
        hint = "--restart continues a run, --finetune and --init-model begin one"
        return None, [Finding("ZOO620", (given[-1],), message, hint)]
    option = given[0] if given else None
    needs = {
        "--branch": (branch and option is None, ("--finetune",)),  # else ZOO611 says so
        "--use-pretrain-script": (use_pretrain_script, ("--finetune", "--init-model")),
        "--bias-mode": (bias_mode, ("--finetune",)),
    }
    idle = [
        Finding(
            "ZOO620",
            (name,),
            f"{name} says nothing without {' or '.join(partners)} FILE",
            severity="warning",
        )
        for name, (is_given, partners) in needs.items()
        if is_given and option not in partners
    ]
    file = named[option] if option is not None else None
    if option is None or file is None:
        return None, idle
    try:
        header = read_header(file)
    except OSError as error:
        message = f"{file}: {error.strerror or error}"
        return None, [Finding("ZOO621", (option,), message, "give the path of a .pt checkpoint")]
    except CheckpointError as error:
        return None, [Finding("ZOO621", (option,), error.message, error.hint)]
    start = Start(
        option=option,
        file=file,
        model_params=header.model_params,
        steps=header.steps,
        settings=header.settings,
        last_rate=header.last_rate,
        frames=header.frames,
        has_optimizer=header.has_optimizer,
        branch=branch,
        use_pretrain_script=use_pretrain_script,
        bias_mode=bias_mode,
    )
    return start, idle


def without_neighbors(report: Report) -> Report:
    """Return a report that refuses selections that `--skip-neighbor-stat` leaves undecided."""
    findings = []
    for target in report.targets:
        with suppress(UnusableError):
            for parts in auto_selections(target.sound.model.descriptor):
                message = (
                    f"`{parts[-1]}` is to be taken from the data; --skip-neighbor-stat forbids that"
                )
                hint = "leave the option out, or write a number"
                path = target.path("model", *parts)
                findings.append(Finding("ZOO361", path, message, hint))
    return report.extend(findings)


_OF_CAPACITIES = {"ZOO442", "ZOO443", "ZOO444"}
"""Nothing to add where a rule has refused a cutoff or a number of neighbours."""
_CAPACITY = "ZOO606"
"""A number of neighbours that is left to the data, where a checkpoint fixes it."""


def with_data(report: Report) -> Report:
    """Return a report with the faults of the data in it; the same report where there are none.

    numpy is imported only if some data exist, torch never.
    """
    pairs = [(target, _task(target, report)) for target in report.targets]
    pairs = [(target, task) for target, task in pairs if task.has_data]
    if not pairs:
        return report
    from dpa2.data.preflight.opened import default_folder
    from dpa2.data.preflight.run import preflight

    result = preflight([task for _, task in pairs], default_folder())
    findings = [*result.findings]
    for (target, _), flown in zip(pairs, result.tasks, strict=True):
        findings += _statistics(target, flown)
        if report.start is not None and report.start.option == "--restart":
            findings += _other_data(target, flown, report.start)
    new = list(_unsaid(findings, report.diagnostics))
    refused = list(_other_capacities(report, result.tasks))
    if not new and not refused:
        return report
    extended = report.extend([*new, *refused])
    paths = {finding.path for finding in refused}
    kept = [
        item
        for item in extended.diagnostics
        if item.code != _CAPACITY or item.severity == "error" or item.path not in paths
    ]
    return replace(extended, diagnostics=kept)


def _task(target: Target, report: Report) -> Task:
    """Return what there is to read; with a faulty type_map, systems keep their own elements."""
    task = task_of(target.sound, target.name, _place(target), report.start)
    errors = (item for item in report.diagnostics if item.severity == "error")
    faults = (path for item in errors for path in (item.path, *item.repeated))
    if any(starts_with(path, task.type_map_path) for path in faults):
        return replace(task, type_map=None)
    return task


def _place(target: Target) -> Callable[[JsonPath], JsonPath]:
    """Return a function from paths of a task to those in the file."""
    return lambda path: target.view.original(as_written(target.view.data, path))


def _statistics(target: Target, flown: "Flown") -> Iterator[Finding]:
    """Look at the stat_file of a task."""
    from dpa2.training.stat_file import check_stat_file

    with suppress(UnusableError, AttributeError):
        training = target.sound.training
        if training.stat_file and flown.training is not None and flown.training.whole:
            yield from check_stat_file(
                Path(training.stat_file),
                target.sound.model,
                flown.training.systems,
                training.training_data.batch_size,
                _place(target)(("training", "stat_file")),
                read_only=training.stat_file_mode == "read",
            )


def _other_data(target: Target, flown: "Flown", start: Start) -> Iterator[Finding]:
    """Demand the data of the run that is continued: its place in them is known by their numbers."""
    from dpa2.data.sampler import apply_batch_size, epoch_length, other_lengths

    training = target.sound.training
    for kind, opened in (("training_data", flown.training), ("validation_data", flown.validation)):
        before = start.frames.get(kind, {}).get(target.name)
        if before is None or opened is None or not opened.whole:
            continue
        with suppress(UnusableError, AttributeError, DataError):
            batch_size = getattr(training, kind).batch_size
            used = apply_batch_size([item.system for item in opened.systems], batch_size).systems
            now = [epoch_length(system) for system in used]
            if now != before:
                done = "trained" if kind == "training_data" else "validated"
                message = f"{start.file} was {done} with {other_lengths(before, now)}"
                hint = "continue with the same data, or begin a new run with --init-model"
                yield Finding(
                    "ZOO637", _place(target)(("training", kind, "systems")), message, hint
                )


def _other_capacities(report: Report, flown: "Sequence[Flown]") -> Iterator[Finding]:
    """Refuse numbers of neighbours that come out other than those of the checkpoint.

    Weights and statistics go with one number; that the data decide it has been warned of.
    """
    from dpa2.data.preflight.capacity import merged, neighborhoods

    start, run = report.start, RunStart(report.targets, report.start)
    theirs: dict[JsonPath, int] = {}
    for target in report.targets if start is not None else ():
        source = run.sources.get(target.name)
        model = run.models.get(source.branch) if source is not None else None
        if model is None or isinstance(model, ConfigError):
            continue
        with suppress(UnusableError):
            for parts in auto_selections(target.sound.model.descriptor):
                _, block, key = parts
                number = getattr(getattr(model.descriptor, block), key)
                theirs[target.path("model", *parts)] = number
    found = [
        item
        for one in flown
        if one.training is not None and one.training.whole
        for item in neighborhoods(one.training.systems, one.task.cutoffs)
    ]
    for item in merged(found) if theirs else ():
        path = item.cutoff.nsel_path
        number = theirs.get(path, item.capacity)
        if start is not None and item.capacity != number:
            message = (
                f"`{path[-1]}` is {item.capacity} by the data and {number} in {start.file}, "
                "whose weights go with no other"
            )
            yield Finding(_CAPACITY, path, message, f"write {number}", fix=str(number), safe=False)


def _unsaid(findings: Iterable[Finding], said: Sequence[Diagnostic]) -> Iterator[Finding]:
    """Leave out what follows from what rules have said without reading the data."""
    places = {path for x in said if x.severity != "note" for path in (x.path, *x.repeated)}
    errors = {path for x in said if x.severity == "error" for path in (x.path, *x.repeated)}
    in_nanometres = any(item.code == "ZOO213" for item in said)  # too short for any data
    for finding in findings:
        paths = [finding.path, *(path for _, path in finding.related_paths)]
        near = any(starts_with(place, path) for place in places for path in paths)
        is_said = finding.code in _OF_CAPACITIES and near
        is_said |= finding.code in ("ZOO431", "ZOO447") and finding.path in errors
        if not (is_said or (finding.code == "ZOO444" and in_nanometres)):
            yield finding
