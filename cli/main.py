"""The `zoo` application: registers the commands and catches every exception once."""

import sys
from typing import Annotated

import typer

from cli import errors
from cli.branches import register_branches, register_extract, register_recommend
from cli.cache import register_cache, register_verify
from cli.catalog import register_list, register_search
from cli.convert import register_convert, register_export, register_freeze
from cli.data import register_data
from cli.evaluate import register_bias, register_compare, register_speed, register_test
from cli.init import register_init
from cli.inputs import register_diff, register_explain, register_lsp
from cli.output import open_missing_streams
from cli.plan import register_plan
from cli.publish import register_bundle, register_push, register_serve
from cli.pull import register_pull
from cli.registry import register_registry
from cli.reproduce import register_lock
from cli.show import register_show
from cli.structures import register_deviation, register_md, register_predict
from cli.train import register_finetune, register_plot, register_train
from cli.validate import register_validate
from cli.version import VERSION
from schemas.base.terminal import guard_streams

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


for register in (
    register_init,
    register_validate,
    register_explain,
    register_data,
    register_plan,
    register_diff,
    register_train,
    register_finetune,
    register_bias,
    register_freeze,
    register_convert,
    register_test,
    register_compare,
    register_speed,
    register_predict,
    register_deviation,
    register_md,
    register_plot,
    register_list,
    register_search,
    register_show,
    register_pull,
    register_verify,
    register_cache,
    register_registry,
    register_push,
    register_bundle,
    register_serve,
    register_branches,
    register_recommend,
    register_extract,
    register_export,
    register_lock,
    register_lsp,
):
    register(app)


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
