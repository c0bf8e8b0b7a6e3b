"""Models and their registry in one folder or archive, for machines without the outside network."""

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import yaml

from schemas.base.errors import RegistryError, WriteError
from schemas.base.writing import atomic_write, write_text
from schemas.registry import FileSource, ModelFile, RegisteredBranch, RegisteredModel, Registry
from zoo.checkpoint_writer import extract_branch
from zoo.model_card import ARCHITECTURES, CardFacts, model_card
from zoo.registry import read_registry
from zoo.remote_branch import pull_branch
from zoo.resolve import LocalPath, fetch, located, parse_reference
from zoo.transfer.remote import Progress

REGISTRY = "registry.yaml"
_PIECE = 4 * 2**20
_HEADER = "# Models bundled by `zoo bundle`; add them with: zoo registry add FOLDER\n"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model to be bundled.

    Args:
        path: Its file.
        known: What a registry says of it; None for a file of one's own.
        origin: Where such a file comes from, if not from this machine.
    """

    path: Path
    known: RegisteredModel | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written.

    Args:
        place: The folder or the archive.
        models: What its registry says, those that were there before included.
        files: Paths below the place, in order.
        size: Bytes of them together.
    """

    place: Path
    models: list[RegisteredModel]
    files: list[str]
    size: int


def model_to_bundle(
    reference: str,
    branch: str | None,
    folder: Path,
    *,
    progress: Progress | None = None,
    offline: bool = False,
) -> BundledModel:
    """Return the file that a reference means, or one branch of it as a model of its own.

    Of a file that is not here only what the branch needs is fetched, as by `zoo pull --branch`.

    Args:
        reference: As `zoo.resolve.parse_reference` takes it.
        branch: Name or alias of a branch; its model is called `<model>-<branch>`. None: all of it.
        folder: Where the branch's file goes.
        progress: Who watches.
        offline: Use only what is on this machine.

    Raises:
        CheckpointError: When there is no such branch.
        RegistryError: When the name is unknown.
        TransferError: When the file cannot be had.
        WriteError: When the folder cannot be written.
    """
    parsed = parse_reference(reference)
    if isinstance(parsed, LocalPath):
        if branch is None:
            return BundledModel(parsed.path)
        written = extract_branch(parsed.path, branch, folder / "branch.pt")
        target = _named(written.path, parsed.path.stem, written.branch)
        return BundledModel(target, origin=f"{parsed.path.name}, branch {written.branch}")
    place = located(parsed)
    known = place.known.model if place.known else None
    if branch is None:
        found = fetch(place, progress=progress, offline=offline)
        return BundledModel(found.path, known, origin=reference)
    pulled = pull_branch(place, branch, folder / "branch.pt", progress=progress, offline=offline)
    target = _named(pulled.path, known.name if known else Path(place.file.name).stem, pulled.branch)
    if known is None:
        return BundledModel(target, origin=f"{reference}, branch {pulled.branch}")
    return BundledModel(target, _branch_described(known, pulled.branch, target))


def _named(path: Path, whole: str, branch: str) -> Path:
    """Give a branch's file its name."""
    return path.replace(path.with_name(f"{plain_name(f'{whole}-{branch}')}.pt"))


def _branch_described(known: RegisteredModel, branch: str, path: Path) -> RegisteredModel:
    """Return the entry of a branch, made from that of the whole model."""
    text = next((f"{branch}: {one.domain}" for one in known.branches if one.name == branch), branch)
    changes = {
        "name": path.stem,
        "aliases": [],
        "description": f"The branch {text}. {known.description}",
        "elements": [],
        "branches": [],
        "file": known.file.model_copy(
            update={"name": path.name, "size": None, "sha256": None, "superseded": []}
        ),
    }
    return known.model_copy(update=changes)


def bundle(models: Sequence[BundledModel], output: Path) -> Bundle:
    """Write models with their cards and a registry, so that `zoo registry add` can read them.

    Into a folder that is a bundle already the models are added; one of the same name and revision
    is replaced. The bytes of a `.tar` depend on the models only: no times, no owners.

    Args:
        models: What to bundle; each name and revision once.
        output: A folder, or a file whose name ends in `.tar`.

    Raises:
        RegistryError: When a file is not the one that its registry names, or the folder holds
            other things.
        CheckpointError: When a file is no checkpoint.
        WriteError: When the disk is full or the folder cannot be written.
    """
    entries = [_Entry.of(model) for model in models]
    for name in (names := [_key(entry.model) for entry in entries]):
        if names.count(name) > 1:
            raise RegistryError(
                f"two models are called {name[0]}", hint="bundle them into two folders"
            )
    into_archive = output.suffix == ".tar"
    before = [] if into_archive else _models_of(output)
    kept = [model for model in before if _key(model) not in names]
    all_models = [*kept, *(entry.model for entry in entries)]
    registry = _registry_text(all_models)
    (_write_archive if into_archive else _write_folder)(entries, registry, output)
    texts = {REGISTRY: registry} | {entry.card_name: entry.card for entry in entries}
    size = sum(len(text.encode()) for text in texts.values())
    return Bundle(
        output,
        all_models,
        sorted([*texts, *(entry.file for entry in entries)]),
        size + sum(entry.facts.size for entry in entries),
    )


