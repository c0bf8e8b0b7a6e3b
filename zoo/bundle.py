"""Models and their registry in one folder or archive, for machines without the outside network."""

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from schemas.base.errors import RegistryError, WriteError
from schemas.base.writing import atomic_write, file_sha256, write_text
from schemas.checkpoint.header import read_header
from schemas.registry import FileSource, ModelFile, RegisteredBranch, RegisteredModel, Registry
from zoo.branches import BranchSummary, summarize
from zoo.checkpoint_writer import extract_branch
from zoo.known_models import Located
from zoo.model_card import CardFacts, model_card
from zoo.registry import read_registry
from zoo.remote_branch import pull_branch
from zoo.transfer.remote import Progress

REGISTRY = "registry.yaml"
_PIECE = 4 * 2**20
_HEADER = "# Models bundled by `zoo bundle`; add them with: zoo registry add FOLDER\n"
_ARCHIVES = (".tar",)


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
    names = [(entry.model.name.lower(), entry.model.revision) for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise RegistryError(
                f"two models are called {name[0]}", hint="bundle them into two folders"
            )
    if output.suffix in _ARCHIVES:
        return _into_archive(entries, output)
    return _into_folder(entries, output)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model, where its file is, and where it goes."""

    model: RegisteredModel
    source: Path
    size: int
    sha256: str
    card: str

    @property
    def folder(self) -> str:
        return _folder(self.model)

    @property
    def file(self) -> str:
        return f"{self.folder}/{self.model.file.name}"

    @classmethod
    def of(cls, bundled: BundledModel) -> "_Entry":
        path, known = bundled.path, bundled.known
        header = read_header(path)
        branches = summarize(header)
        sha256, size = file_sha256(path), path.stat().st_size
        if known is None:
            multitask = "model_dict" in header.model_params
            known = _described(path, branches, multitask=multitask, origin=bundled.origin)
        elif known.file.sha256 not in (None, sha256):
            raise RegistryError(
                f"{path} is not the file that the registry names for {known.name}: its SHA-256 is "
                f"{sha256}, {known.file.sha256} expected",
                hint=f"fetch it again: zoo pull {known.name}",
            )
        place = FileSource(kind="file", path=f"{_folder(known)}/{known.file.name}")
        file = known.file.model_copy(update={"size": size, "sha256": sha256, "sources": [place]})
        training_input = known.training_input
        if training_input is not None and "://" not in training_input:
            training_input = None  # a path of a project that is not bundled
        known = known.model_copy(update={"file": file, "training_input": training_input})
        card = model_card(
            CardFacts(
                title=known.name,
                reference=known.name + (f"@{known.revision}" if known.revision else ""),
                file=known.file.name,
                size=size,
                sha256=sha256,
                branches=branches,
                multitask="model_dict" in header.model_params,
                steps=header.steps,
                description=known.description,
                licence=known.licence,
                citation=known.citation,
            )
        )
        return cls(known, path, size, sha256, card)


def _into_folder(entries: Sequence[_Entry], folder: Path) -> Bundle:
    before = _models_of(folder)
    replaced = {(entry.model.name.lower(), entry.model.revision) for entry in entries}
    kept = [model for model in before if (model.name.lower(), model.revision) not in replaced]
    models = [*kept, *(entry.model for entry in entries)]
    text = _registry_text(models)
    for entry in entries:
        try:
            (folder / entry.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{folder} cannot be written: {error.strerror or error}") from error
        with _checked(entry) as source, atomic_write(folder / entry.file) as target:
            shutil.copyfileobj(source, target, _PIECE)
            source.check()
        write_text(folder / entry.folder / "README.md", entry.card)
    write_text(folder / REGISTRY, text)  # last: what it names is there
    return _bundle(folder, models, entries, text)


def _into_archive(entries: Sequence[_Entry], output: Path) -> Bundle:
    models = [entry.model for entry in entries]
    text = _registry_text(models)
    with (
        atomic_write(output) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, REGISTRY, io.BytesIO(text.encode()), len(text.encode()))
        for entry in entries:
            card = entry.card.encode()
            _add(archive, f"{entry.folder}/README.md", io.BytesIO(card), len(card))
            with _checked(entry) as source:
                _add(archive, entry.file, source, entry.size)
                source.check()
    return _bundle(output, models, entries, text)


def _add(archive: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, content)


def _bundle(
    place: Path, models: list[RegisteredModel], entries: Sequence[_Entry], registry: str
) -> Bundle:
    cards = [f"{entry.folder}/README.md" for entry in entries]
    files = sorted([REGISTRY, *cards, *(entry.file for entry in entries)])
    texts = sum(len(text.encode()) for text in (registry, *(entry.card for entry in entries)))
    return Bundle(place, models, files, texts + sum(entry.size for entry in entries))


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


def _described(
    path: Path, branches: Sequence[BranchSummary], *, multitask: bool, origin: str | None
) -> RegisteredModel:
    """Return the entry of a model that no registry knows, from what its file says."""
    name = plain_name(path.stem) or "model"
    descriptors = {branch.descriptor for branch in branches}
    family = {"dpa1": "DPA-1", "dpa2": "DPA-2", "dpa3": "DPA-3"}.get(
        descriptor := min(descriptors), descriptor
    )
    place = FileSource(kind="file", path=f"{name}/{name}{path.suffix}")
    return RegisteredModel(
        name=name,
        description=f"Bundled from {origin or path.name}.",
        family=family,
        trainable=descriptors == {"dpa2"},
        elements=list(dict.fromkeys(element for one in branches for element in one.type_map)),
        branches=[RegisteredBranch(name=one.name, domain="not described") for one in branches]
        if multitask
        else [],
        file=ModelFile(name=f"{name}{path.suffix}", sources=[place]),
    )


def _folder(model: RegisteredModel) -> str:
    return plain_name(model.name if model.revision is None else f"{model.name}-{model.revision}")


def plain_name(name: str) -> str:
    """Return a name of which every registry and every file system makes the same."""
    words = re.sub(r"[^\w\-.]", "-", name, flags=re.ASCII)
    return re.sub(r"\.{2,}", ".", words).strip(".")


class _CheckedFile(io.RawIOBase):
    """Reads a file and compares the hash of what was read in the end."""

    def __init__(self, stream: IO[bytes], entry: _Entry) -> None:
        self._stream, self._entry = stream, entry
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._digest.update(piece)
        return piece

    def check(self) -> None:
        """Raise WriteError when the file was changed since it was hashed."""
        if self._digest.hexdigest() != self._entry.sha256:
            raise WriteError(
                f"{self._entry.source} was changed while it was bundled", hint="bundle it again"
            )


@contextmanager
def _checked(entry: _Entry) -> Iterator[_CheckedFile]:
    with entry.source.open("rb") as stream:
        yield _CheckedFile(stream, entry)


def branch_of_file(path: Path, branch: str, folder: Path) -> BundledModel:
    """Write a branch of a file as a model of its own, called `<file>-<branch>`.

    Args:
        path: A multi-task checkpoint.
        branch: Name or alias of the branch.
        folder: Where the branch's file goes.

    Raises:
        CheckpointError: When there is no such branch.
        WriteError: When the folder cannot be written.
    """
    written = extract_branch(path, branch, folder / "branch.pt")
    target = _named(written.path, path.stem, written.branch)
    return BundledModel(target, origin=f"{path.name}, branch {written.branch}")


def branch_of_place(
    place: Located,
    reference: str,
    branch: str,
    folder: Path,
    *,
    progress: Progress | None = None,
    offline: bool = False,
) -> BundledModel:
    """Write a branch of a registered model, or of an address, as a model of its own.

    Of a file that is not here only what the branch needs is fetched, as by `zoo pull --branch`.

    Args:
        place: The file.
        reference: What messages and the branch's description call it.
        branch: Name or alias of the branch.
        folder: Where the branch's file goes.
        progress: Who watches.
        offline: Use only what is on this machine.

    Raises:
        CheckpointError: When there is no such branch.
        TransferError: When the file cannot be had.
        WriteError: When the folder cannot be written.
    """
    pulled = pull_branch(place, branch, folder / "branch.pt", progress=progress, offline=offline)
    known = place.known.model if place.known else None
    whole = known.name if known else Path(place.file.name).stem
    target = _named(pulled.path, whole, pulled.branch)
    if known is None:
        return BundledModel(target, origin=f"{reference}, branch {pulled.branch}")
    return BundledModel(target, _bundle_branch_described(known, pulled.branch, target))


def _named(path: Path, whole: str, branch: str) -> Path:
    """Give a branch's file its name."""
    return path.replace(path.with_name(f"{plain_name(f'{whole}-{branch}')}.pt"))


def _bundle_branch_described(known: RegisteredModel, branch: str, path: Path) -> RegisteredModel:
    """Return the entry of a branch, made from that of the whole model."""
    described = [one for one in known.branches if one.name == branch]
    text = f"{branch}: {described[0].domain}" if described else branch
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
