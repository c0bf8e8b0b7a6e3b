"""The `zoo` application: registers the commands and catches every exception once."""

import sys
from typing import Annotated

import typer

from cli import (
    bias,
    branches,
    bundle,
    cache,
    compare,
    convert,
    data,
    deviation,
    diff,
    errors,
    explain,
    export,
    extract,
    finetune,
    freeze,
    init,
    lock,
    lsp,
    md,
    plan,
    plot,
    predict,
    pull,
    push,
    recommend,
    registry,
    search,
    serve,
    show,
    speed,
    test,
    train,
    validate,
    verify,
)
from cli import list as list_models
from cli.output import open_missing_streams
from cli.version import VERSION
from schemas.terminal import guard_streams

app = typer.Typer(
    name="zoo",
    help="Validate, train, freeze and test DPA-2 models.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"zoo {VERSION}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Validate, train, freeze and test DPA-2 models."""


for command in (
    init,
    validate,
    explain,
    data,
    plan,
    diff,
    train,
    finetune,
    bias,
    freeze,
    convert,
    test,
    compare,
    speed,
    predict,
    deviation,
    md,
    plot,
    list_models,
    search,
    show,
    pull,
    verify,
    cache,
    registry,
    push,
    bundle,
    serve,
    branches,
    recommend,
    extract,
    export,
    lock,
    lsp,
):
    command.register(app)


def main() -> None:
    """Run the command line; the only place where exceptions end."""
    open_missing_streams()
    with guard_streams():
        try:
            try:
                app()
            finally:
                if not sys.stdout.closed:  # the language server closes it
                    sys.stdout.flush()  # what cannot be written is an error here, not after the end
        except Exception as error:  # noqa: BLE001 - the one place where every failure becomes a sentence
            sys.exit(errors.report(error, json_mode="--json" in sys.argv))
        except KeyboardInterrupt as error:
            sys.exit(errors.report(error, json_mode="--json" in sys.argv))


if __name__ == "__main__":
    main()
