"""What exporting needs beyond this project's own requirements, and how to get it."""

from importlib.util import find_spec

from schemas.errors import ConversionError


def need_jax() -> None:
    """Raise ConversionError if JAX, or what its files need, is not installed."""
    _need("jax", ["jax", "flatbuffers"], "StableHLO")


def need_tensorflow() -> None:
    """Raise ConversionError if JAX or TensorFlow is not installed."""
    _need("tensorflow", ["jax", "tensorflow"], "SavedModel")


def _need(extra: str, packages: list[str], product: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConversionError(
            f"writing a {product} needs {' and '.join(missing)}, not installed here",
            hint=f"pip install 'dpa-zoo[{extra}]'",
        )
