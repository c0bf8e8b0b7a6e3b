"""Rules about two keys of which one silently wins."""

from collections.abc import Iterator

from schemas.input import Input
from schemas.partial import class_of
from schemas.rules.data_folders import sections
from schemas.rules.rule import Fault, rule
from schemas.section import Section

_WINNERS: dict[str, tuple[str, ...]] = {"ckpt_keep_ratio": ("max_ckpt_keep", "ema_ckpt_keep")}
"""Keys of `training` that make others there count for nothing."""


@rule("ZOO360", "of two keys the one that counts is the only one")
def nothing_is_overridden(config: Input) -> Iterator[Fault]:
    """Warn of a key that another one makes count for nothing."""
    for name, section in sections(config):
        if section.sys_probs is not None and _changed(section, "auto_prob"):
            yield _loses(("training", name), "auto_prob", "sys_probs")
    if config.loss.loss_func == "mae" and config.loss.use_huber:
        yield _loses(("loss",), "use_huber", "loss_func")
    for winner, losers in _WINNERS.items():
        for loser in losers if getattr(config.training, winner) is not None else ():
            if _changed(config.training, loser):
                yield _loses(("training",), loser, winner)


def _changed(section: Section, name: str) -> bool:
    """Return whether a key is written with another value than its default."""
    kind = class_of(section)
    default = kind.model_fields[name].default if kind is not None else None
    return name in section.model_fields_set and getattr(section, name) != default


def _loses(home: tuple[str, ...], loser: str, winner: str) -> Fault:
    message = f"`{loser}` has no effect: `{winner}` is given too, and counts"
    related = (("what counts", (*home, winner)),)
    hint = "keep the one that is meant"
    return Fault((*home, loser), message, hint, severity="warning", at="key", related_paths=related)
