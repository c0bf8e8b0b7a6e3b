"""The hubs' own clients: their caches, tokens and settings."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Self

from schemas.base import environment
from schemas.base.errors import TransferError, first_line
from schemas.base.terminal import quiet_logger
from schemas.base.writing import file_sha256
from schemas.registry import HuggingFaceSource, ModelFile, ModelScopeSource, Source
from zoo.transfer.client import check_url
from zoo.transfer.remote import Progress, RefusedError, Remote

Client = Callable[[ModelFile, Progress], Path]
"""Returns a file in the cache of a hub's client; raises TransferError where it cannot be had."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def client_of(source: Source) -> Client | None:
    """Return what fetches a file through its hub's own client; None where there is none.

    There is none for a mirror that the registry names: the client would send the user's token
    there, and cannot go on with a file half way.
    """
    if isinstance(source, HuggingFaceSource) and source.endpoint is None:
        return partial(_from_huggingface, source)
    if isinstance(source, ModelScopeSource) and has_modelscope():
        return partial(_from_modelscope, source)
    return None


def endpoint() -> str:
    """Return the address that the client uses: `HF_ENDPOINT`, or Hugging Face itself."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def check_endpoint() -> None:
    """Raise TransferError when the client's address would carry a token in the clear."""
    check_url(Remote(endpoint(), label="Hugging Face"))


def huggingface_headers() -> dict[str, str]:
    """Return the header that carries the user's token, as huggingface_hub finds it; or none.

    Raises:
        TransferError: When a token is to be exchanged for another one, and that fails.
    """
    from huggingface_hub import constants, errors, get_token

    if environment.is_offline():
        return {}  # to have a token may need the network
    try:
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    except errors.OIDCError as error:
        raise TransferError(
            f"no token for Hugging Face was given: {error}",
            hint="unset HF_OIDC_RESOURCE, or set HF_TOKEN",
        ) from error
    return {"Authorization": f"Bearer {token}"} if token else {}


def _from_huggingface(source: HuggingFaceSource, file: ModelFile, progress: Progress) -> Path:
    """Return a file in the cache of huggingface_hub; it is fetched where it is not, or damaged."""
    path = _downloaded(source, file.name, progress)
    # A large file of the cache is named by its SHA-256; a small one by another hash, of which
    # nothing can be said.
    expected = path.resolve().name
    if _SHA256.fullmatch(expected) and file_sha256(path) != expected:
        progress.say(f"{path.name} in the cache is damaged; it is fetched again")
        path = _downloaded(source, file.name, progress, again=True)
    return path


def _downloaded(
    source: HuggingFaceSource, name: str, progress: Progress, *, again: bool = False
) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import errors, hf_hub_download

    try:
        with quiet():
            return Path(
                hf_hub_download(
                    source.repo,
                    source.path,
                    revision=source.revision,
                    library_name="dpa-zoo",
                    tqdm_class=bar_class(progress, name),
                    force_download=again,
                )
            )
    except (
        HTTPError,
        OSError,
        ValueError,
        RuntimeError,
        errors.EntryNotFoundError,
        errors.XetDownloadError,
        errors.OIDCError,
    ) as error:
        raise explained(error, source.repo, source.revision, source.path) from error


def explained(error: Exception, repo: str, revision: str | None, path: str = "") -> TransferError:
    """Return what a failure of the client means, in a sentence, and what helps.

    It is a `RefusedError` where asking in another way would be answered alike.
    """
    from huggingface_hub import errors

    where = f"{repo}@{revision}" if revision else repo
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # "error while uploading": why is what matters
    message, hint = f"Hugging Face: {first_line(error)}", None
    kind: type[TransferError] = RefusedError
    match error:
        case errors.GatedRepoError():
            message = f"{repo} asks its readers to agree to conditions first"
            hint = f"agree at {endpoint()}/{repo}, then log in with `hf auth login` or set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            message = f"{repo} does not exist at {endpoint()}, or is private"
            hint = "if it is private, log in with `hf auth login` or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            message = f"{repo} has no revision {revision}"
            hint = "leave the revision out for the newest"
        case errors.RemoteEntryNotFoundError():
            message = f"{where} has no file {path}"
            hint = f"the files are listed at {endpoint()}/{repo}/tree/{revision or 'main'}"
        case errors.OfflineModeIsEnabled():
            message = f"{where} is not in the cache of huggingface_hub, and the network is not used"
            hint = "unset HF_HUB_OFFLINE to use it"
        case errors.LocalEntryNotFoundError():
            kind = TransferError
            cause = error.__cause__ or error.__context__
            reason = f": {first_line(cause)}" if isinstance(cause, Exception) else ""
            message = f"{endpoint()} does not answer{reason}"
            hint = "set HF_ENDPOINT to a mirror, or https_proxy, if it is blocked where you are"
        case errors.HfHubHTTPError() if error.response.status_code in {401, 403}:
            message = f"{where}: the token is not accepted ({error.response.status_code})"
            hint = "log in again with `hf auth login`, or set HF_TOKEN"
        case errors.HfHubHTTPError():
            kind = TransferError
            message = f"{endpoint()} answered {error.response.status_code} for {where}"
        case _:
            kind = TransferError
    return kind(message, hint=hint)


def bar_class(progress: Progress, name: str) -> type:
    """Return a class that the client takes for a tqdm bar and that tells `progress`.

    Its first instance speaks; a second one (the client shows two for chunked storage) counts the
    same bytes. What the client would write on a bar can be an address that carries a signature.
    """
    speakers: list[Any] = []

    class Bar:
        n = 0

        def __init__(self, *_: Any, **settings: Any) -> None:
            self.total = settings.get("total")
            self.n = settings.get("initial") or 0
            self.speaks = not speakers
            speakers.append(self)
            if self.speaks:
                progress.start(name, self.total, self.n)

        def update(self, amount: float | None = 1) -> None:
            self.n += int(amount or 0)
            if self.speaks:
                progress.advance(int(amount or 0))

        def close(self) -> None:
            if self.speaks:
                self.speaks = False
                progress.finish()

        def refresh(self, *_: Any, **__: Any) -> None:
            """Nothing to draw."""

        set_description = set_description_str = set_postfix = set_postfix_str = refresh
        reset = clear = refresh
        format_dict: dict[str, Any] = {}  # noqa: RUF012 - read only

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return Bar


@contextmanager
def quiet(*, bars: bool = True) -> Iterator[None]:
    """Let the client log errors only: its warnings name addresses that carry signatures.

    Args:
        bars: Whether it may draw bars where nobody else does.
    """
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    had_bars = not are_progress_bars_disabled()
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    if had_bars and not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        if had_bars and not bars:
            enable_progress_bars()
        hub_logging.set_verbosity(before)


def has_modelscope() -> bool:
    """Return whether the extra `modelscope` is installed."""
    return find_spec("modelscope_hub") is not None


def _from_modelscope(source: ModelScopeSource, file: ModelFile, progress: Progress) -> Path:
    """Return a file in the cache of ModelScope's client, which fetches it, or the rest of it."""
    from modelscope_hub import HubApi, HubConfig
    from modelscope_hub.errors import HubError
    from requests import RequestException

    try:
        with quiet_logger("modelscope_hub"), redirect_stderr(StringIO()):  # its own bar
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
        raise _explained_modelscope(error, source) from error


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


def _explained_modelscope(error: Exception, source: ModelScopeSource) -> TransferError:
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
    return TransferError(f"ModelScope: {first_line(error)}")
