"""The models of all registries together, looked up by name and searched by words.

The user's own registries come first, in the order in which they were added; the built-in one is
last. A name means the first model that has it as a name or an alias; models whose name an earlier
registry has taken are shadowed: they are shown, and cannot be reached by that name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.base.errors import RegistryError
from schemas.base.names import did_you_mean
from schemas.registry import HuggingFaceSource, ModelFile, ModelScopeSource, RegisteredModel
from zoo.registry import (
    BUILT_IN,
    built_in_path,
    read_registry,
    read_user_registry,
    user_registries,
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, and which registry says so.

    Args:
        model: What the registry says.
        registry: The registry's name.
        base: Folder or address to which sources of the kind `file` are relative.
        insecure: Plain http to another machine is allowed for its sources.
        shadowed_by: Registry whose model is meant by this one's name; None: it is itself meant.
    """

    model: RegisteredModel
    registry: str
    base: str | Path
    insecure: bool = False
    shadowed_by: str | None = None

    @property
    def place(self) -> "Located":
        """Its file, and where that can be had."""
        return Located(self.model.file, self.base, self.insecure, self)


@dataclass(frozen=True, slots=True)
class Located:
    """A file that may have to be fetched, and where from.

    Args:
        file: Its name, hash and sources.
        base: Folder or address to which sources of the kind `file` are relative.
        insecure: Plain http to another machine is allowed.
        known: The model of a registry; None for a reference that says itself where the file is.
    """

    file: ModelFile
    base: str | Path | None = None
    insecure: bool = False
    known: KnownModel | None = None


@dataclass(frozen=True, slots=True)
class KnownModels:
    """All models, and the registries that could not be read.

    Args:
        models: In the order in which names are looked up.
        faults: Why registries of the user are left out.
    """

    models: list[KnownModel]
    faults: list[RegistryError]

    def find(self, name: str, revision: str | None = None) -> KnownModel:
        """Return the model that a name means.

        Without a registered model of that revision, the revision is one of the model's repository
        on a hub: its hash is then not known beforehand.

        Args:
            name: A name or an alias, in upper or lower case.
            revision: A registered revision, or one of the repository; None: the first model.

        Raises:
            RegistryError: When there is no such model or revision; says what is near.
        """
        wanted = name.lower()
        found = [
            known
            for known in self.models
            if wanted in (other.lower() for other in known.model.names)
        ]
        if not found:
            raise self._unknown(name)
        if revision is None:
            return found[0]
        for known in found:
            if known.model.revision == revision:
                return known
        return _of_repository(found, revision)

    def _unknown(self, name: str) -> RegistryError:
        models = [known.model for known in self.models]
        # names before aliases: of two that are equally near, the name is the better advice
        names = [model.name for model in models]
        names += [alias for model in models for alias in model.aliases]
        hint = did_you_mean(name, dict.fromkeys(names))
        if hint is None or not hint.startswith("did you mean"):
            hint = "`zoo list` shows the names; or give the path of a checkpoint"
        if self.faults:
            hint += f"; a registry of yours was left out: {self.faults[0].message}"
        return RegistryError(f"`{name}` is neither a file nor a model of the registry", hint=hint)


def known_models() -> KnownModels:
    """Return the models of all registries; one that cannot be read does not hide the others.

    Raises:
        RegistryError: When the built-in registry, or the list of the user's ones, is damaged.
    """
    found: list[KnownModel] = []
    faults: list[RegistryError] = []
    for registry in user_registries():
        try:
            content = read_user_registry(registry)
        except RegistryError as error:
            faults.append(error)
            continue
        found += [
            KnownModel(model, registry.name, registry.base, registry.insecure)
            for model in content.models
        ]
    own = read_registry()
    found += [KnownModel(model, BUILT_IN, built_in_path().parent) for model in own.models]
    return KnownModels(_shadowed(found), faults)


