"""Upload of a trained model and its card to Hugging Face."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.base import environment
from schemas.base.errors import ConfigError, TransferError
from schemas.base.writing import write_text
from schemas.lock import LOCK_FILE, Lock, read_lock
from zoo.hubs.clients import check_endpoint, explained, quiet
from zoo.model_card import CardFacts, model_card

CARD = "README.md"
_REPOSITORY = re.compile(r"\w[\w\-.]*/\w[\w\-.]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be pushed.

    Args:
        repo: `owner/name`.
        revision: Branch of the repository; None for its main one.
        files: By their path in the repository: a file here, or a text.
    """

    repo: str
    revision: str | None
    files: dict[str, Path | str]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(file.encode()) if isinstance(file, str) else file.stat().st_size
            for name, file in self.files.items()
        }

    def write_card(self, path: Path) -> None:
        """Write the card to look at, or to change and push by hand."""
        card = self.files[CARD]
        assert isinstance(card, str)
        write_text(path, card)


def prepare(
    model: Path,
    repo: str,
    *,
    revision: str | None = None,
    licence: str | None = None,
    description: str | None = None,
    citation: str | None = None,
    training_input: Path | None = None,
    metrics: Path | None = None,
) -> Upload:
    """Return what pushing a model would send; nothing is sent.

    A `zoo.lock` beside the model is sent along, and its versions, seeds and fingerprints of data
    stand in the card, if it is that of a run; one that names another result is an error.

    Args:
        model: A checkpoint; no code in it is run, and one that holds code is refused.
        repo: `owner/name` on Hugging Face.
        revision: Branch of the repository; it is made if it is not there.
        licence: SPDX identifier.
        description: A sentence on what the model is for.
        citation: What to cite besides the architecture.
        training_input: The input of the run; a lock has it already.
        metrics: Result of `zoo test --json`.

    Raises:
        CheckpointError: When the model is no checkpoint.
        ConfigError: When another file is not what it should be.
    """
    _check_name(repo)
    name = model.name if model.suffix else f"{model.name}.pt"
    facts = CardFacts.of(
        model,
        title=repo.partition("/")[2],
        reference=f"hf://{repo}{f'@{revision}' if revision else ''}/{name}",
        file=name,
        description=description,
        licence=licence,
        citation=citation,
        training_input=_read_json(training_input),
        metrics=_read_json(metrics),
    )
    lock = _lock_beside(model, facts.sha256)
    files: dict[str, Path | str] = {CARD: model_card(replace(facts, lock=lock)), name: model}
    if lock is not None:
        files[LOCK_FILE] = model.with_name(LOCK_FILE)
    if training_input is not None:
        files["input.json"] = training_input
    if metrics is not None:
        files["metrics.json"] = metrics
    return Upload(repo, revision, files)


def push(
    upload: Upload, *, private: bool = False, message: str | None = None, bars: bool = False
) -> str:
    """Send files to Hugging Face in one commit; return the commit's address.

    The repository and the branch are made if they are not there. Who the user is comes from
    `HF_TOKEN` or `hf auth login`.

    Args:
        upload: From `prepare`.
        private: Make a new repository private; one that is there stays what it is.
        message: Of the commit.
        bars: Let the hub's client show its own bars on stderr.

    Raises:
        TransferError: When nobody is logged in, or the hub refuses.
    """
    environment.demand_network("nothing can be pushed")
    from httpx2 import HTTPError
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    check_endpoint()
    if get_token() is None:
        raise TransferError(
            "Hugging Face does not know who you are",
            hint="log in with `hf auth login`, or set HF_TOKEN to a token that may write",
        )
    api = HfApi(library_name="dpa-zoo")
    operations = [
        CommitOperationAdd(name, file.encode() if isinstance(file, str) else str(file))
        for name, file in upload.files.items()
    ]
    try:
        with quiet(bars=bars):
            api.create_repo(upload.repo, private=private or None, exist_ok=True)
            if upload.revision is not None:
                api.create_branch(upload.repo, branch=upload.revision, exist_ok=True)
            commit = api.create_commit(
                upload.repo,
                operations,
                commit_message=message or f"Upload {', '.join(upload.files)} with dpa-zoo",
                revision=upload.revision,
            )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise explained(error, upload.repo, upload.revision) from error
    return str(commit.commit_url)


def _lock_beside(model: Path, sha256: str) -> Lock | None:
    path = model.with_name(LOCK_FILE)
    if not path.exists():
        return None
    lock = read_lock(path)
    if lock.result is not None and lock.result.sha256 != sha256:
        raise ConfigError(
            f"{path} is the lock file of another checkpoint, {lock.result.path}",
            hint=f"move it elsewhere, or write one anew: zoo lock --result {model.name} train ...",
        )
    return lock


def _read_json(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read as JSON: {reason}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return document


def _check_name(repo: str) -> None:
    if _REPOSITORY.fullmatch(repo) is None:
        raise ConfigError(
            f"`{repo}` is not the name of a repository",
            hint="write OWNER/NAME, where OWNER is you or an organisation of yours",
        )
