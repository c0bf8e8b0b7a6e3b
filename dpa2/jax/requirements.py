"""What JAX's formats need beyond this project's own requirements, and how to get it."""

from importlib.util import find_spec
from pathlib import Path

from schemas.errors import CheckpointError, ConversionError

# Of each extra: packages that writing needs, that running needs, and the format.
_EXTRAS = {
    "jax": (["jax", "flatbuffers"], ["jax", "flatbuffers"], "StableHLO"),
    "tensorflow": (["jax", "tensorflow"], ["tensorflow"], "SavedModel"),
}


def need_to_write(extra: str) -> None:
    """Raise ConversionError if a package is not installed that writing needs.

    Args:
        extra: `jax` for StableHLO, `tensorflow` for SavedModel.
    """
    packages, _, product = _EXTRAS[extra]
    if missing := _missing(packages):
        raise ConversionError(
            f"writing a {product} needs {missing}, not installed here", hint=_installed(extra)
        )


def need_to_run(path: Path, extra: str) -> None:
    """Raise CheckpointError if a package is not installed that evaluating a file needs.

    Args:
        path: The file.
        extra: As for `need_to_write`.
    """
    _, packages, product = _EXTRAS[extra]
    if missing := _missing(packages):
        raise CheckpointError(
            f"{path} is a {product}, which runs with {missing}, not installed here",
            hint=f"{_installed(extra)}; or evaluate the checkpoint it was made from",
        )


def _missing(packages: list[str]) -> str:
    return " and ".join(name for name in packages if find_spec(name) is None)


def _installed(extra: str) -> str:
    return f"pip install 'dpa-zoo[{extra}]'"
