"""Files of ModelScope through its own small client, where that is installed."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path

from schemas.base.errors import TransferError
from schemas.registry import ModelFile, ModelScopeSource
from zoo.transfer.remote import Progress, RefusedError


def has_client() -> bool:
    """Return whether the extra `modelscope` is installed."""
    return find_spec("modelscope_hub") is not None


def fetch(source: ModelScopeSource, file: ModelFile, *, progress: Progress) -> Path:
    """Return the file in the client's cache, which fetches it, or the rest of it.

    Args:
        source: Where it is.
        file: Hash and size, which the client compares where they are known.
        progress: Who watches.

    Raises:
        TransferError: When it cannot be had.
    """
    from modelscope_hub import HubApi, HubConfig
    from modelscope_hub.errors import HubError
    from requests import RequestException

    try:
        with _quiet():
            return HubApi(HubConfig()).downloader.download_file(
                source.repo,
                "model",
                source.path,
                revision=source.revision,
                expected_sha256=file.sha256,
                file_size=file.size,
                progress_callbacks=_callbacks(progress),
            )
    except (HubError, RequestException, OSError, ValueError) as error:
        raise _explained(error, source) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's own bar and its warnings off the terminal; errors end in `fetch`."""
    logger = logging.getLogger("modelscope_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


def _callbacks(progress: Progress) -> list[type]:
    from modelscope_hub import ProgressCallback

    class Callback(ProgressCallback):
        def __init__(self, filename: str, file_size: int) -> None:
            super().__init__(filename, file_size)
            progress.start(filename, file_size or None, 0)

        def update(self, size: int) -> None:
            progress.advance(size)

        def end(self) -> None:
            progress.finish()

    return [Callback]


def _explained(error: Exception, source: ModelScopeSource) -> TransferError:
    from modelscope_hub import errors

    where = f"{source.repo}@{source.revision}"
    match error:
        case errors.NotExistError():
            return RefusedError(f"ModelScope has no {source.path} in {where}, or it is private")
        case errors.AuthenticationError() | errors.PermissionDeniedError():
            return RefusedError(
                f"ModelScope does not let you read {where}",
                hint="log in with `ms login`, or set MODELSCOPE_API_TOKEN",
            )
        case errors.FileIntegrityError():
            return RefusedError(f"ModelScope sent another file than {source.path} of {where}")
        case errors.NetworkError():
            return TransferError("ModelScope does not answer")
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return TransferError(f"ModelScope: {first or type(error).__name__}")
