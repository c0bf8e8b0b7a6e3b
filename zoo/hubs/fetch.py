"""Fetching a model's file from whichever place has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from schemas.base.errors import RegistryError, TransferError
from schemas.base.writing import file_sha256
from schemas.registry import (
    BundledSource,
    FileSource,
    HuggingFaceSource,
    ModelFile,
    ModelScopeSource,
    Source,
)
from zoo.cache import Store
from zoo.hubs import huggingface, modelscope
from zoo.hubs.addresses import remotes_of
from zoo.registry import PACKAGE
from zoo.transfer.client import check_url
from zoo.transfer.mirror_order import by_latency
from zoo.transfer.remote import (
    Counting,
    Download,
    Progress,
    RefusedError,
    Remote,
    UnreachableError,
    WrongContentError,
)


def checked(
    path: Path, file: ModelFile, source: str, *, received: int = 0, sha256: str | None = None
) -> Download:
    """Return what is known of a file whose content is right.

    Args:
        path: Where it is.
        file: What it should be.
        source: Where it comes from.
        received: Bytes that came over the network.
        sha256: Of what is there; None: it is computed.

    Raises:
        RefusedError: When it is another file; says so if it is one that was replaced.
    """
    found = sha256 or sha256_of(path)
    refuse_another(file, found)
    return Download(path, found, path.stat().st_size, received=received, source=source)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        RefusedError: When it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror or error}") from error


def refuse_another(file: ModelFile, sha256: str) -> None:
    """Raise RefusedError when a hash is not that of the file, or is one that was replaced."""
    refuse_superseded(file, sha256)
    if file.sha256 not in (None, sha256):
        raise RefusedError(f"it has another {file.name}: SHA-256 {sha256}, {file.sha256} expected")


def refuse_superseded(file: ModelFile, sha256: str) -> None:
    """Raise RefusedError when a hash is that of an earlier file, which was replaced."""
    for old in file.superseded:
        if old.sha256 == sha256:
            reason = old.reason.rstrip(".")
            raise RefusedError(f"it has a {file.name} that was replaced: {reason} ({sha256})")


_HERE = "this machine"
_T = TypeVar("_T")


def fetch_file(
    file: ModelFile,
    *,
    base: str | Path | None = None,
    store: Store,
    progress: Progress | None = None,
    offline: bool = False,
    insecure: bool = False,
) -> Download:
    """Return a file of a registry: from this machine if it is here, else from its fastest source.

    What comes through a hub's own client stays in that client's cache; everything else is kept in
    `store`. Places on the network are tried in the order of their measured latency. Plain addresses
    are one set: where one fails half way, the next goes on with the rest. A hub's client that fails
    is followed by the plain address of the same file, from which a download can be resumed.

    Args:
        file: An entry of a registry, or what a reference says.
        base: Folder or address of the registry.
        store: Where downloads are kept.
        progress: Who watches.
        offline: Use only what is on this machine.
        insecure: Plain http to another machine is allowed.

    Raises:
        RegistryError: When the file that comes with the program or the registry is another one.
        TransferError: When no place has it; says what each of them answered.
    """
    search = _Search(file, base, store, Counting(progress), insecure)
    found = search.on_this_machine(offline=offline)
    if found is not None:
        return found
    return search.in_store_only() if offline else search.over_the_network()


@dataclass(frozen=True)
class _Place:
    """A source on the network and its address."""

    source: Source
    remote: Remote

    @property
    def has_client(self) -> bool:
        """Whether the hub's own client asks for the file."""
        if isinstance(self.source, HuggingFaceSource):
            return huggingface.has_client(self.source)
        return isinstance(self.source, ModelScopeSource) and modelscope.has_client()


