"""Writers of the formats that need JAX; imported only when one of them is asked for."""

from collections.abc import Callable
from pathlib import Path

from dpa2.convert.portable import PortableModel
from dpa2.jax.export import write_hlo, write_savedmodel

Report = Callable[[str], None]


def write_savedmodel_model(portable: PortableModel, path: Path, report: Report) -> None:
    """Write a SavedModel folder."""
    write_savedmodel(portable.model, portable.model_params, path, report)


def write_hlo_model(portable: PortableModel, path: Path, report: Report) -> None:
    """Write an `.hlo` file."""
    write_hlo(portable.model, portable.model_params, path, report)
