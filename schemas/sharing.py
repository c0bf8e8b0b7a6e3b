"""What the branches of a multi-task model have in common, in words and in parameters."""

from dataclasses import dataclass

from schemas.model import Model
from schemas.multitask import Link
from schemas.parameter_count import parameter_counts

_FITTING = "fitting net"
_TYPES = "type embedding"


@dataclass(frozen=True, slots=True)
class Shared:
    """A part of the network that several branches use.

    Args:
        name: Key in `shared_dict`.
        component: `descriptor` or `fitting_net`.
        owner: The branch whose tensors all use.
        branches: The others, with the level at which they share.
        parts: What is shared with each of them.
        parameters: Parameters that each of them does not have of its own.
    """

    name: str
    component: str
    owner: str
    branches: dict[str, int]
    parts: dict[str, list[str]]
    parameters: dict[str, int]


def shared_parts(links: list[Link], models: dict[str, Model]) -> list[Shared]:
    """Return what is shared, by name in `shared_dict`."""
    groups: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        groups.setdefault((link.name, link.component), []).append(link)
    found = []
    for (name, component), members in groups.items():
        others = {item.branch: item.level for item in members if item.branch != item.owner}
        counts = {
            item.branch: _shared_counts(item, models[item.branch])
            for item in members
            if item.branch != item.owner
        }
        found.append(
            Shared(
                name,
                component,
                members[0].owner,
                others,
                {branch: list(parts) for branch, parts in counts.items()},
                {branch: sum(parts.values()) for branch, parts in counts.items()},
            )
        )
    return found


def distinct_parameters(links: list[Link], models: dict[str, Model]) -> int:
    """Return the number of parameters of all branches, shared ones counted once."""
    total = sum(sum(parameter_counts(model).values()) for model in models.values())
    shared = shared_parts(links, models)
    return total - sum(sum(item.parameters.values()) for item in shared)


def _shared_counts(link: Link, model: Model) -> dict[str, int]:
    counts = parameter_counts(model)
    if link.component == "fitting_net":
        return {_FITTING: counts[_FITTING]}
    if link.level > 0:
        return {_TYPES: counts[_TYPES]}
    return {name: count for name, count in counts.items() if name != _FITTING}
