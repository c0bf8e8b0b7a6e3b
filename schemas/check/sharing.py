"""Rules about what the branches of a multi-task input share."""

from collections.abc import Iterator
from typing import Any

from schemas.base.diagnostics import Finding, Path, Severity
from schemas.base.names import did_you_mean
from schemas.check.rule import fault, note, rule, warning
from schemas.input.branches import LEVELS, Draft, has_kind, kind_of
from schemas.input.model import Model
from schemas.input.section import aliases, is_comment

_WORDS = {"type_map": "a type_map", "descriptor": "a descriptor", "fitting_net": "a fitting net"}


@rule("ZOO521", "each name that a branch uses is in shared_dict", scope="multi-task")
def names_exist(draft: Draft) -> Iterator[Finding]:
    """Demand that names lead to a shared part of the right kind."""
    if draft.references and "shared_dict" not in draft.model:
        wanted = dict.fromkeys(f"`{item.name}`" for item in draft.references)
        message = f"`shared_dict` is missing, but branches refer to {', '.join(wanted)}"
        yield fault(("model", "shared_dict"), message, "define them there, by name")
        return
    if not isinstance(draft.model.get("shared_dict", {}), dict):
        return  # another rule speaks of that
    for item in draft.references:
        shared = draft.shared.get(item.name)
        names = [name for name in draft.shared if not is_comment(name)]
        fitting = [name for name in names if has_kind(draft.shared[name], item.component)]
        if item.name not in draft.shared:
            message = f"`{item.name}` is not in `shared_dict`"
            yield fault(item.path, message, did_you_mean(item.name, fitting or names))
        elif not has_kind(shared, item.component):
            kind = _WORDS.get(kind_of(shared) or "", "something else")
            message = f"`{item.name}` is {kind}, not {_WORDS[item.component]}"
            yield fault(item.path, message, did_you_mean(item.name, fitting) if fitting else None)


@rule("ZOO522", "levels of sharing exist", scope="multi-task")
def levels_exist(draft: Draft) -> Iterator[Finding]:
    """Demand a level at which the component can be shared."""
    for item in draft.references:
        if item.level_text is None or item.level is not None:
            continue
        levels, text = LEVELS[item.component], item.level_text
        if not levels:
            message = f"a type_map has no levels: write `{item.name}` without `:{text}`"
            yield fault(item.path, message)
            continue
        hint = f'write "{item.name}": it shares everything'
        if item.component == "descriptor":
            hint = "0 (or no level) shares everything, 1 the type embedding only"
        allowed = " or ".join(str(level) for level in levels)
        found = f'"{text}"' if text else "nothing"
        message = f"the level of sharing a {item.component} must be {allowed}, got {found}"
        yield fault(item.path, message, hint)


@rule("ZOO523", "the branches have one shared type_map", scope="multi-task")
def type_map_is_shared(draft: Draft) -> Iterator[Finding]:
    """Demand one type_map in `shared_dict` that all branches name."""
    named = [
        item
        for item in draft.references
        if item.component == "type_map" and has_kind(draft.shared.get(item.name), "type_map")
    ]
    first = named[0] if named else None
    for item in named:
        if first is not None and item.name != first.name:
            message = f"type_map is `{item.name}` here and `{first.name}` in `{first.branch}`"
            yield fault(item.path, message, "all branches have one type_map")
    inline = [
        (value, path)
        for name, branch in draft.branches.items()
        for value, path in [draft.component(name, branch, "type_map")]
        if isinstance(value, list)
    ]
    if inline and first is None:
        message = "the type_map is written here, not shared: deepmd-kit refuses that"
        hint = "put it into `shared_dict` under a name, and write that name in every branch"
        yield fault(inline[0][1], message, hint)
        return
    shared = draft.shared.get(first.name) if first is not None else None
    links = {link.branch for link in draft.links()}
    for value, path in inline:
        if value == shared and first is not None:
            message = f"this is the type_map `{first.name}`, written out"
            yield note(path, message, f'write "{first.name}"')
        elif first is not None and str(path[2]) in links:
            message = (
                f"this type_map differs from `{first.name}`, but parts of the network are shared: "
                f"its rows would mean one element here and another there"
            )
            yield fault(path, message, f'write "{first.name}"')


