"""Frames that could not be evaluated, told alike by every command."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpa2.evaluate.good_frames import BadFrame

Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first frame that cannot be evaluated.")
]

_SHOWN = 10


def tell(out: Output, bad: "Iterable[BadFrame | str]") -> None:
    """Warn of frames that could not be evaluated."""
    lines = list(dict.fromkeys(str(frame) for frame in bad))
    for line in lines[:_SHOWN]:
        out.warning(line)
    if len(lines) > _SHOWN:
        out.warning(f"{len(lines) - _SHOWN} more frames are bad; --json lists them all")
    if lines:
        out.warning(f"{len(lines)} frames could not be evaluated; the results are of the others")
