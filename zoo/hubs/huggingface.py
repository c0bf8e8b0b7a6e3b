"""Files of Hugging Face through its own client: its cache, its token, its settings."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from schemas.base.errors import TransferError
from schemas.base.writing import file_sha256
from schemas.registry import HuggingFaceSource, ModelFile
from zoo.transfer.client import check_url
from zoo.transfer.remote import Progress, RefusedError, Remote

_SHA256 = re.compile(r"[0-9a-f]{64}")


def endpoint() -> str:
    """Return the address that the client uses: `HF_ENDPOINT`, or Hugging Face itself."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def check_endpoint() -> None:
    """Raise TransferError when the client's address would carry a token in the clear."""
    check_url(Remote(endpoint(), label="Hugging Face"))


def fetch(source: HuggingFaceSource, file: ModelFile, *, progress: Progress) -> Path:
    """Return the file in the client's cache, which fetches it when it is not there, or is damaged.

    Args:
        source: Where it is.
        file: Its name, for messages.
        progress: Who watches.

    Raises:
        TransferError: When it cannot be had; says what to do.
    """
    path = _fetch(source, file.name, progress)
    # A large file of the cache is named by its SHA-256; a small one by another hash, of which
    # nothing can be said.
    expected = path.resolve().name
    if _SHA256.fullmatch(expected) and file_sha256(path) != expected:
        progress.say(f"{path.name} in the cache is damaged; it is fetched again")
        path = _fetch(source, file.name, progress, again=True)
    return path


def _fetch(
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
    message, hint = f"Hugging Face: {_first_line(error)}", None
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
            reason = f": {_first_line(cause)}" if isinstance(cause, Exception) else ""
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
    from logging import ERROR

    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    had_bars = not are_progress_bars_disabled()
    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    if had_bars and not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        if had_bars and not bars:
            enable_progress_bars()
        logging.set_verbosity(before)


def _first_line(error: BaseException) -> str:
    lines = [line for line in io.StringIO(str(error)) if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
