"""Inputs of earlier versions: keys that have moved since, put where they belong now."""

import math
from collections.abc import Iterator
from typing import Any

from schemas.diagnostics import Finding, Group, Move, Path, Remove
from schemas.input import Input
from schemas.outline import child
from schemas.section import Section, aliases

_WARMUP = ("warmup_steps", "warmup_ratio", "warmup_start_factor")
_OPTIMIZER = (
    "opt_type",
    "kf_blocksize",
    "kf_start_pref_e",
    "kf_limit_pref_e",
    "kf_start_pref_f",
    "kf_limit_pref_f",
    "weight_decay",
    "momentum",
    "muon_momentum",
    "adam_beta1",
    "adam_beta2",
    "lr_adjust",
    "lr_adjust_coeff",
    "muon_2d_only",
    "min_2d_dim",
)
_DATA = ("systems", "set_prefix", "batch_size", "sys_probs", "sys_weights", "auto_prob")
_DATA_ALIASES = ("auto_prob_style",)


def _other_names(section: type[Section], data: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Yield a note for each key that is written under another of its names."""
    names = aliases(section)
    for key, value in data.items():
        canonical = names.get(key)
        if (
            canonical is not None
            and sum(names.get(other, other) == canonical for other in data) == 1
        ):
            message = f"`{key}` is another name of `{canonical}`"
            hint = f"`{canonical}` is the usual one"
            yield Finding(
                "ZOO114", (*path, key), message, hint, severity="note", at="key", fix=canonical
            )
        if isinstance(value, dict) and (inner := child(section, key, value)) is not None:
            yield from _other_names(inner, value, (*path, key))


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
        if "systems" not in training:
            return
        if "training_data" in training:
            message = "`systems` is given both here and in `training_data`"
            other = ("training", "training_data")
            self._refuse(training, "systems", message, "keep the one in `training_data`", other)
            return
        training["training_data"] = {}
        self.moved[("training", "training_data")] = ("training", "systems")
        present = [key for key in (*_DATA, *_DATA_ALIASES) if key in training]
        section = ("training", "training_data")
        kept = [key for key in present if key != "set_prefix"]
        pairs = tuple((("training", key), (*section, key)) for key in kept)
        dropped = (("training", "set_prefix"),) if "set_prefix" in present else ()
        for key in present:
            self._move(training, key, section, key, Move(pairs, dropped))
        self._decay_rate(training)

    def _decay_rate(self, training: dict[str, Any]) -> None:
        """Version 1 inputs have their decay rate turned into a last learning rate."""
        schedule = self.data.get("learning_rate")
        if not isinstance(schedule, dict) or "decay_rate" not in schedule:
            return
        rate, start = schedule.get("decay_rate"), schedule.get("start_lr")
        steps, decay = training.get("stop_batch"), schedule.get("decay_steps")
        if all(isinstance(x, (int, float)) and x > 0 for x in (rate, start, steps, decay)):
            del schedule["decay_rate"]
            assert rate is not None
            assert start is not None
            assert steps is not None
            assert decay is not None
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
                    self._ignored(path, "sets are called set.*")

    def _ignored(self, path: Path, hint: str) -> None:
        message = f"`{path[-1]}` has had no effect since version 2"
        self.findings.append(
            Finding(
                "ZOO111",
                path,
                message,
                f"remove it; {hint}",
                severity="warning",
                at="key",
                fix=Remove((path,)),
            )
        )

    def _warmup(self, training: dict[str, Any]) -> None:
        schedule = self.data.get("learning_rate")
        for key in _WARMUP:
            if key not in training:
                continue
            if isinstance(schedule, dict) and key in schedule:
                message = f"`{key}` is given both here and in `learning_rate`"
                other = ("learning_rate", key)
                self._refuse(training, key, message, "keep the one in `learning_rate`", other)
            elif isinstance(schedule, dict):
                self._move(training, key, ("learning_rate",), key)
            else:
                del training[key]

    def _optimizer(self, training: dict[str, Any]) -> None:
        present = [key for key in _OPTIMIZER if key in training]
        if not present:
            return
        optimizer = self.data.get("optimizer", {})
        if not isinstance(optimizer, dict):
            return
        self.data["optimizer"] = dict(optimizer)
        names = {key: "type" if key == "opt_type" else key for key in present}
        pairs = tuple((("training", key), ("optimizer", name)) for key, name in names.items())
        for key, name in names.items():
            if optimizer.get(name, training[key]) != training[key]:
                message = f"`{key}` is given here, and otherwise in `optimizer`"
                hint = "keep the one in `optimizer`; deepmd-kit takes this one"
                self._refuse(training, key, message, hint, ("optimizer", name))
            else:
                self._move(training, key, ("optimizer",), name, Move(pairs))

    def _move(
        self,
        training: dict[str, Any],
        key: str,
        section: Path,
        name: str,
        change: Move | None = None,
    ) -> None:
        target: Any = self.data
        for part in section:
            target = target[part]
        target[name] = training.pop(key)
        self.moved[(*section, name)] = ("training", key)
        where = ".".join(str(part) for part in (*section, name))
        message = f"`training.{key}` is the place of an earlier version"
        hint = f"it is read as `{where}`; write it there"
        self.findings.append(
            Finding(
                "ZOO110",
                ("training", key),
                message,
                hint,
                severity="warning",
                at="key",
                fix=change or Move(((("training", key), (*section, name)),)),
                group=Group(f"moved to {'.'.join(map(str, section))}"),
            )
        )

    def _refuse(
        self, training: dict[str, Any], key: str, message: str, hint: str, other: Path
    ) -> None:
        del training[key]
        related = (("the other one", other),)
        finding = Finding(
            "ZOO106", ("training", key), message, hint, at="key", related_paths=related
        )
        self.findings.append(finding)
