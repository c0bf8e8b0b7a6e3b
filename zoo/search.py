"""Models that fit words: ranked by where the words were found."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.registry import RegisteredModel
from zoo.known_models import KnownModel

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
