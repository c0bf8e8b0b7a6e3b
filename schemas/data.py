"""Data sections: which systems, how large a batch, how likely each system."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, NonNegativeFloat, PositiveInt, Tag
from pydantic_core import PydanticCustomError

from schemas.marks import Usual
from schemas.network import list_or_single
from schemas.section import Alias, Section

BATCH_RULES = ("auto", "max", "filter", "mixed", "mix")
_BATCH_SIZE = re.compile(r"auto|(auto|max|filter|mixed|mix):[1-9]\d*")

PROBABILITY_STYLES = ("prob_sys_size", "prob_uniform")
_BLOCK = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*:\s*(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*")


def _known_batch_rule(text: str) -> str:
    if _BATCH_SIZE.fullmatch(text):
        return text
    name, colon, number = text.partition(":")
    if colon and name in BATCH_RULES:
        message = "`{value}`: after `{rule}:` comes a whole number of atoms, not `{number}`"
        raise PydanticCustomError(
            "form",
            message,
            {"value": text, "rule": name, "number": number, "hint": f'write "{name}:32"'},
        )
    raise PydanticCustomError(
        "choice",
        "unknown batch size `{value}`",
        {"value": text, "choices": ["auto", "auto:N", "max:N", "filter:N", "mixed:N"]},
    )


def parse_blocks(style: str) -> list[tuple[int, int, float]]:
    """Return the blocks (first system, one past the last, weight) of `prob_sys_size;i:j:w;…`.

    Raises:
        ValueError: The text has another form.
    """
    blocks = []
    for part in style.split(";")[1:]:
        match = _BLOCK.fullmatch(part)
        if match is None:
            raise ValueError(part)
        blocks.append((int(match[1]), int(match[2]), float(match[3])))
    return blocks


def _known_probability(style: str) -> str:
    name, semicolon, _ = style.partition(";")
    if name not in PROBABILITY_STYLES or (semicolon and name != "prob_sys_size"):
        raise PydanticCustomError(
            "choice",
            "unknown way to weight systems `{value}`",
            {
                "value": style,
                "choices": [*PROBABILITY_STYLES, "prob_sys_size;0:2:0.4;2:5:0.6"],
            },
        )
    try:
        parse_blocks(style)
    except ValueError as error:
        raise PydanticCustomError(
            "form",
            "`{part}` is not a block of systems",
            {
                "part": str(error),
                "hint": "a block is `first:end:weight`, such as prob_sys_size;0:2:0.4;2:5:0.6",
            },
        ) from error
    return style


def _kind_of_batch_size(value: Any) -> str:
    if isinstance(value, list):
        return "list"
    return "rule" if isinstance(value, str) else "number"


BatchSize = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[Annotated[str, AfterValidator(_known_batch_rule)], Tag("rule")]
    | Annotated[list[PositiveInt], Field(min_length=1), Tag("list")],
    Discriminator(_kind_of_batch_size),
]
"""Frames of a batch: a number, one for each system, or `auto[:N]`, `max:N`, `filter:N`."""

Systems = Annotated[
    Annotated[str, Field(min_length=1), Tag("single")]
    | Annotated[list[str], Field(min_length=1), Tag("list")],
    Discriminator(list_or_single),
]


class DataSection(Section):
    """What training and validation data have in common."""

    systems: Systems
    """Folders, `file.h5#/group` or one `.lmdb`; relative to the current folder."""
    rglob_patterns: list[str] | None = None
    """Glob patterns by which systems are searched below each folder."""
    batch_size: Annotated[BatchSize, Usual(high=100_000)] = "auto"
    """Frames of a batch: a number, a list with one for each system, or
    `auto` (at least 32 atoms), `auto:N` (at least N atoms), `max:N` (at most N atoms),
    `filter:N` (as max, without larger systems)."""
    auto_prob: Annotated[
        Annotated[str, AfterValidator(_known_probability)], Alias("auto_prob_style")
    ] = "prob_sys_size"
    """How likely each system is: `prob_uniform`, `prob_sys_size` (by number of batches), or
    `prob_sys_size;i:j:w;k:l:w2` (systems i to j-1 share the weight w)."""
    sys_probs: Annotated[list[float] | None, Alias("sys_weights")] = None
    """Probability of each system; a negative entry takes its share of the rest, by size."""


class TrainingData(DataSection):
    """The data from which the model learns."""

    min_pair_dist: Annotated[
        NonNegativeFloat, Usual(high=3, why="bonded atoms are closer: their frames are left out")
    ] = 0.0
    """Frames in which two atoms are closer than this are left out, in Å."""


class ValidationData(DataSection):
    """The data on which the model is judged while it learns."""

    numb_btch: Annotated[
        PositiveInt, Alias("numb_batch"), Usual(high=1000, why="each line of errors takes as long")
    ] = 1
    """Batches over which each displayed validation error is averaged."""
