"""Rules about the branches of a multi-task input: their names and the sections that each needs."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from schemas.base.diagnostics import Finding, Path
from schemas.base.names import did_you_mean, nearest
from schemas.check.rule import fault, note, rule, warning
from schemas.check.schema_faults import shown
from schemas.input.branches import BRANCH_DATA, LEGACY_KEYS, ROOT_KEYS, Draft
from schemas.input.section import is_comment
from schemas.input.view import object_in, sound_value

_IN_TENSOR_NAMES = ("descriptor", "fitting_net", "layers", "networks", "atomic_model", "model")
_PLAIN = "use letters, digits, - and _"
_LONGEST = 200
"""Bytes of a name; 255 are allowed to files, and something is added to it."""
_OF_MODULES = frozenset([
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init",
    "children", "clear", "compile", "cpu", "cuda", "double", "dump_patches", "eval",
    "extra_repr", "float", "forward", "get_buffer", "get_extra_state", "get_parameter",
    "get_submodule", "half", "ipu", "items", "keys", "load_state_dict", "modules", "mtia",
    "named_buffers", "named_children", "named_modules", "named_parameters", "parameters", "pop",
    "register_backward_hook", "register_buffer", "register_forward_hook",
    "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_",
    "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "update", "values", "xpu", "zero_grad",
])  # fmt: skip
"""Attributes of the PyTorch module in which deepmd-kit keeps branches."""


@rule("ZOO504", "names of branches are usable", scope="multi-task")
def names_are_usable(draft: Draft) -> Iterator[Finding]:
    """Refuse names with a meaning of their own; warn of those that make trouble later."""
    for name in draft.branches:
        path = ("model", "model_dict", name)
        refused = _refused(name)
        if refused is not None:
            yield fault(path, *refused, at="key")
        elif (doubtful := _doubtful(name)) is not None:
            yield warning(path, *doubtful, at="key")


def _refused(name: str) -> tuple[str, str] | None:
    """Return why a branch cannot have a name, and what to do."""
    if name == "RANDOM":
        hint = "it stands for a random fitting net in fine-tuning; choose another name"
        return "`RANDOM` cannot be the name of a branch", hint
    if not name or "." in name:
        return f"{shown(name)} cannot be the name of a branch: it is a part of tensor names", _PLAIN
    if name in _OF_MODULES:
        message = (
            f"`{name}` cannot be the name of a branch: deepmd-kit keeps branches as attributes "
            "of a module that has one of this name"
        )
        return message, "choose another name, such as one of the data"
    if not name.isprintable() or set(name) & {"/", "\\"}:
        what = "a slash" if name.isprintable() else "control characters"
        return f"{shown(name)} has {what}: it cannot be the name of a file or a group", _PLAIN
    if len(name.encode()) > _LONGEST:
        message = f"{shown(name)} has {len(name.encode())} bytes: no file can have that name"
        return message, f"names of files have up to {_LONGEST}"
    return None


def _doubtful(name: str) -> tuple[str, str] | None:
    """Return why a name of a branch makes trouble later, and what to do."""
    if name == "Default":
        message = "`Default` is what the only branch of a single-task model is called"
        return message, "choose another name, or make it an alias"
    if name in _IN_TENSOR_NAMES or name.isdigit():
        message = f"`{name}` is a part of tensor names too: fine-tuning mixes them up"
        return message, "choose another name"
    if not name.isascii() or any(c.isspace() for c in name):
        return f"`{name}` has blanks or letters beyond ASCII: awkward on the command line", _PLAIN
    if not re.fullmatch(r"\w[\w+-]*", name):
        return f"`{name}` has characters with a meaning to the shell: it needs quotes there", _PLAIN
    return None


@rule("ZOO505", "names and aliases of branches are distinct", scope="multi-task")
def aliases_are_distinct(draft: Draft) -> Iterator[Finding]:
    """Demand that each name leads to one branch."""
    owners = {name: name for name in draft.branches}
    for name, config in draft.sound.items():
        for index, alias in enumerate(sound_value(config, "model.model_branch_alias") or ()):
            path = ("model", "model_dict", name, "model_branch_alias", index)
            if alias in owners:
                message = f"`{alias}` is a name of branch `{owners[alias]}` already"
                yield fault(path, message, "each name leads to one branch")
            elif alias == "RANDOM":
                yield fault(path, "`RANDOM` cannot be the name of a branch")
            elif not alias.strip() or not alias.isprintable():
                yield fault(path, f"{shown(alias)} cannot be the name of a branch", _PLAIN)
            elif "/" in alias or any(c.isspace() for c in alias):
                yield warning(path, f"`{alias}` is awkward on the command line", _PLAIN)
            owners.setdefault(alias, name)


@rule("ZOO543", "names of branches differ by more than case", scope="multi-task")
def names_differ(draft: Draft) -> Iterator[Finding]:
    """Warn of names that are one where case does not count: in files, in `--head`."""
    seen: dict[str, str] = {}
    for name in draft.branches:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            message = f"`{name}` and `{other}` differ by case only"
            yield warning(("model", "model_dict", name), message, "choose another name", at="key")


_EXAMPLES = {
    "loss_dict": "its loss, such as {}",
    "data_dict": 'its data, such as {"training_data": {"systems": ["data"]}}',
    "model_prob": "how often it is trained, such as 1.0",
    "num_epoch_dict": "its passes over the data, such as 100",
}


@rule("ZOO501", "the sections of a multi-task input are there", scope="multi-task")
def sections_exist(draft: Draft) -> Iterator[Finding]:
    """Demand `model_dict` with branches, `loss_dict` and `data_dict`, all of them objects."""
    model, training = ("model",), ("training",)
    for holder, path, key in (
        (draft.model, model, "model_dict"),
        (draft.data, (), "loss_dict"),
        (draft.data, (), "training"),
        (draft.data.get("training"), training, "data_dict"),
    ):
        if not isinstance(holder, dict) or _meant(holder, key):
            continue
        here = (*path, key)
        each = "it has a section for each branch"
        if key not in holder:
            former = {"loss_dict": "loss", "model_dict": "fitting_net_dict"}.get(key)
            if former not in holder:  # the key in its place is refused with a hint
                yield fault(here, f"required key `{key}` is missing", each)
        elif not isinstance(holder[key], dict):
            yield fault(here, f"`{key}` must be an object, not {shown(holder[key])}")
        elif all(is_comment(name) for name in holder[key]):
            yield fault(here, f"`{key}` has no branch", each)
        for name, value in object_in(holder, key).items() if key != "training" else ():
            if not isinstance(value, dict) and not is_comment(name):
                yield fault((*here, name), f"`{name}` must be an object, not {shown(value)}")
    shared = draft.model.get("shared_dict", {})
    if not isinstance(shared, dict):
        message = f"`shared_dict` must be an object, not {shown(shared)}"
        yield fault((*model, "shared_dict"), message)


def _meant(holder: dict[str, Any], key: str) -> bool:
    """Return whether a key is missing because it is misspelt."""
    return key not in holder and any(
        nearest(other, [key]) and other not in ("loss", "model_prob") and other not in LEGACY_KEYS
        for other in holder
    )


@rule("ZOO502", "a multi-task input has only keys of one", scope="multi-task")
def keys_are_known(draft: Draft) -> Iterator[Finding]:
    """Refuse unknown keys, and those of a single task in the wrong place."""
    losses = "{" + ", ".join(f'"{name}": {{}}' for name in draft.branches) + "}"
    of_loss = "`loss` is for a single task; several branches have `loss_dict`"
    instead = _OF_ONE_TASK | {("loss",): (of_loss, f'write "loss_dict": {losses}')}
    known = sorted(draft.training_keys)
    model_keys = ["shared_dict", "model_dict", "type_map", "descriptor"]
    places: list[tuple[Path, Any, Collection[str], Sequence[str]]] = [
        ((), draft.data, ROOT_KEYS, ROOT_KEYS),
        (("model",), draft.model, {"shared_dict", "model_dict", *draft.common}, model_keys),
        (("training",), draft.data.get("training"), known, known),
        *(
            (("training", "data_dict", name), section, BRANCH_DATA, BRANCH_DATA)
            for name, section in draft.per_branch("data_dict").items()
        ),
    ]
    for path, section, allowed, choices in places:
        for key in section if isinstance(section, dict) else ():
            if key in allowed or is_comment(key):
                continue
            message, hint = f"unknown key `{key}`", did_you_mean(key, choices)
            if path == ("training",) and key in BRANCH_DATA:
                message = f"`{key}` is for a single task; branches have theirs in `data_dict`"
                hint = f"write it into `training.data_dict.BRANCH.{key}`"
            else:
                message, hint = instead.get((*path, key), (message, hint))
            yield fault((*path, key), message, hint, at="key")


_OF_ONE_TASK: dict[Path, tuple[str, str]] = {
    ("learning_rate_dict",): (
        "`learning_rate_dict` is of version 2: all branches have one learning_rate",
        "write one `learning_rate`",
    ),
    ("model", "fitting_net_dict"): (
        "`fitting_net_dict` is of version 2: branches are in `model_dict` now",
        "see the multi-task example: `zoo init --multi-task` writes one",
    ),
    **{
        ("training", key): (
            f"`{key}` is for a single task; branches have `num_epoch_dict`",
            "give passes over the data by branch in `num_epoch_dict`",
        )
        for key in ("numb_epoch", "num_epoch", "num_epochs", "numb_epochs")
    },
}
"""What to say of keys of a single task, or of an earlier version, and what to write."""


@rule("ZOO503", "each branch has a section in each of the dictionaries", scope="multi-task")
def branches_agree(draft: Draft) -> Iterator[Finding]:
    """Demand that `loss_dict`, `data_dict` and the others have the branches of `model_dict`."""
    if not draft.names:
        return
    for key in ("loss_dict", "data_dict", "model_prob", "num_epoch_dict"):
        path = (key,) if key == "loss_dict" else ("training", key)
        entries = draft.per_branch(key)
        if not entries:
            continue  # not given, or refused as a whole
        missing = [name for name in draft.names if name not in entries]
        for name in entries:
            if name in draft.names:
                continue
            meant = nearest(name, missing)
            hint = (
                f"did you mean `{meant}`?" if meant else f"the branches are {_listed(draft.names)}"
            )
            if meant is not None:
                missing.remove(meant)
            message = f"`{key}` has `{name}`, which is no branch of `model_dict`"
            yield fault((*path, name), message, hint, at="key")
        for name in missing:
            message = f"branch `{name}` has no entry in `{key}`"
            yield fault(path, message, f"add `{name}` with {_EXAMPLES[key]}", at="key")


@rule("ZOO542", "branches keep their statistics apart", scope="multi-task")
def statistics_are_apart(draft: Draft) -> Iterator[Finding]:
    """Refuse one `stat_file` for two branches: the second takes the energies of the first."""
    seen: dict[str, str] = {}
    for name, file in draft.values("training.stat_file").items():
        first = seen.setdefault(os.path.normpath(str(file)), name)
        if first != name:
            path = ("training", "data_dict", name, "stat_file")
            message = f"stat_file is that of branch `{first}` too: its energies would be taken"
            related = (("the other one", ("training", "data_dict", first, "stat_file")),)
            hint = "give each branch a file of its own"
            yield fault(path, message, hint, related_paths=related)


@rule("ZOO506", "numb_steps or num_epoch_dict", scope="multi-task")
def length_is_given(draft: Draft) -> Iterator[Finding]:
    """Demand the length of the run, in one way."""
    if not isinstance(draft.data.get("training"), dict):
        return
    steps, epochs = draft.training.get("numb_steps"), draft.training.get("num_epoch_dict")
    path, others = "training.num_epoch_dict", draft.training.keys() - {"num_epoch_dict"}
    if epochs and draft.training.get("model_prob"):
        message = "num_epoch_dict says how often each branch is trained, and so does model_prob"
        yield fault(path, message, "give one of them; numb_steps goes with model_prob", at="key")
    elif epochs and steps is not None:
        yield fault(path, "give numb_steps or num_epoch_dict, not both", at="key")
    elif not epochs and steps is None and not any("epoch" in key for key in others):
        hint = 'such as "numb_steps": 1000000'
        yield fault("training.numb_steps", "training needs numb_steps or num_epoch_dict", hint)


@rule("ZOO507", "model_prob has a positive sum", scope="multi-task")
def branches_are_trained(draft: Draft) -> Iterator[Finding]:
    """Demand a branch to train; warn of one that never is."""
    weights = draft.per_branch("model_prob")
    numbers = [x for x in weights.values() if isinstance(x, (int, float)) and x >= 0]
    if not weights or len(numbers) < len(weights):
        return
    if sum(numbers) == 0:
        message = "every probability is 0: no branch is trained"
        yield fault("training.model_prob", message, "leave it out to weight by number of systems")
        return
    shared = {link.owner for link in draft.links() if link.branch != link.owner}
    for name, weight in weights.items():
        if weight == 0 and name in draft.branches:
            path = ("training", "model_prob", name)
            message = f"branch `{name}` has probability 0: it is never trained"
            if name not in shared:
                yield warning(path, message)
                continue
            hint = (
                "deepmd-kit divides by the probability of the first branch that has a shared part, "
                "and ends here; for it, put another branch first"
            )
            yield warning(path, message, hint, for_deepmd="error")


@rule("ZOO544", "no branch is all but left out", scope="multi-task")
def branches_are_balanced(draft: Draft) -> Iterator[Finding]:
    """Warn of a branch that is hardly ever drawn, and of passes over data without end."""
    for key, path in (("model_prob", "probability"), ("num_epoch_dict", "passes over its data")):
        weights = {
            name: value
            for name, value in draft.per_branch(key).items()
            if isinstance(value, int | float) and value > 0
        }
        for name, value in weights.items():
            if value * _RARELY < max(weights.values()):
                message = f"branch `{name}` has the {path} {value:g}: it is hardly ever trained"
                yield warning(("training", key, name), message)
            elif key == "num_epoch_dict" and value > _MOST_PASSES:
                message = f"branch `{name}` has {value:g} {path}: no run lives that long"
                yield warning(("training", key, name), message)


_RARELY = 1e5
_MOST_PASSES = 1e7


@rule("ZOO508", "branches have validation data", scope="multi-task")
def branches_are_validated(draft: Draft) -> Iterator[Finding]:
    """Say which branch has no validation data: warn if none has."""
    without = [
        name
        for name, config in draft.sound.items()
        if sound_value(config, "training.validation_data") is None
        and sound_value(config, "training.training_data") is not None
    ]
    if without and len(without) == len(draft.branches):
        message = "no branch has validation_data: overfitting will not show"
        yield warning(("training", "data_dict", without[0], "validation_data"), message)
        return
    for name in without:
        path = ("training", "data_dict", name, "validation_data")
        yield note(path, f"branch `{name}` has no validation_data: its errors are of training")


@rule("ZOO509", "settings for a single task are off", scope="multi-task")
def settings_are_for_branches(draft: Draft) -> Iterator[Finding]:
    """Refuse what deepmd-kit has for a single task only."""
    for config in draft.sound.values():
        for path in ("validating.full_validation", "validating.ema_full_validation"):
            if sound_value(config, path):
                yield fault(path, "full validation is for a single task", "remove it")
        if sound_value(config, "training.zero_stage"):
            yield fault("training.zero_stage", "zero_stage is for a single task", "write 0")


@rule("ZOO510", "data_stat_protect is the same in all branches", scope="multi-task")
def protection_is_common(draft: Draft) -> Iterator[Finding]:
    """Demand one `data_stat_protect`: statistics of branches are merged."""
    values = draft.values("model.data_stat_protect")
    for name, value in values.items():
        first, expected = next(iter(values.items()))
        if value != expected:
            message = f"data_stat_protect is {value:g} here and {expected:g} in branch `{first}`"
            path = ("model", "model_dict", name, "data_stat_protect")
            yield fault(path, message, "it must be the same in all branches")


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
