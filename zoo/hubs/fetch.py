"""Fetching a model's file from whichever place has it: the right bytes, or what each answered."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2

from schemas.base import environment
from schemas.base.errors import RegistryError, TransferError
from schemas.base.writing import file_sha256
from schemas.registry import (
    AisSquareSource,
    BundledSource,
    FileSource,
    HttpsSource,
    HuggingFaceSource,
    ModelFile,
    ModelScopeSource,
    Source,
)
from zoo.cache import Store
from zoo.hubs.clients import Client, client_of, huggingface_headers
from zoo.known_models import Located
from zoo.local_copies import beside, place_of, wrong_content
from zoo.registry import replaced
from zoo.transfer.client import check_url, new_client, open_reply
from zoo.transfer.remote import (
    Counted,
    Download,
    Progress,
    RefusedError,
    Remote,
    UnreachableError,
    WrongContentError,
    shown,
)
from zoo.transfer.sources import by_latency

_SECONDS = 10.0


def remotes_of(place: Located) -> list[tuple[Source, Remote]]:
    """Return the sources of a file on the network with their addresses; none for files on disk.

    The user's Hugging Face token goes with the address of Hugging Face, or of the `HF_ENDPOINT`
    that the user chose, and with no other: never with that of a mirror which a registry names.

    Raises:
        RegistryError: When a source is relative to a registry that has no place.
    """
    found: list[tuple[Source, Remote]] = []
    for source in place.file.sources:
        url, headers = _address(source, place.base)
        if url is not None:
            # host and port, without a name and a password
            host = urlsplit(url).netloc.rpartition("@")[2]
            label = "AIS Square" if isinstance(source, AisSquareSource) else host
            found.append((source, Remote(url, label, headers, place.insecure)))
    return found


def _address(source: Source, base: str | Path | None) -> tuple[str | None, dict[str, str]]:
    match source:
        case BundledSource():
            return None, {}
        case FileSource():
            if base is None:
                raise RegistryError(
                    f"the file {source.path} is said to lie beside its registry, which has no place"
                )
            return None if isinstance(base, Path) else beside(base, source.path), {}
        case HuggingFaceSource():
            from huggingface_hub import constants, hf_hub_url

            endpoint = (source.endpoint or constants.ENDPOINT).rstrip("/")
            url = hf_hub_url(source.repo, source.path, revision=source.revision, endpoint=endpoint)
            return url, huggingface_headers() if endpoint == constants.ENDPOINT else {}
        case ModelScopeSource():
            path = f"{source.repo}/resolve/{quote(source.revision, safe='')}/{quote(source.path)}"
            return f"{environment.modelscope_endpoint()}/models/{path}", {}
        case AisSquareSource() | HttpsSource():
            return source.url, {}


def fetch_file(
    place: Located, store: Store, *, progress: Progress | None = None, offline: bool = False
) -> Download:
    """Return a file of a registry: from a cache if it is there, else from its fastest source.

    What comes through a hub's own client stays in that client's cache; everything else is kept in
    `store`. Places on the network are tried in the order of their measured latency. Plain addresses
    are one set: where one fails half way, the next goes on with the rest. A hub's client that fails
    is followed by the plain address of the same file, from which a download can be resumed.

    Args:
        place: The file, which is not one that `zoo.local_copies.shipped_file` finds.
        store: Where downloads are kept.
        progress: Who watches.
        offline: Use only what is on this machine.

    Raises:
        TransferError: When no place has it; says what each of them answered.
    """
    search = _Search(place, store, Counted(progress))
    found = search.in_caches(offline=offline)
    if found is not None:
        return found
    return search.in_store_only() if offline else search.over_the_network()


@dataclass
class _Search:
    """The way to one file; `failures` are what places answered, in order."""

    place: Located
    store: Store
    progress: Counted
    failures: list[tuple[str, TransferError]] = field(default_factory=list)

    @property
    def file(self) -> ModelFile:
        """The file's name, hash and sources."""
        return self.place.file

    def in_caches(self, *, offline: bool) -> Download | None:
        """Return the file if it is in a cache.

        Without a hash only the network can tell whether what a cache has is still the file of that
        name; then a cache is asked only if there is no network.
        """
        if self.file.sha256 is not None:
            kept = self.store.find(self.file.sha256, self.file.name)
            if kept is not None:
                return Download.here(kept, self.file.sha256)
        elif not offline:
            return None
        for source in self.file.sources:
            copy = place_of(source, None) if client_of(source) else None
            if copy is not None and copy.is_file():
                try:
                    return self._checked(copy, "this machine")
                except RefusedError:
                    continue  # damaged, or another revision: it is fetched again
        return None

    def in_store_only(self) -> Download:
        """Return a file that was trusted on its first use.

        Raises:
            TransferError: When it is not here; says what would fetch it.
        """
        return self._from_store([remote for _, remote in remotes_of(self.place)], offline=True)

    def over_the_network(self) -> Download:
        """Return the file from the first place that delivers it.

        Raises:
            TransferError: When none does.
        """
        found = [pair for pair in remotes_of(self.place) if self._is_allowed(pair[1])]
        clients = {remote.url: client_of(source) for source, remote in found}
        remotes = [remote for _, remote in found]
        if self.file.sha256 is None and not any(clients.values()):
            kept = self.store.trusted(remotes, self.file.name)
            if kept is not None:
                return kept
        try:
            rest = by_latency(remotes)
        except UnreachableError as error:
            return self._without_network(error)
        plain: list[Remote] = []
        while rest and (client := clients[rest[0].url]) is not None:
            remote = rest.pop(0)
            # A client may try for half a minute before it gives up, and says nothing meanwhile.
            self.progress.say(f"asking {remote.label}")
            try:
                return self._through_client(client, remote)
            except TransferError as error:
                self._failed(remote.label, error)
                if not isinstance(error, RefusedError):
                    plain.append(remote)
        # Hubs whose client failed come last: their plain addresses may still serve what is missing.
        if rest or plain:
            try:
                return self._plain([*rest, *plain])
            except TransferError as error:
                self._failed("", error)
        raise self._nowhere()

    def _without_network(self, error: UnreachableError) -> Download:
        """Return what a cache has, right as far as anybody can tell here.

        Raises:
            TransferError: When there is nothing.
        """
        self.failures.append(("", error))
        found = self.in_caches(offline=True)
        if found is None:
            raise self._nowhere() from error
        self.progress.say(f"{error.message}; {self.file.name} of the cache is used")
        return found

    def _is_allowed(self, remote: Remote) -> bool:
        """Return whether a place may be asked: never over the network in the clear."""
        try:
            check_url(remote)
        except TransferError as error:
            self.failures.append((remote.label, error))
            return False
        return True

    def _through_client(self, client: Client, remote: Remote) -> Download:
        before = self.progress.received
        path = client(self.file, self.progress)
        return self._checked(path, remote.label, self.progress.received - before)

    def _plain(self, remotes: Sequence[Remote]) -> Download:
        try:
            found = self._from_store(remotes, offline=False)
        except WrongContentError as error:
            if replaced(self.file, error.found) is not None:
                self._refuse(error.found)
            raise
        self._refuse(found.sha256)
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
        self._refuse(sha256)
        return Download(path, sha256, path.stat().st_size, received=received, source=source)

    def _refuse(self, sha256: str) -> None:
        fault = wrong_content(self.file, sha256)
        if fault is not None:
            raise RefusedError(f"it has another {self.file.name}: {fault}")

    def _failed(self, label: str, error: TransferError) -> None:
        """Note why a place does not deliver."""
        self.failures.append((label, error))
        if label and (len(self.file.sources) > 1 or not isinstance(error, RefusedError)):
            self.progress.say(f"{label}: {error.message}")

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


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source says about a file.

    Args:
        label: What messages call the source.
        url: Its address, without what may be secret.
        size: Bytes; None where it does not say, or does not have the file.
        problem: Why it cannot be used; None when it can.
        in_pieces: Whether parts of the file can be asked for, as one branch needs.
    """

    label: str
    url: str
    size: int | None = None
    problem: str | None = None
    in_pieces: bool = False


def offers(place: Located) -> list[Offer]:
    """Ask every source of a file for its size, all at the same time; nothing is fetched."""
    remotes = [remote for _, remote in remotes_of(place)]
    with ThreadPoolExecutor(max(1, len(remotes))) as threads:
        return list(threads.map(_ask, remotes))


def _ask(remote: Remote) -> Offer:
    url = shown(remote.url)
    try:
        with new_client(_SECONDS) as client, open_reply(client, "HEAD", remote) as reply:
            if reply.status_code != httpx2.codes.OK:
                return Offer(remote.label, url, problem=f"answered {reply.status_code}")
            if reply.headers.get("Content-Type", "").startswith("text/html"):
                return Offer(remote.label, url, problem="a web page, not the file")
            length = reply.headers.get("Content-Length", "")
            return Offer(
                remote.label,
                url,
                size=int(length) if length.isdigit() else None,
                in_pieces=reply.headers.get("Accept-Ranges", "") == "bytes",
            )
    except httpx2.HTTPError as error:
        return Offer(remote.label, url, problem=str(error) or type(error).__name__)
    except TransferError as error:
        return Offer(remote.label, url, problem=error.message)
