"""Rules about the names of branches: in files, tensors, deepmd-kit and on the command line."""

import re
from collections.abc import Iterator

from schemas.explain import shown
from schemas.multitask_draft import Draft
from schemas.rules.rule import Fault, rule, warning

_IN_TENSOR_NAMES = ("descriptor", "fitting_net", "layers", "networks", "atomic_model", "model")
_PLAIN = "use letters, digits, - and _"
_LONGEST = 200
"""Bytes of a name; 255 are allowed to files, and something is added to it."""
_OF_MODULES = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "clear",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "items",
        "keys",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "pop",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "update",
        "values",
        "xpu",
        "zero_grad",
    ]
)
"""Attributes of the PyTorch module in which deepmd-kit keeps branches."""


@rule("ZOO504", "names of branches are usable", scope="multi-task")
def names_are_usable(draft: Draft) -> Iterator[Fault]:
    """Refuse names with a meaning of their own; warn of those that make trouble later."""
    for name in draft.branches:
        path = ("model", "model_dict", name)
        if name == "RANDOM":
            hint = "it stands for a random fitting net in fine-tuning; choose another name"
            yield Fault(path, "`RANDOM` cannot be the name of a branch", hint, at="key")
        elif not name or "." in name:
            message = f"{shown(name)} cannot be the name of a branch: it is a part of tensor names"
            yield Fault(path, message, _PLAIN, at="key")
        elif name in _OF_MODULES:
            message = (
                f"`{name}` cannot be the name of a branch: deepmd-kit keeps branches as attributes "
                "of a module that has one of this name"
            )
            yield Fault(path, message, "choose another name, such as one of the data", at="key")
        elif not name.isprintable() or set(name) & {"/", "\\"}:
            what = "a slash" if name.isprintable() else "control characters"
            message = f"{shown(name)} has {what}: it cannot be the name of a file or a group"
            yield Fault(path, message, _PLAIN, at="key")
        elif len(name.encode()) > _LONGEST:
            message = f"{shown(name)} has {len(name.encode())} bytes: no file can have that name"
            yield Fault(path, message, f"names of files have up to {_LONGEST}", at="key")
        elif name == "Default":
            message = "`Default` is what the only branch of a single-task model is called"
            yield _named(path, message, "choose another name, or make it an alias")
        elif name in _IN_TENSOR_NAMES or name.isdigit():
            message = f"`{name}` is a part of tensor names too: fine-tuning mixes them up"
            yield _named(path, message, "choose another name")
        elif not name.isascii() or any(c.isspace() for c in name):
            message = f"`{name}` has blanks or letters beyond ASCII: awkward on the command line"
            yield _named(path, message, _PLAIN)
        elif not re.fullmatch(r"\w[\w+-]*", name):
            message = f"`{name}` has characters with a meaning to the shell: it needs quotes there"
            yield _named(path, message, _PLAIN)


def _named(path: tuple[str, ...], message: str, hint: str) -> Fault:
    return Fault(path, message, hint, severity="warning", at="key")


@rule("ZOO505", "names and aliases of branches are distinct", scope="multi-task")
def aliases_are_distinct(draft: Draft) -> Iterator[Fault]:
    """Demand that each name leads to one branch."""
    owners = {name: name for name in draft.branches}
    for name, config in draft.sound.items():
        for index, alias in enumerate(draft.value(config, "model.model_branch_alias") or ()):
            path = ("model", "model_dict", name, "model_branch_alias", index)
            if alias in owners:
                message = f"`{alias}` is a name of branch `{owners[alias]}` already"
                yield Fault(path, message, "each name leads to one branch")
            elif alias == "RANDOM":
                yield Fault(path, "`RANDOM` cannot be the name of a branch")
            elif not alias.strip() or not alias.isprintable():
                yield Fault(path, f"{shown(alias)} cannot be the name of a branch", _PLAIN)
            elif "/" in alias or any(c.isspace() for c in alias):
                yield warning(path, f"`{alias}` is awkward on the command line", _PLAIN)
            owners.setdefault(alias, name)


@rule("ZOO543", "names of branches differ by more than case", scope="multi-task")
def names_differ(draft: Draft) -> Iterator[Fault]:
    """Warn of names that are one where case does not count: in files, in `--head`."""
    seen: dict[str, str] = {}
    for name in draft.branches:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            message = f"`{name}` and `{other}` differ by case only"
            yield _named(("model", "model_dict", name), message, "choose another name")
