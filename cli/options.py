"""Options that mean the same in every command that has them."""

from typing import Annotated

import typer

Branch = Annotated[
    str | None,
    typer.Option("--branch", "--head", help="Branch of a multi-task model: name or alias."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages, only results.")]
