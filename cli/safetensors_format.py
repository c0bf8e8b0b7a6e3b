"""`.safetensors` among the formats of `zoo convert`: `zoo` knows the file, `dpa2` the model.

Both meet in a checkpoint, which is written to a temporary folder and gone afterwards.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpa2.formats.conversion import PortableModel


def register_safetensors() -> None:
    """Add the format to the table of `dpa2.formats.table`."""
    from dpa2.formats.table import Format, add_format

    add_format(
        Format(
            (".safetensors",),
            "checkpoint without any pickle",
            __name__,
            may_have_branches=True,
        )
    )


def read(path: Path, branch: str | None) -> "PortableModel":
    """Read a model."""
    from dpa2.formats import checkpoint as network
    from zoo.safetensors_file import from_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        # a name like the file's, because messages mention it
        checkpoint = Path(folder) / path.with_suffix(".pt").name
        from_safetensors(path, checkpoint)
        return replace(network.read(checkpoint, branch), path=path)


def write(portable: "PortableModel", path: Path, report: Callable[[str], None]) -> None:
    """Write a model."""
    from dpa2.formats import checkpoint as network
    from zoo.safetensors_file import to_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        checkpoint = Path(folder) / "model.pt"
        network.write(portable, checkpoint, report)
        to_safetensors(checkpoint, path)
