"""Marks on the fields of sections: what is usual, where a key writes, what it needs to count.

A mark stands in the annotation of a field (`Annotated[int, Usual(high=64)]`) and changes nothing
about what the schema accepts; the rules of `schemas.rules.marked` read it. So a new key brings
its limits along, and no rule has to be written for it.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Usual:
    """Within these bounds are the numbers of inputs that train; others are warned of.

    For a list they are bounds of its items. Zero and null, where the schema allows them, have a
    meaning of their own and are not compared.

    Args:
        low: The smallest usual number.
        high: The largest usual number.
        why: What happens outside, as the end of a sentence.
        entries: The largest usual number of items of a list.
        zero: What zero (of a list: no items) means, if it is worth a warning.
        limit: Numbers above this are no warning but an error: no computer gets there.
    """

    low: float | None = None
    high: float | None = None
    why: str | None = None
    entries: int | None = None
    zero: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class WrittenTo:
    """The value is a path to which a run writes, unless the key needs another that is off.

    Args:
        kind: `file`: it is opened in a folder that must exist; `statistics`: an HDF5 file or a
            folder, in a folder that is made; `prefix`: the beginning of file names, in a folder
            that is made; `folder`: a folder that is made; `new folder`: one that is meant to be.
    """

    kind: Literal["file", "statistics", "prefix", "folder", "new folder"]


@dataclass(frozen=True, slots=True)
class Needs:
    """The key has an effect only if one of these other keys of its section is on.

    On is what is neither false, zero, null nor empty.
    """

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)