@rule("ZOO524", "everything in shared_dict is used", scope="multi-task")
def shared_parts_are_used(draft: Draft) -> Iterator[Finding]:
    """Warn of a shared part that no branch names; note one that a single branch names."""
    for name in draft.shared if draft.branches else ():
        users = [item for item in draft.references if item.name == name]
        path = ("model", "shared_dict", name)
        if is_comment(name):
            continue
        if not users:
            message = f"no branch uses `{name}`: it has no effect and is not checked"
            yield warning(path, message, "remove it, or use it", at="key")
        elif len(users) == 1 and len(draft.branches) > 1 and users[0].component != "type_map":
            yield note(path, f"only branch `{users[0].branch}` uses `{name}`: nothing is shared")


@rule("ZOO525", "sharing shares more than the type embedding", scope="multi-task")
def sharing_is_deep(draft: Draft) -> Iterator[Finding]:
    """Warn if branches share no more than type embeddings; note where one does."""
    for name, users in draft.users("descriptor").items():
        shallow = [item for item in users if item.level == 1]
        if len(users) > 1 and shallow == users:
            message = f"every branch uses `{name}` at level 1: only the type embedding is shared"
            yield warning(users[0].path, message, f'write "{name}" to share the descriptor')
            continue
        for item in shallow:
            message = f"branch `{item.branch}` shares only the type embedding of `{name}`"
            yield note(item.path, message, f'write "{name}" to share the descriptor')


@rule("ZOO526", "equal parts are shared", scope="multi-task")
def copies_are_meant(draft: Draft) -> Iterator[Finding]:
    """Note descriptors that are equal but not shared: they are trained separately."""
    seen: list[tuple[Any, str]] = []
    common = draft.common.get("descriptor")
    copied = [name for name, branch in draft.branches.items() if "descriptor" not in branch]
    if isinstance(common, dict) and len(copied) > 1:
        message = "each branch gets a descriptor of its own from this: nothing is shared"
        hint = "put it into `shared_dict` under a name, and write that name here"
        yield warning(("model", "descriptor"), message, hint, at="key")
    for name, branch in draft.branches.items():
        written = branch.get("descriptor")
        if not isinstance(written, dict):
            continue
        plain = {key: value for key, value in written.items() if key != "seed"}
        twin = next((other for value, other in seen if value == plain), None)
        if twin is not None:
            message = f"equal to the descriptor of `{twin}`, but not shared: trained separately"
            path = ("model", "model_dict", name, "descriptor")
            yield note(path, message, "put it into `shared_dict` to share it")
        seen.append((plain, name))


@rule("ZOO527", "a shared fitting net can tell branches apart", scope="multi-task")
def cases_are_told_apart(draft: Draft) -> Iterator[Finding]:
    """Demand a `dim_case_embd` that is large enough and the same everywhere."""
    widths = draft.values("model.fitting_net.dim_case_embd")
    paths = {name: _width_path(draft, name) for name in widths}
    number = len(draft.branches)
    for name, users in draft.users("fitting_net").items():
        if len(users) > 1 and all(widths.get(item.branch) == 0 for item in users):
            message = f"`{name}` is shared without dim_case_embd: it cannot tell branches apart"
            path = ("model", "shared_dict", name, "dim_case_embd")
            yield warning(path, message, f'write "dim_case_embd": {number}')
    positive = {name: width for name, width in widths.items() if width > 0}
    if not positive:
        return
    first, expected = next(iter(positive.items()))
    for name, width in widths.items():
        if width != expected:
            message = f"dim_case_embd is {width} here and {expected} in branch `{first}`"
            yield fault(paths[name], message, "it must be the same in all branches")
        elif width < number:
            message = f"dim_case_embd ({width}) must be >= the number of branches ({number})"
            yield fault(paths[name], message)


def _width_path(draft: Draft, branch: str) -> Path:
    for item in draft.references:
        if item.branch == branch and item.component == "fitting_net":
            return ("model", "shared_dict", item.name, "dim_case_embd")
    _, path = draft.component(branch, draft.branches[branch], "fitting_net")
    return (*path, "dim_case_embd")


@rule("ZOO541", "what is beside model_dict reaches a branch", scope="multi-task")
def common_keys_have_effect(draft: Draft) -> Iterator[Finding]:
    """Refuse a key beside `model_dict` that every branch has itself: it counts for none."""
    for key, value in draft.common.items() if draft.branches else ():
        names = {key, aliases(Model).get(key, key)}
        own = [branch[name] for branch in draft.branches.values() for name in names & set(branch)]
        if is_comment(key) or len(own) < len(draft.branches):
            continue
        same = all(item == value for item in own)
        message = f"`{key}` has no effect here: every branch has {'it' if same else 'another'}"
        hint = "remove it, or write it into the branches that are to have it"
        severity: Severity = "warning" if same else "error"
        yield fault(("model", key), message, hint, severity, at="key")
