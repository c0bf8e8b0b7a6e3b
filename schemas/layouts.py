"""Layouts of DPA-2 inputs before 3.0, and what became of their keys."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from schemas.descriptor import Repformer, Repinit
from schemas.diagnostics import Move, Path
from schemas.section import Section

WITHOUT_EFFECT = {
    "load_ckpt": "training goes on with --restart",
    "set_prefix": "sets are called set.*",
    "coord_norm": "it is of version 0",
}
"""Keys of old and of generated inputs that deepmd-kit once accepted and does not any more."""

_BLOCKS: dict[str, type[Section]] = {"repinit": Repinit, "repformer": Repformer}
_RENAMED = {"axis_dim": "axis_neuron", "activation": "activation_function", "sel": "nsel"}
_GONE = frozenset({"do_bn_mode", "bn_momentum"})


def is_flat(name: str, path: Path) -> bool:
    """Return whether an unknown key is one of the flat layout: `repinit_rcut`."""
    return name.startswith(("repinit_", "repformer_")) and "descriptor" in path[:-1]


def nested_layout(section: Mapping[str, Any], path: Path) -> Move | None:
    """Return the change that puts `repinit_*` and `repformer_*` keys into their blocks.

    Args:
        section: The descriptor.
        path: Where it is.
    """
    pairs: list[tuple[Path, Path]] = []
    drop: list[Path] = []
    for written in section:
        block, underscore, name = written.partition("_")
        if not underscore or block not in _BLOCKS:
            continue
        if name in _GONE:
            drop.append((*path, written))
            continue
        name = _RENAMED.get(name, name)
        present = section.get(block)
        if name in fields_of(block) and not (isinstance(present, dict) and name in present):
            pairs.append(((*path, written), (*path, block, name)))
    return Move(tuple(pairs), tuple(drop)) if pairs or drop else None


@cache
def fields_of(block: str) -> frozenset[str]:
    """Return the keys of `repinit` or `repformer`."""
    return frozenset(_BLOCKS[block].model_fields)
