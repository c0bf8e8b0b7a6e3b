"""`zoo validate`: check input files and say everything that is wrong with them."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from cli.options import SkipNeighborStat, StartOptions
from cli.output import DocumentOutput, Output

if TYPE_CHECKING:
    from cli.render import Repair
    from schemas.base.diagnostics import Finding
    from schemas.check.report import Report
    from schemas.input.start import Start


Format = Literal["full", "concise", "github", "sarif"]


def validate(
    *,
    files: Annotated[
        list[str], Argument(metavar="FILE...", help="Input files; - is standard input.")
    ],
    overrides: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Override a key for this check."),
    ] = None,
    fix: Annotated[bool, Option("--fix", help="Apply safe fixes to the files.")] = False,
    diff: Annotated[
        bool, Option("--diff", help="Show what --fix would change; write nothing.")
    ] = False,
    unsafe: Annotated[
        bool, Option("--unsafe-fixes", help="Fixes that may change the meaning, too.")
    ] = False,
    style: Annotated[Format, Option("--format", help="How diagnostics are shown.")] = "full",
    output: DocumentOutput,
    user: Annotated[
        Literal["zoo", "deepmd-kit"],
        Option("--for", help="deepmd-kit: what it trains and zoo does not is a note only."),
    ] = "zoo",
    strict: Annotated[bool, Option("--strict", help="Warnings count as errors.")] = False,
    data: Annotated[
        bool, Option("--data/--no-data", help="Read the data, where they exist.")
    ] = True,
    options: StartOptions,
    skip_neighbor_stat: SkipNeighborStat = False,
) -> None:
    """Check input files. Exit code: 0 clean or warnings only, 1 errors, 2 could not try."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them takes time
    from cli.input_check import read_start, with_data, without_neighbors

    repairs = _repair(files, overrides or (), unsafe=unsafe, write=fix) if fix or diff else []
    if diff:
        _show_diffs(repairs, output)
    for item in repairs if not diff else ():
        if item.applied:
            output.info(f"{item.name}: fixed {len(item.applied)} faults")
    start, faults = read_start(**asdict(options))
    reports = [_checked(file, overrides or (), start, faults) for file in files]
    if skip_neighbor_stat:
        reports = [without_neighbors(report) for report in reports]
    if data and not diff:
        reports = [with_data(report) for report in reports]
    if user == "deepmd-kit":
        reports = [report.for_deepmd() for report in reports]
    if not diff:
        _show(reports, style, output)
    warned = any(d.severity == "warning" for item in reports for d in item.diagnostics)
    if any(found.code == "ZOO010" for item in reports for found in item.diagnostics):
        raise typer.Exit(2)
    if not all(item.ok for item in reports) or (strict and warned):
        raise typer.Exit(1)


def _checked(
    file: str, overrides: Sequence[str], start: "Start | None", faults: "Sequence[Finding]"
) -> "Report":
    """Return the report of a file, with `faults` of the start; a file not read is a finding too."""
    from schemas.base.diagnostics import Diagnostic
    from schemas.check.input_file import check_file, check_text
    from schemas.check.report import Report

    try:
        if file == "-":
            text = sys.stdin.buffer.read().decode("utf-8", "replace")
            report = check_text(text, "<stdin>", overrides, start)
        else:
            report = check_file(file, overrides, start)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror or error}"
        return Report(file, [], None, [Diagnostic("ZOO010", "error", message, ())])
    return report.extend(faults)


def _repair(
    files: Sequence[str], overrides: Sequence[str], *, unsafe: bool, write: bool
) -> "list[Repair]":
    """Return what fixes make of the files; files that are not text are left to the check."""
    from cli.render import repair
    from schemas.base.foreign_files import special_kind

    if "-" in files:
        raise typer.BadParameter("--fix and --diff need a file, not standard input")
    repairs = []
    for file in files:
        if special_kind(file) is not None:
            continue
        try:
            text = Path(file).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        repairs.append(repair(text, file, overrides, unsafe=unsafe))
        if write:
            repairs[-1].write()
    return repairs


def _show_diffs(repairs: "Sequence[Repair]", output: Output) -> None:
    from cli.render import colors_of

    for item in repairs:
        for line in item.diff(colors_of(sys.stdout)):
            output.painted(line)
    documents = [{"file": item.name, "diff": "\n".join(item.diff())} for item in repairs]
    output.result({"files": documents})


def _show(reports: "Sequence[Report]", style: Format, output: Output) -> None:
    from cli.render import colors_of, render, sarif, summary

    if style == "sarif" and not output.json_mode:
        output.text(json.dumps(sarif(reports), indent=2, ensure_ascii=False))
        return
    if not output.json_mode:
        for report in reports:
            for line in render(report, style, colors_of(sys.stdout)):
                output.painted(line)
        if style != "github":
            output.text(summary(reports))
    documents = [
        {"file": item.name, "diagnostics": [found.document() for found in item.diagnostics]}
        for item in reports
    ]
    output.result({"files": documents})
