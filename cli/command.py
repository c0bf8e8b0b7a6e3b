"""How functions become commands: option groups taken apart, the result printed, the exit code.

The parameters of a function are its options. One whose type is a data class stands for the options
that are the fields of that class, in its place; `*words` are what is left of a command line. What a
function returns is its result: printed under `--json`, with exit code 1 where it is not `ok`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import typer

from cli.output import Output

Document = dict[str, Any]
Command = Callable[..., Document | None]


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one name.

    Args:
        help: What the page of the group says.
        commands: The functions, by name.
    """

    help: str
    commands: Mapping[str, Command]


def add_commands(app: typer.Typer, commands: "Mapping[str, Command | Group]") -> None:
    """Add commands and groups of commands to an application, in order."""
    for name, entry in commands.items():
        if isinstance(entry, Group):
            inner = typer.Typer(help=entry.help, no_args_is_help=True)
            add_commands(inner, entry.commands)
            app.add_typer(inner, name=name)
            continue
        takes_words = any(
            parameter.kind is parameter.VAR_POSITIONAL
            for parameter in inspect.signature(entry).parameters.values()
        )
        as_given = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, context_settings=as_given if takes_words else None)(_taken_apart(entry))


def _taken_apart(function: Command) -> Callable[..., None]:
    """Return a function with all options as parameters of its own, which is what Typer looks at."""
    parameters = inspect.signature(function).parameters.values()
    groups: dict[str, Any] = {
        one.name: one.annotation for one in parameters if is_dataclass(one.annotation)
    }

    def call(**given: Any) -> None:
        words = given.pop("context").args if "context" in given else ()
        for name, group in groups.items():
            given[name] = group(
                **{key: given.pop(key) for key in inspect.signature(group).parameters}
            )
        document = function(*words, **given)
        if document is not None:
            next(one for one in given.values() if isinstance(one, Output)).result(document)
            if not document["ok"]:
                raise typer.Exit(1)

    options = [parameter for one in parameters for parameter in _options(one)]
    call.__doc__ = function.__doc__
    call.__annotations__ = {option.name: option.annotation for option in options}
    call.__dict__["__signature__"] = inspect.Signature(options)
    return call


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """Yield the options that a parameter stands for."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        yield inspect.Parameter("context", parameter.KEYWORD_ONLY, annotation=typer.Context)
    elif is_dataclass(parameter.annotation):
        group: Any = parameter.annotation
        for option in inspect.signature(group).parameters.values():
            yield option.replace(kind=parameter.KEYWORD_ONLY)
    else:
        yield parameter.replace(kind=parameter.KEYWORD_ONLY)
