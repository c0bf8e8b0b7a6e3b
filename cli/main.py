"""The `zoo` application: registers the commands and catches every exception once."""

import sys
from typing import Annotated

import typer

from cli import errors
from cli.bias import register as register_bias
from cli.branches import register as register_branches
from cli.bundle import register as register_bundle
from cli.cache import register as register_cache
from cli.compare import register as register_compare
from cli.convert import register as register_convert
from cli.data import register as register_data
from cli.deviation import register as register_deviation
from cli.diff import register as register_diff
from cli.explain import register as register_explain
from cli.export import register as register_export
from cli.extract import register as register_extract
from cli.finetune import register as register_finetune
from cli.freeze import register as register_freeze
from cli.init import register as register_init
from cli.list import register as register_list
from cli.lock import register as register_lock
from cli.lsp import register as register_lsp
from cli.md import register as register_md
from cli.output import open_missing_streams
from cli.plan import register as register_plan
from cli.plot import register as register_plot
from cli.predict import register as register_predict
from cli.pull import register as register_pull
from cli.push import register as register_push
from cli.recommend import register as register_recommend
from cli.registry import register as register_registry
from cli.search import register as register_search
from cli.serve import register as register_serve
from cli.show import register as register_show
from cli.speed import register as register_speed
from cli.test import register as register_test
from cli.train import register as register_train
from cli.validate import register as register_validate
from cli.verify import register as register_verify
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