def _key(model: RegisteredModel) -> tuple[str, str | None]:
    """Return what tells models of a bundle apart."""
    return model.name.lower(), model.revision


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model, where its file is, and what goes into its folder."""

    model: RegisteredModel
    source: Path
    facts: CardFacts

    @property
    def file(self) -> str:
        return f"{_folder(self.model)}/{self.model.file.name}"

    @property
    def card_name(self) -> str:
        return f"{_folder(self.model)}/README.md"

    @property
    def card(self) -> str:
        return model_card(self.facts)

    @classmethod
    def of(cls, bundled: BundledModel) -> "_Entry":
        path, known = bundled.path, bundled.known
        facts = CardFacts.of(path)
        if known is None:
            known = _described(path, facts, bundled.origin or path.name)
        elif known.file.sha256 not in (None, facts.sha256):
            raise RegistryError(
                f"{path} is not the file that the registry names for {known.name}: its SHA-256 is "
                f"{facts.sha256}, {known.file.sha256} expected",
                hint=f"fetch it again: zoo pull {known.name}",
            )
        place = FileSource(kind="file", path=f"{_folder(known)}/{known.file.name}")
        content = {"size": facts.size, "sha256": facts.sha256, "sources": [place]}
        changes: dict[str, Any] = {"file": known.file.model_copy(update=content)}
        if "://" not in (known.training_input or ""):
            changes["training_input"] = None  # a path of a project that is not bundled
        known = known.model_copy(update=changes)
        facts = replace(
            facts,
            title=known.name,
            reference=known.reference,
            file=known.file.name,
            description=known.description,
            licence=known.licence,
            citation=known.citation,
        )
        return cls(known, path, facts)

    @contextmanager
    def checked(self) -> Iterator["_HashedFile"]:
        """Open the file; raise WriteError when what was read in all is not what was hashed."""
        with self.source.open("rb") as stream:
            file = _HashedFile(stream)
            yield file
        if file.digest.hexdigest() != self.facts.sha256:
            raise WriteError(
                f"{self.source} was changed while it was bundled", hint="bundle it again"
            )


class _HashedFile:
    """Reads a file and hashes what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self.digest.update(piece)
        return piece


def _write_folder(entries: Sequence[_Entry], registry: str, folder: Path) -> None:
    for entry in entries:
        try:
            (folder / entry.file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{folder} cannot be written: {error.strerror or error}") from error
        with atomic_write(folder / entry.file) as target, entry.checked() as source:
            shutil.copyfileobj(source, target, _PIECE)
        write_text(folder / entry.card_name, entry.card)
    write_text(folder / REGISTRY, registry)  # last: what it names is there


def _write_archive(entries: Sequence[_Entry], registry: str, output: Path) -> None:
    with (
        atomic_write(output) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add_text(archive, REGISTRY, registry)
        for entry in entries:
            _add_text(archive, entry.card_name, entry.card)
            with entry.checked() as source:
                _add(archive, entry.file, source, entry.facts.size)


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    _add(archive, name, io.BytesIO(text.encode()), len(text.encode()))


def _add(archive: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, content)


def _models_of(folder: Path) -> list[RegisteredModel]:
    """Return what a bundle holds already.

    Raises:
        RegistryError: When the folder is in use for something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RegistryError(f"{folder} is a file", hint="give a folder, or a name ending in .tar")
    if (folder / REGISTRY).is_file():
        return read_registry(folder / REGISTRY).models
    if folder.is_dir() and any(folder.iterdir()):
        raise RegistryError(
            f"{folder} holds other things than a bundle", hint="give an empty or a new folder"
        )
    return []


def _registry_text(models: Sequence[RegisteredModel]) -> str:
    document = {
        "version": 1,
        "models": [
            model.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
            for model in models
        ],
    }
    Registry.model_validate(document)
    places = [f"{_folder(model)}/{model.file.name}".lower() for model in models]
    for place in places:
        if places.count(place) > 1:
            raise RegistryError(
                f"two models would both be {place}", hint="bundle them into two folders"
            )
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _described(path: Path, facts: CardFacts, origin: str) -> RegisteredModel:
    """Return the entry of a model that no registry knows, from what its file says."""
    name = plain_name(path.stem) or "model"
    descriptors = {branch.descriptor for branch in facts.branches}
    place = FileSource(kind="file", path=f"{name}/{name}{path.suffix}")
    branches = facts.branches if facts.multitask else ()
    return RegisteredModel(
        name=name,
        description=f"Bundled from {origin}.",
        family=ARCHITECTURES.get(descriptor := min(descriptors), descriptor),
        trainable=descriptors == {"dpa2"},
        elements=facts.elements,
        branches=[RegisteredBranch(name=one.name, domain="not described") for one in branches],
        file=ModelFile(name=f"{name}{path.suffix}", sources=[place]),
    )


def _folder(model: RegisteredModel) -> str:
    return plain_name(model.name if model.revision is None else f"{model.name}-{model.revision}")


def plain_name(name: str) -> str:
    """Return a name of which every registry and every file system makes the same."""
    words = re.sub(r"[^\w\-.]", "-", name, flags=re.ASCII)
    return re.sub(r"\.{2,}", ".", words).strip(".")
