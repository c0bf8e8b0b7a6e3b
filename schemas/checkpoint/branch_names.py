"""Which branch of a checkpoint a person means: a name, an alias, or either in another case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.base.errors import CheckpointError
from schemas.base.names import nearest

SINGLE_TASK_BRANCH = "Default"
"""deepmd-kit's name of the only branch of a single-task model."""

_OF_BRANCHES = ("finetune_head",)


def branch_names(model_params: Mapping[str, Any]) -> list[str]:
    """Return the branches of a model section; `["Default"]` for a single task.

    Raises:
        TypeError: It is no model section.
    """
    sections = model_params.get("model_dict")
    if sections is None:
        return [SINGLE_TASK_BRANCH]
    if not isinstance(sections, Mapping) or not all(
        isinstance(s, Mapping) for s in sections.values()
    ):
        raise TypeError("its `model_dict` does not name branches")
    return list(sections)


def resolve_branch(path: Path | str, model_params: Mapping[str, Any], name: str | None) -> str:
    """Return the exact name of the branch that is meant.

    A name counts before an alias (`model_branch_alias`), and the exact spelling before one in
    another case.

    Args:
        path: The file, for messages.
        model_params: Its model section.
        name: What was asked for; may be None where there is only one branch.

    Raises:
        CheckpointError: If no branch, or more than one, can be meant; says which there are.
    """
    branches = branch_names(model_params)
    if name in branches:
        return name
    if name is None:
        if len(branches) == 1:
            return branches[0]
        raise CheckpointError(
            f"{path} holds {len(branches)} branches and none was chosen",
            hint=f"choose one with --branch: {', '.join(branches)}",
        )
    sections = model_params.get("model_dict")
    if sections is None:
        raise CheckpointError(
            f"{path} is a single-task model: it has no branch `{name}`",
            hint="leave the branch out",
        )
    known = [(branch, branch) for branch in branches]
    known += [(alias, branch) for branch in branches for alias in aliases(sections[branch])]
    exact = _meant(known, name)
    meant = exact or _meant([(word.casefold(), branch) for word, branch in known], name.casefold())
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise CheckpointError(
            f"{path} has more than one branch that `{name}` can mean",
            hint=f"write one of: {', '.join(meant)}",
        )
    near = nearest(name, [word for word, _ in known])
    hint = f"branches: {', '.join(branches)}"
    if near is not None:
        branch = dict(reversed(known))[near]
        meaning = "" if near == branch else f" (an alias of `{branch}`)"
        hint = f"did you mean `{near}`{meaning}? {hint}"
    raise CheckpointError(f"{path} has no branch `{name}`", hint=hint)


def single_task_section(model_params: Mapping[str, Any], branch: str) -> dict[str, Any]:
    """Return the model section of a branch as one of a single-task model.

    What only branches have, other names and the branch they start from, is left out.

    Args:
        model_params: The model section of the whole file.
        branch: The exact name (see `resolve_branch`).
    """
    section = model_params.get("model_dict", {}).get(branch, model_params)
    section = {key: value for key, value in section.items() if key not in _OF_BRANCHES}
    if "model_branch_alias" in section:
        section["model_branch_alias"] = []
    return section


def aliases(section: Mapping[str, Any]) -> list[str]:
    """Return the other names of a branch."""
    return [str(alias) for alias in section.get("model_branch_alias") or []]


def _meant(known: Sequence[tuple[str, str]], name: str) -> list[str]:
    return list(dict.fromkeys(branch for word, branch in known if word == name))
