"""Nearest key, nearest value: what the user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """Return the choice most like a word, or None if none is like it.

    Case and the difference between `-` and `_` count little; a choice that the word contains (or
    that contains it) counts as alike.
    """
    if not isinstance(word, str) or not word:
        return None
    options = {_plain(choice): choice for choice in reversed(list(choices))}
    plain = _plain(word)
    if plain in options:
        return options[plain]
    close = difflib.get_close_matches(plain, options, n=1, cutoff=0.66)
    if close:
        return options[close[0]]
    within = [key for key in options if len(plain) > 2 and (plain in key or key in plain)]
    return options[min(within, key=lambda key: abs(len(key) - len(plain)))] if within else None


def is_sure(word: object, choices: Iterable[str]) -> bool:
    """Return whether only one choice is like a word, so that it must be the one meant."""
    if not isinstance(word, str) or len(word) < 3:
        return False
    options = {_plain(choice) for choice in choices}
    plain = _plain(word)
    return plain in options or len(difflib.get_close_matches(plain, options, n=2, cutoff=0.8)) == 1


def did_you_mean(word: object, choices: Iterable[str]) -> str | None:
    """Return the hint "did you mean ...?", or the list of choices if none is near."""
    options = list(choices)
    best = nearest(word, options)
    if best is not None:
        return f"did you mean `{best}`?"
    return f"one of {', '.join(f'`{option}`' for option in options)}" if options else None


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_")
