"""Inputs of earlier versions: keys that have moved since, and former layouts of DPA-2."""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from schemas.base.diagnostics import Finding, Group, Move, Path, Remove, Rewrite, dotted
from schemas.input.descriptor import Repformer, Repinit
from schemas.input.root import Input
from schemas.input.section import Section, aliases
from schemas.input.view import child

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
    if "repformer" not in section and f"repformer_{_ALWAYS}" in section:
        given = {new[-1] for _, new in pairs}
        defaults = [(key, value) for key, value in FORMER_DEFAULTS.items() if key not in given]
        add = tuple(((*path, "repformer", key), value) for key, value in defaults)
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


_WARMUP = ("warmup_steps", "warmup_ratio", "warmup_start_factor")
_OPTIMIZER = (
    *("opt_type", "kf_blocksize", "kf_start_pref_e", "kf_limit_pref_e", "kf_start_pref_f"),
    *("kf_limit_pref_f", "weight_decay", "momentum", "muon_momentum", "adam_beta1", "adam_beta2"),
    *("lr_adjust", "lr_adjust_coeff", "muon_2d_only", "min_2d_dim"),
)
_DATA = (
    *("systems", "set_prefix", "batch_size", "sys_probs", "sys_weights", "auto_prob"),
    "auto_prob_style",
)


class Migration:
    """Rewrites the data of an input in place and keeps account of what it moved.

    `moved` maps each new path to the one in the file; `findings` are its warnings.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.moved: dict[Path, Path] = {}
        self.findings: list[Finding] = []

    def run(self) -> None:
        """Apply every migration, in deepmd-kit's order."""
        self.findings += _other_names(Input, self.data, ())
        training = self.data.get("training")
        if not isinstance(training, dict):
            return
        self._version_1_data(training)
        self._without_effect(training)
        self._warmup(training)
        self._optimizer(training)

    def _version_1_data(self, training: dict[str, Any]) -> None:
        """`training.systems` of version 1 becomes `training.training_data.systems`."""
        section: Path = ("training", "training_data")
        if "systems" not in training:
            return
        if "training_data" in training:
            self._refuse(training, "systems", section)
            return
        training["training_data"] = {}
        self.moved[section] = ("training", "systems")
        self._move(training, section, {key: key for key in _DATA if key in training})
        self._decay_rate(training)

    def _decay_rate(self, training: dict[str, Any]) -> None:
        """Version 1 inputs have their decay rate turned into a last learning rate."""
        schedule = self.data.get("learning_rate")
        if not isinstance(schedule, dict) or "decay_rate" not in schedule:
            return
        keys = ("decay_rate", "start_lr", "decay_steps")
        numbers: list[Any] = [*map(schedule.get, keys), training.get("stop_batch")]
        if all(isinstance(x, (int, float)) and x > 0 for x in numbers):
            rate, start, decay, steps = numbers
            del schedule["decay_rate"]
            schedule["stop_lr"] = math.exp(math.log(rate) * (steps / decay)) * start
            self.moved[("learning_rate", "stop_lr")] = ("learning_rate", "decay_rate")

    def _without_effect(self, training: dict[str, Any]) -> None:
        if "numb_test" in training:
            del training["numb_test"]
            self._ignored(("training", "numb_test"), "use `validation_data.batch_size`")
        for name in ("training_data", "validation_data"):
            section = training.get(name)
            if isinstance(section, dict) and "set_prefix" in section:
                del section["set_prefix"]
                path = ("training", name, "set_prefix")
                if path not in self.moved:  # else it goes with the rest of version 1
                    self._ignored(path, WITHOUT_EFFECT["set_prefix"])

    def _ignored(self, path: Path, hint: str) -> None:
        message = f"`{path[-1]}` has had no effect since version 2"
        hint = f"remove it; {hint}"
        item = Finding("ZOO111", path, message, hint, severity="warning", at="key", fix=Remove())
        self.findings.append(item)

    def _warmup(self, training: dict[str, Any]) -> None:
        schedule = self.data.get("learning_rate")
        for key in [key for key in _WARMUP if key in training]:
            if not isinstance(schedule, dict):
                del training[key]
            elif key in schedule:
                self._refuse(training, key, ("learning_rate", key))
        present = {key: key for key in _WARMUP if key in training}
        if present:
            self._move(training, ("learning_rate",), present)

    def _optimizer(self, training: dict[str, Any]) -> None:
        names = {key: "type" if key == "opt_type" else key for key in _OPTIMIZER if key in training}
        optimizer = self.data.get("optimizer", {})
        if not names or not isinstance(optimizer, dict):
            return
        self.data["optimizer"] = dict(optimizer)
        for key, name in names.items():
            if optimizer.get(name, training[key]) != training[key]:
                self._refuse(training, key, ("optimizer", name), is_other=True)
        self._move(training, ("optimizer",), {k: v for k, v in names.items() if k in training})

    def _move(self, training: dict[str, Any], section: Path, names: Mapping[str, str]) -> None:
        """Move keys of `training`, by their names there, into another section."""
        dropped = tuple(("training", key) for key in names if key == "set_prefix")
        pairs = tuple(
            (("training", key), (*section, name))
            for key, name in names.items()
            if ("training", key) not in dropped
        )
        target: Any = self.data
        for part in section:
            target = target[part]
        for key, name in names.items():
            target[name] = training.pop(key)
            self.moved[(*section, name)] = ("training", key)
            self.findings.append(
                Finding(
                    "ZOO110",
                    ("training", key),
                    f"`training.{key}` is the place of an earlier version",
                    f"it is read as `{dotted((*section, name))}`; write it there",
                    severity="warning",
                    at="key",
                    fix=Move(pairs, dropped),
                    group=Group(f"moved to {dotted(section)}"),
                )
            )

    def _refuse(
        self, training: dict[str, Any], key: str, other: Path, *, is_other: bool = False
    ) -> None:
        """Refuse a key that is given at its present place, too; perhaps with another value."""
        del training[key]
        name = other[-1] if other[0] == "training" else other[0]
        both = "here, and otherwise" if is_other else "both here and"
        hint = f"keep the one in `{name}`" + ("; deepmd-kit takes this one" if is_other else "")
        self.findings.append(
            Finding(
                "ZOO106",
                ("training", key),
                f"`{key}` is given {both} in `{name}`",
                hint,
                at="key",
                related_paths=(("the other one", other),),
            )
        )


def _other_names(section: type[Section], data: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Yield a note for each key that is written under another of its names."""
    names = aliases(section)
    for key, value in data.items():
        canonical = names.get(key)
        written = [other for other in data if names.get(other, other) == canonical]
        if canonical is not None and written == [key]:
            message = f"`{key}` is another name of `{canonical}`"
            hint = f"`{canonical}` is the usual one"
            yield Finding(
                "ZOO114", (*path, key), message, hint, severity="note", at="key", fix=canonical
            )
        if isinstance(value, dict) and (inner := child(section, key, value)) is not None:
            yield from _other_names(inner, value, (*path, key))
