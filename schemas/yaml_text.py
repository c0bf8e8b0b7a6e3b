"""YAML of other people: plain values only, no larger than what is written."""

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_REPEATED = 100_000


class RepeatedError(yaml.YAMLError):
    """References (`*name`) that stand for far more than is written, or for what they are in."""


def load_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text; Python objects in it are not understood.

    Raises:
        yaml.YAMLError: The text is damaged, asks for an object, or stands for far more than itself.
        RecursionError: It is nested too deeply.
    """
    check_references(text)
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the C twin of SafeLoader


def check_references(text: str | bytes) -> None:
    """Refuse a text whose references multiply it, before anything is built of it.

    A few hundred bytes, each line of which names the one before ten times, stand for billions of
    values. References may add as many values as are written, and 100,000 at least.

    Raises:
        yaml.YAMLError: As `load_yaml`.
    """
    if (b"&" if isinstance(text, bytes) else "&") not in text:  # type: ignore[operator]
        return
    sizes: dict[str | None, int | None] = {}
    open_parts: list[tuple[str | None, int]] = []
    written = total = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise RepeatedError(f"`*{event.anchor}` is within what it stands for: endless")
            total += size
            if total > written + _MOST_REPEATED:
                raise RepeatedError("the references in the text stand for far more than the text")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, total))
            if event.anchor is not None:
                sizes[event.anchor] = None
            written, total = written + 1, total + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_parts.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            written, total = written + 1, total + 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