def _shadowed(models: list[KnownModel]) -> list[KnownModel]:
    """Return the models; those whose own name means one of an earlier registry say which."""
    owners: dict[str, str] = {}
    result = []
    for known in models:
        owner = owners.get(known.model.name.lower(), known.registry)
        result.append(known if owner == known.registry else replace(known, shadowed_by=owner))
        for name in known.model.names:
            owners.setdefault(name.lower(), known.registry)
    return result


def _of_repository(found: list[KnownModel], revision: str) -> KnownModel:
    """Return the model with its hub sources at another revision, and no hash."""
    first = found[0]
    hubs = [
        source
        for source in first.model.file.sources
        if isinstance(source, (HuggingFaceSource, ModelScopeSource))
    ]
    # Each hub has a history of its own: a commit of one means nothing to the other.
    sources = [source for source in hubs if type(source) is type(hubs[0])]
    if not sources:
        registered = [known.model.revision for known in found if known.model.revision]
        raise RegistryError(
            f"{first.model.name} has no revision `{revision}`",
            hint=did_you_mean(revision, registered) or f"write `{first.model.name}` alone",
        )
    moved = [source.model_copy(update={"revision": revision}) for source in sources]
    file = first.model.file.model_copy(update={"sources": moved, "sha256": None, "size": None})
    model = first.model.model_copy(update={"file": file, "revision": revision})
    return replace(first, model=model)


_WEIGHTS = {
    "name": 8.0,
    "alias": 8.0,
    "branch": 5.0,
    "family": 4.0,
    "element": 6.0,
    "functional": 4.0,
    "domain": 3.0,
    "code": 2.0,
    "description": 2.0,
}
"""What a word is worth where it was found."""
_WHOLE_WORD = 2.0
"""A word that stands alone counts for more than a part of one."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A model that fits.

    Args:
        known: The model.
        score: The more, the better.
        matches: Where each word was found best: (kind, text), such as `("branch", "H2O_H2O-PD")`.
    """

    known: KnownModel
    score: float
    matches: list[tuple[str, str]]


def search(models: list[KnownModel], text: str) -> list[Hit]:
    """Return the models in which every word of a text is found, the best first.

    Looked through are names, aliases, families, elements, descriptions, and the names, domains,
    functionals and codes of branches; upper and lower case, `-` and `_` are the same. Elements are
    only found as they are written: `C` is carbon, `c` a letter.
    """
    words = text.split()
    hits = [hit for known in models if (hit := _hit(known, words)) is not None]
    return sorted(hits, key=lambda hit: -hit.score)


def _hit(known: KnownModel, words: list[str]) -> Hit | None:
    fields = list(_fields(known.model))
    matches, score = [], 0.0
    for word in words:
        found = [
            (value, kind, text) for kind, text in fields if (value := _value(word, kind, text))
        ]
        if not found:
            return None
        best = max(found, key=lambda entry: entry[0])
        # more places are better, but no number of them outweighs a better place
        score += best[0] + sum(value for value, _, _ in found) / (100 + len(found))
        if best[1:] not in matches:
            matches.append(best[1:])
    return Hit(known, round(score, 6), matches) if words else None


def _fields(model: RegisteredModel) -> Iterator[tuple[str, str]]:
    yield "name", model.name
    for alias in model.aliases:
        yield "alias", alias
    yield "family", model.family
    yield "description", model.description
    for element in model.elements:
        yield "element", element
    for branch in model.branches:
        yield "branch", branch.name
        yield "domain", branch.domain
        if branch.functional:
            yield "functional", branch.functional
        if branch.code:
            yield "code", branch.code


def _value(word: str, kind: str, text: str) -> float:
    if kind == "element":
        return _WEIGHTS[kind] * _WHOLE_WORD if word == text else 0.0
    plain, within = _plain(word), _plain(text)
    if plain not in within:
        return 0.0
    parts = re.split(r"[^\w]+|_", within)
    whole = plain == within or plain in parts
    if len(plain) < 2 and not whole:
        return 0.0
    return _WEIGHTS[kind] * (_WHOLE_WORD if whole else 1.0)


def _plain(text: str) -> str:
    return text.lower().replace("-", "_")
