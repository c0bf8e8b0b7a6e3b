"""Layouts of DPA-2 inputs before 3.0, and what became of their keys."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from schemas.descriptor import Repformer, Repinit
from schemas.diagnostics import Move, Path, Rewrite
from schemas.section import Section

WITHOUT_EFFECT = {
    "load_ckpt": "training goes on with --restart",
    "set_prefix": "sets are called set.*",
    "coord_norm": "it is of version 0",
}
"""Keys of old and of generated inputs that deepmd-kit once accepted and does not any more."""

_ALWAYS = "rcut"
"""A key that every block has: where it is flat, the file is of that time and no mixture."""
_BLOCKS: dict[str, type[Section]] = {"repinit": Repinit, "repformer": Repformer}
_RENAMED = {"axis_dim": "axis_neuron", "activation": "activation_function", "sel": "nsel"}
_GONE: dict[str, tuple[str, ...] | None] = {"do_bn_mode": ("no",), "bn_momentum": None}
"""Keys of a batch normalisation that is gone, and which of their values ask for none of it."""
FORMER_DEFAULTS = {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
"""What repformer did before 3.0.0b4 where it has a key today; all other defaults are the same."""


def is_flat(name: str, path: Path) -> bool:
    """Return whether an unknown key is one of the flat layout: `repinit_rcut`."""
    return name.startswith(("repinit_", "repformer_")) and "descriptor" in path[:-1]


def nested_layout(section: Mapping[str, Any], path: Path) -> Move | None:
    """Return the change that puts `repinit_*` and `repformer_*` keys into their blocks.

    The network stays the one it was: what repformer did then and does not do unasked today is
    written out, and a layout that asks for batch normalisation, which is gone, has no such change.

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
            if _asks_for_more(name, section[written]):
                return None
            drop.append((*path, written))
            continue
        name = _RENAMED.get(name, name)
        present = section.get(block)
        if name in fields_of(block) and not (isinstance(present, dict) and name in present):
            pairs.append(((*path, written), (*path, block, name)))
    if not pairs and not drop:
        return None
    add: tuple[tuple[Path, bool], ...] = ()
    is_of_then = "repformer" not in section and f"repformer_{_ALWAYS}" in section
    if is_of_then:
        missing = FORMER_DEFAULTS.keys() - {new[-1] for _, new in pairs}
        add = tuple(
            ((*path, "repformer", name), value)
            for name, value in FORMER_DEFAULTS.items()
            if name in missing
        )
    return Move(tuple(pairs), tuple(drop), add)


def _asks_for_more(name: str, value: Any) -> bool:
    """Return whether a key asks for something that repformer does not do any more."""
    harmless = _GONE.get(name)
    return harmless is not None and value not in harmless


def hybrid_layout(section: Mapping[str, Any]) -> Rewrite | None:
    """Return the present layout of a hybrid of `se_atten` and `se_uni`, which DPA-2 once was.

    Args:
        section: The descriptor; None is returned unless it is such a hybrid without attention.
    """
    parts = section.get("list")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    if [part.get("type") for part in parts] not in (["se_atten", "se_uni"], ["dpa1", "se_uni"]):
        return None
    first, second = parts
    if first.get("attn_layer", 2) != 0:
        return None  # repinit has no attention
    if any(_asks_for_more(name, value) for name, value in second.items()):
        return None
    document = {
        "type": "dpa2",
        "repinit": _block("repinit", first),
        "repformer": {**FORMER_DEFAULTS, **_block("repformer", second)},
    }
    for name in ("smooth", "seed", "precision"):
        if name in second or name in first:
            document[name] = second.get(name, first.get(name))
    if "add_type_ebd_to_seq" in second:
        document["add_tebd_to_repinit_out"] = second["add_type_ebd_to_seq"]
    return Rewrite(json.dumps(document, ensure_ascii=False))


def _block(block: str, section: Mapping[str, Any]) -> dict[str, Any]:
    named = {_RENAMED.get(name, name): value for name, value in section.items()}
    return {name: value for name, value in named.items() if name in fields_of(block)}


@cache
def fields_of(block: str) -> frozenset[str]:
    """Return the keys of `repinit` or `repformer`."""
    return frozenset(_BLOCKS[block].model_fields)