@dataclass
class _Search:
    """The way to one file; `failures` are what places answered, in order."""

    file: ModelFile
    base: str | Path | None
    store: Store
    progress: Counting
    insecure: bool
    failures: list[tuple[str, TransferError]] = field(default_factory=list)

    def on_this_machine(self, *, offline: bool) -> Download | None:
        """Return the file if it comes with the program, lies beside its registry or is cached.

        Without a hash only the network can tell whether what a cache has is still the file of that
        name; then a cache is asked only if there is no network.
        """
        for source in self.file.sources:
            path = self._beside(source)
            if path is not None:
                return self._beside_checked(path)
        if self.file.sha256 is not None:
            kept = self.store.find(self.file.sha256, self.file.name)
            if kept is not None:
                return Download(kept, self.file.sha256, kept.stat().st_size, 0, _HERE)
        elif not offline:
            return None
        for source in self.file.sources:
            copy = _cached(source)
            if copy is not None:
                try:
                    return checked(copy, self.file, _HERE)
                except RefusedError:
                    continue  # damaged, or another revision: it is fetched again
        return None

    def in_store_only(self) -> Download:
        """Return a file that was trusted on its first use.

        Raises:
            TransferError: When it is not here; says what would fetch it.
        """
        remotes = [place.remote for place in self._places()]
        return self.store.fetch(
            remotes,
            self.file.name,
            sha256=self.file.sha256,
            size=self.file.size,
            offline=True,
            command=_command(self.file.sources[0]),
        )

    def over_the_network(self) -> Download:
        """Return the file from the first place that delivers it.

        Raises:
            TransferError: When none does.
        """
        places = [place for place in self._places() if self._is_allowed(place)]
        if self.file.sha256 is None and not any(place.has_client for place in places):
            kept = self.store.trusted([place.remote for place in places], self.file.name)
            if kept is not None:
                return kept
        try:
            places = _quickest_first(places)
        except UnreachableError as error:
            return self._without_network(error)
        rest = list(places)
        while rest and rest[0].has_client:
            # A client may try for half a minute before it gives up, and says nothing meanwhile.
            self.progress.say(f"asking {rest[0].remote.label}")
            found = self._attempt(rest[0].remote.label, self._through_client, rest[0])
            if found is not None:
                return found
            rest = rest[1:]
        # Hubs whose client failed come last: their plain addresses may still serve what is missing.
        refused = [label for label, error in self.failures if isinstance(error, RefusedError)]
        again = [
            place for place in places if place not in rest and place.remote.label not in refused
        ]
        remotes = [place.remote for place in (*rest, *again)]
        if remotes:
            found = self._attempt("", self._plain, remotes)
            if found is not None:
                return found
        raise self._nowhere()

    def _without_network(self, error: UnreachableError) -> Download:
        """Return what a cache has, right as far as anybody can tell here.

        Raises:
            TransferError: When there is nothing.
        """
        self.failures.append(("", error))
        found = self.on_this_machine(offline=True)
        if found is None:
            raise self._nowhere() from error
        self.progress.say(f"{error.message}; {self.file.name} of the cache is used")
        return found

    def _beside(self, source: Source) -> Path | None:
        if isinstance(source, BundledSource):
            return PACKAGE / source.path
        if isinstance(source, FileSource) and isinstance(self.base, Path):
            return self.base / source.path
        return None

    def _beside_checked(self, path: Path) -> Download:
        try:
            return checked(path, self.file, _HERE)
        except RefusedError as error:
            raise RegistryError(
                f"{path} is not the file that its registry names: {error.message}",
                hint="install dpa-zoo again"
                if path.is_relative_to(PACKAGE)
                else "copy the bundle again",
            ) from error

    def _places(self) -> list[_Place]:
        return [
            _Place(source, remote)
            for source in self.file.sources
            for remote in remotes_of(source, base=self.base, insecure=self.insecure)
        ]

    def _is_allowed(self, place: _Place) -> bool:
        """Return whether a place may be asked: never over the network in the clear."""
        try:
            check_url(place.remote)
        except TransferError as error:
            self.failures.append((place.remote.label, error))
            return False
        return True

    def _through_client(self, place: _Place) -> Download:
        before = self.progress.received
        match place.source:
            case HuggingFaceSource() as source:
                path = huggingface.fetch(source, progress=self.progress)
                found = sha256_of(path)
                if huggingface.is_damaged(path, found):
                    self.progress.say(f"{path.name} in the cache is damaged; it is fetched again")
                    path = huggingface.fetch(source, progress=self.progress, again=True)
                    found = sha256_of(path)
            case ModelScopeSource() as source:
                path = modelscope.fetch(
                    source,
                    sha256=self.file.sha256,
                    size=self.file.size,
                    progress=self.progress,
                )
                found = sha256_of(path)
            case _:
                raise AssertionError(f"{place.source.kind} has no client")
        received = self.progress.received - before
        label = place.remote.label
        return checked(path, self.file, label, received=received, sha256=found)

    def _plain(self, remotes: Sequence[Remote]) -> Download:
        try:
            found = self.store.fetch(
                remotes,
                self.file.name,
                sha256=self.file.sha256,
                size=self.file.size,
                progress=self.progress,
                offline=False,
            )
        except WrongContentError as error:
            refuse_superseded(self.file, error.found)
            raise
        refuse_another(self.file, found.sha256)
        return found

    def _attempt(self, label: str, way: Callable[[_T], Download], what: _T) -> Download | None:
        """Return what a way delivers, or note why it does not."""
        try:
            return way(what)
        except TransferError as error:
            self.failures.append((label, error))
            if label and (len(self.file.sources) > 1 or not isinstance(error, RefusedError)):
                self.progress.say(f"{label}: {error.message}")
            return None

    def _nowhere(self) -> TransferError:
        """Return the error that tells what each place answered."""
        if not self.failures:
            return TransferError(
                f"{self.file.name} has no source on the network, and is not on this machine"
            )
        if len(self.failures) == 1:
            return self.failures[0][1]
        reasons = [f"{label}: {e.message}" if label else e.message for label, e in self.failures]
        hints = dict.fromkeys(e.hint for _, e in self.failures if e.hint)
        return TransferError(
            f"{self.file.name} could not be fetched\n" + "\n".join(f"  {one}" for one in reasons),
            hint="; ".join(hints) or None,
        )


def _command(source: Source) -> str | None:
    """Return what fetches the file of a hub; None where its address says enough."""
    if not isinstance(source, HuggingFaceSource | ModelScopeSource):
        return None
    scheme, newest = ("hf", "main") if isinstance(source, HuggingFaceSource) else ("ms", "master")
    revision = "" if source.revision == newest else f"@{source.revision}"
    return f"zoo pull {scheme}://{source.repo}{revision}/{source.path}"


def _quickest_first(places: list[_Place]) -> list[_Place]:
    order = [remote.url for remote in by_latency([place.remote for place in places])]
    return sorted(places, key=lambda place: order.index(place.remote.url))


def _cached(source: Source) -> Path | None:
    match source:
        case HuggingFaceSource():
            return huggingface.cached(source) if huggingface.has_client(source) else None
        case ModelScopeSource():
            return modelscope.cached(source) if modelscope.has_client() else None
    return None
