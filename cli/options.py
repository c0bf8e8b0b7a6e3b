"""Options that mean the same in every command that has them."""

from pathlib import Path
from typing import Annotated, TypeVar, overload

import typer

Reference = TypeVar("Reference", str, Path)


@overload
def find_model(reference: Reference) -> Reference: ...
@overload
def find_model(reference: None) -> None: ...
def find_model(reference: str | Path | None) -> str | Path | None:
    """Return the file of a model that a command line names by its path or by its registered name.

    Raises:
        RegistryError: When it is neither.
    """
    if reference is None:
        return None
    from zoo.resolve import model_file

    return type(reference)(model_file(str(reference)))


def split_name(entry: str) -> tuple[str | None, str]:
    """Return the name and the file of `NAME=FILE`; a file whose own name has `=` in it has none."""
    name, _, file = entry.partition("=")
    return (None, entry) if not file or Path(entry).exists() else (name, file)


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        callback=find_model,
        help="Checkpoint (.pt), frozen model (.pth), or name of a pretrained model.",
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        callback=find_model,
        help="Checkpoint (.pt), or name of a pretrained model.",
    ),
]
Branch = Annotated[
    str | None,
    typer.Option("--branch", "--head", help="Branch of a multi-task model: name or alias."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages, only results.")]
