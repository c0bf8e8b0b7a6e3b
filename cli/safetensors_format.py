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

    here = "cli.safetensors_format:"
    add_format(
        Format(
            (".safetensors",),
            "checkpoint without any pickle",
            here + "read_safetensors",
            here + "write_safetensors",
            may_have_branches=True,
        )
    )


def read_safetensors(path: Path, branch: str | None) -> "PortableModel":
    """Read a model."""
    from dpa2.formats.files import read_pt
    from zoo.safetensors_file import from_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        # a name like the file's, because messages mention it
        checkpoint = Path(folder) / path.with_suffix(".pt").name
        from_safetensors(path, checkpoint)
        return replace(read_pt(checkpoint, branch), path=path)


def write_safetensors(portable: "PortableModel", path: Path, report: Callable[[str], None]) -> None:
    """Write a model."""
    from dpa2.formats.files import write_pt
    from zoo.safetensors_file import to_safetensors

    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        checkpoint = Path(folder) / "model.pt"
        write_pt(portable, checkpoint, report)
        to_safetensors(checkpoint, path)
