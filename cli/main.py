"""The `zoo` application: all its commands, and the one place where exceptions end."""

import sys
from typing import Annotated

import typer

from cli import (
    branches,
    cache,
    catalog,
    convert,
    data,
    errors,
    evaluate,
    init,
    inputs,
    plan,
    publish,
    pull,
    registry,
    reproduce,
    show,
    structures,
    train,
    validate,
)
from cli.command import Command, Group, add_commands
from cli.output import open_missing_streams
from cli.version import VERSION
from schemas.base.terminal import guard_streams

COMMANDS: dict[str, Command | Group] = {
    "init": init.init,
    "validate": validate.validate,
    "explain": inputs.explain,
    "data": Group(
        "Convert data sets and look into them.",
        {"convert": data.convert, "info": data.info, "check": data.check},
    ),
    "plan": plan.plan,
    "diff": inputs.diff,
    "train": train.train,
    "finetune": train.finetune,
    "bias": evaluate.bias,
    "freeze": convert.freeze,
    "convert": convert.convert,
    "test": evaluate.evaluate,
    "compare": evaluate.compare,
    "speed": evaluate.speed,
    "predict": structures.predict,
    "deviation": structures.deviation,
    "md": structures.md,
    "plot": train.plot,
    "list": catalog.list_models,
    "search": catalog.search,
    "show": show.show,
    "pull": pull.pull,
    "verify": cache.verify,
    "cache": Group(
        "What downloads left on this machine. Files from plain addresses are in the cache of zoo; "
        "those of Hugging Face and ModelScope are in the caches that these share with other "
        "programs.",
        {"list": cache.list_cache, "prune": cache.prune, "rm": cache.rm, "path": cache.path},
    ),
    "registry": Group(
        "Registries of your own: files or addresses that name more models. They are asked first, "
        "in the order in which they were added; the built-in one is asked last.",
        {
            "add": registry.add,
            "list": registry.list_registries,
            "remove": registry.remove,
            "update": registry.update,
        },
    ),
    "push": publish.push,
    "bundle": publish.bundle,
    "serve": publish.serve,
    "branches": branches.branches,
    "recommend": branches.recommend,
    "extract": branches.extract,
    "export": convert.export,
    "lock": reproduce.lock,
    "reproduce": reproduce.reproduce,
    "lsp": inputs.lsp,
}

app = typer.Typer(
    name="zoo",
    help="Validate, train, freeze and test DPA-2 models.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_commands(app, COMMANDS)


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
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every failure becomes a sentence
            sys.exit(errors.report(error, json_mode="--json" in sys.argv))


if __name__ == "__main__":
    main()
