"""The `zoo` application: all its commands, and the one place where exceptions end."""

import atexit
import gc
import json
import os
import sys
from typing import Annotated

import typer

from cli import (
    VERSION,
    branches,
    cache,
    catalog,
    convert,
    data,
    evaluate,
    init,
    inputs,
    plan,
    publish,
    pull,
    reproduce,
    show,
    structures,
    train,
    validate,
)
from cli.options import Command, Group, add_commands
from cli.output import open_missing_streams
from schemas.base.errors import ZooError
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
            "add": catalog.add_registry,
            "list": catalog.list_registries,
            "remove": catalog.remove_registry,
            "update": catalog.update_registries,
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
    # Imports make some 350,000 objects, none of them garbage: to search them again and again, and
    # once more at the end, would take as long as half of the imports.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    open_missing_streams()
    with guard_streams():
        try:
            try:
                app()
            finally:
                if not sys.stdout.closed:  # the language server closes it
                    sys.stdout.flush()  # what cannot be written is an error here, not after the end
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every failure becomes a sentence
            sys.exit(report_error(error, json_mode="--json" in sys.argv))


EXIT_INTERRUPTED = 130
EXIT_UNREAD = 1
"""As click and rich, which notice it first where they print."""


def report_error(error: BaseException, *, json_mode: bool) -> int:
    """Tell the user what went wrong and return the exit code.

    Silence where the reader of our output has gone, as `head` users expect.

    With `ZOO_DEBUG=1` the exception is raised again, so that its traceback can be read.
    """
    if os.environ.get("ZOO_DEBUG") == "1" and not isinstance(error, KeyboardInterrupt):
        raise error
    from schemas.base.terminal import lasting_output

    with lasting_output():
        return _report(error, json_mode=json_mode)


def _report(error: BaseException, *, json_mode: bool) -> int:
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    kind = type(error).__name__
    hint: str | None
    code = 2
    if isinstance(error, ZooError):
        message, hint, code = error.message, error.hint, error.exit_code
    elif isinstance(error, BrokenPipeError):
        return EXIT_UNREAD
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message, hint = f"{where}{error.strerror or error}", None
    elif (strange := _strange_name(error)) is not None:
        message, hint = strange
    elif isinstance(error, RecursionError):
        message = "a file is nested more deeply than any that a program writes"
        hint = "look at it: it may be damaged, or another file than was meant"
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        message = "out of memory"
        hint = "use a smaller batch_size, fewer frames at a time, or a device with more memory"
    elif isinstance(error, ModuleNotFoundError):
        message = f"the package `{error.name}` is needed for this and is not installed"
        hint = f"install it: pip install {error.name}"
    else:
        message = f"unexpected {kind}: {error}"
        hint = "this is a bug of zoo; run again with ZOO_DEBUG=1 and report the traceback"
    if json_mode:
        document = {"ok": False, "error": {"kind": kind, "message": message, "hint": hint}}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"  hint: {hint}\n")
    return code


def _strange_name(error: BaseException) -> tuple[str, str] | None:
    """Return what is wrong with the name of a file, message and hint, if that is what failed."""
    if isinstance(error, UnicodeEncodeError) and "surrogate" in error.reason:
        at = max(0, error.start - 40)
        part = str(error.object)[at : error.end + 40].encode("utf-8", "backslashreplace").decode()
        return f"a file name has bytes that are no UTF-8 text: {part}", "rename the file"
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "a file name has a NUL character in it", "look at the names in the input"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return str(error), "the links lead back to themselves; name the file itself"
    return None


if __name__ == "__main__":
    main()
