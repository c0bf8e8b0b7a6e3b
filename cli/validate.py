"""`zoo validate`: check input files and say everything that is wrong with them."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cli.output import Output


class Format(StrEnum):
    """How diagnostics are shown."""

    FULL = "full"
    CONCISE = "concise"
    GITHUB = "github"


def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Input files; - is standard input.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key for this check."),
    ] = None,
    style: Annotated[
        Format, typer.Option("--format", help="How diagnostics are shown.")
    ] = Format.FULL,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
) -> None:
    """Check input files. Exit code: 0 clean or warnings only, 1 errors, 2 could not try."""
    from cli.render import render, summary
    from schemas.check import check_file, check_text

    output = Output(json_mode=json_mode)
    reports = [
        check_text(sys.stdin.read(), "<stdin>", overrides or ())
        if file == "-"
        else check_file(file, overrides or ())
        for file in files
    ]
    for report in reports:
        for line in render(report, style):
            output.text(line)
    if style is not Format.GITHUB:
        output.text(summary(reports))
    output.result(
        {
            "files": [
                {"file": item.name, "diagnostics": [d.document() for d in item.diagnostics]}
                for item in reports
            ]
        }
    )
    warned = any(d.severity == "warning" for item in reports for d in item.diagnostics)
    if not all(item.ok for item in reports) or (strict and warned):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate")(validate)
