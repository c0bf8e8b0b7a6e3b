"""Where a run done now would differ from the one that was locked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schemas.lock import Lock

_ABSENT = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was.

    Attributes:
        what: Part of the lock: `input`, `data`, `model` or `made_with`.
        where: Place within it.
        locked: What the lock says.
        found: What is there now.
        weight: `error`: another run; `warning`: the same run, whose last digits may differ.
    """

    what: str
    where: str
    locked: str
    found: str
    weight: Literal["error", "warning"]

    def document(self) -> dict[str, str]:
        """Return it for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def differences(locked: Lock, now: Lock) -> list[Difference]:
    """Compare a lock with what is there now."""
    found = []
    if locked.input.sha256 != now.input.sha256:
        found += [
            Difference("input", place, old, new, "error")
            for place, old, new in _changes(locked.input.content, now.input.content)
        ]
    found += _data(locked, now)
    if locked.model != now.model:
        old = locked.model.sha256 if locked.model else _ABSENT
        new = now.model.sha256 if now.model else _ABSENT
        where = (locked.model or now.model or locked.input).model_dump().get("reference", "")
        found.append(Difference("model", where, old, new, "error"))
    for name in sorted(locked.made_with.keys() | now.made_with.keys()):
        old, new = locked.made_with.get(name, _ABSENT), now.made_with.get(name, _ABSENT)
        if old != new:
            found.append(Difference("made_with", name, old, new, "warning"))
    return found


def _data(locked: Lock, now: Lock) -> Iterator[Difference]:
    old = {(item.section, item.path): item for item in locked.data}
    new = {(item.section, item.path): item for item in now.data}
    for key in sorted(old.keys() & new.keys()):
        if old[key] != new[key]:
            where = " ".join(key)
            then, here = (
                f"{item.frames} frames, {item.sha256[:12]}" for item in (old[key], new[key])
            )
            yield Difference("data", where, then, here, "error")
    # entries that only one of both has are differences of the input already


def _changes(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the JSON path and both values of everything that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            path = f"{place}.{key}" if place else str(key)
            yield from _changes(old.get(key), new.get(key), path)
    elif old != new:
        yield place, repr(old), repr(new)
