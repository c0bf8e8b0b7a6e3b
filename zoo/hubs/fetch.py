"""Fetching a model's file from whichever place has it: the right bytes, or what each answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
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
from zoo.local_copies import place_of
from zoo.registry import PACKAGE, replaced
from zoo.transfer.client import check_url
from zoo.transfer.remote import (
    Counted,
    Download,
    Progress,
    RefusedError,
    Remote,
    UnreachableError,
    WrongContentError,
)
from zoo.transfer.sources import by_latency

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
    search = _Search(file, base, store, Counted(progress), insecure)
    found = search.on_this_machine(offline=offline)
    if found is not None:
        return found
    return search.in_store_only() if offline else search.over_the_network()


@dataclass(frozen=True, slots=True)
class _Place:
    """A source on the network, its address, and the module of the hub's own client, if any."""

    source: Source
    remote: Remote
    client: ModuleType | None


@dataclass
class _Search:
    """The way to one file; `failures` are what places answered, in order."""

    file: ModelFile
    base: str | Path | None
    store: Store
    progress: Counted
    insecure: bool
    failures: list[tuple[str, TransferError]] = field(default_factory=list)

    def on_this_machine(self, *, offline: bool) -> Download | None:
        """Return the file if it comes with the program, lies beside its registry or is cached.

        Without a hash only the network can tell whether what a cache has is still the file of that
        name; then a cache is asked only if there is no network.
        """
        for source in self.file.sources:
            path = place_of(source, self.base)
            if path is not None and isinstance(source, BundledSource | FileSource):
                return self._beside_registry(path)
        if self.file.sha256 is not None:
            kept = self.store.find(self.file.sha256, self.file.name)
            if kept is not None:
                return Download.here(kept, self.file.sha256)
        elif not offline:
            return None
        for source in self.file.sources:
            copy = place_of(source, self.base) if _client(source) else None
            if copy is not None and copy.is_file():
                try:
                    return self._checked(copy, _HERE)
                except RefusedError:
                    continue  # damaged, or another revision: it is fetched again
        return None

    def in_store_only(self) -> Download:
        """Return a file that was trusted on its first use.

        Raises:
            TransferError: When it is not here; says what would fetch it.
        """
        return self._from_store([place.remote for place in self._places()], offline=True)

    def over_the_network(self) -> Download:
        """Return the file from the first place that delivers it.

        Raises:
            TransferError: When none does.
        """
        places = [place for place in self._places() if self._is_allowed(place.remote)]
        if self.file.sha256 is None and not any(place.client for place in places):
            kept = self.store.trusted([place.remote for place in places], self.file.name)
            if kept is not None:
                return kept
        try:
            order = [remote.url for remote in by_latency([place.remote for place in places])]
        except UnreachableError as error:
            return self._without_network(error)
        rest = sorted(places, key=lambda place: order.index(place.remote.url))
        plain: list[Remote] = []
        while rest and rest[0].client is not None:
            place, *rest = rest
            # A client may try for half a minute before it gives up, and says nothing meanwhile.
            self.progress.say(f"asking {place.remote.label}")
            found = self._attempt(place.remote.label, self._through_client, place)
            if found is not None:
                return found
            if not isinstance(self.failures[-1][1], RefusedError):
                plain.append(place.remote)
        # Hubs whose client failed come last: their plain addresses may still serve what is missing.
        remotes = [*(place.remote for place in rest), *plain]
        found = self._attempt("", self._plain, remotes) if remotes else None
        if found is None:
            raise self._nowhere()
        return found

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

    def _beside_registry(self, path: Path) -> Download:
        try:
            return self._checked(path, _HERE)
        except RefusedError as error:
            raise RegistryError(
                f"{path} is not the file that its registry names: {error.message}",
                hint="install dpa-zoo again"
                if path.is_relative_to(PACKAGE)
                else "copy the bundle again",
            ) from error

    def _places(self) -> list[_Place]:
        found = remotes_of(self.file, base=self.base, insecure=self.insecure)
        return [_Place(source, remote, _client(source)) for source, remote in found]

    def _is_allowed(self, remote: Remote) -> bool:
        """Return whether a place may be asked: never over the network in the clear."""
        try:
            check_url(remote)
        except TransferError as error:
            self.failures.append((remote.label, error))
            return False
        return True

    def _through_client(self, place: _Place) -> Download:
        assert place.client is not None
        before = self.progress.received
        path = place.client.fetch(place.source, self.file, progress=self.progress)
        return self._checked(path, place.remote.label, self.progress.received - before)

    def _plain(self, remotes: Sequence[Remote]) -> Download:
        try:
            found = self._from_store(remotes, offline=False)
        except WrongContentError as error:
            self._refuse_replaced(error.found)
            raise
        self._refuse_replaced(found.sha256)
        return found

    def _from_store(self, remotes: Sequence[Remote], *, offline: bool) -> Download:
        return self.store.fetch(
            remotes,
            self.file.name,
            sha256=self.file.sha256,
            size=self.file.size,
            progress=self.progress,
            offline=offline,
            command=_command(self.file.sources[0]),
        )

    def _checked(self, path: Path, source: str, received: int = 0) -> Download:
        """Return what is known of a file whose content is right.

        Raises:
            RefusedError: When it is another file; says so if it is one that was replaced.
        """
        try:
            sha256 = file_sha256(path)
        except OSError as error:
            raise RefusedError(f"{path} cannot be read: {error.strerror or error}") from error
        self._refuse_replaced(sha256)
        if self.file.sha256 not in (None, sha256):
            raise RefusedError(
                f"it has another {self.file.name}: SHA-256 {sha256}, {self.file.sha256} expected"
            )
        return Download(path, sha256, path.stat().st_size, received=received, source=source)

    def _refuse_replaced(self, sha256: str) -> None:
        reason = replaced(self.file, sha256)
        if reason is not None:
            raise RefusedError(f"it has a {self.file.name} that was replaced: {reason} ({sha256})")

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


def _client(source: Source) -> ModuleType | None:
    """Return the module of the hub's own client, where it asks for the file.

    Not for a mirror that the registry names: the client would send the user's token there, and
    cannot go on with a file half way.
    """
    if isinstance(source, HuggingFaceSource) and source.endpoint is None:
        return huggingface
    if isinstance(source, ModelScopeSource) and modelscope.has_client():
        return modelscope
    return None


def _command(source: Source) -> str | None:
    """Return what fetches the file of a hub; None where its address says enough."""
    if not isinstance(source, HuggingFaceSource | ModelScopeSource):
        return None
    scheme, newest = ("hf", "main") if isinstance(source, HuggingFaceSource) else ("ms", "master")
    revision = "" if source.revision == newest else f"@{source.revision}"
    return f"zoo pull {scheme}://{source.repo}{revision}/{source.path}"
