"""The size of a model: what branches share of its parameters, and memory of a step."""

from dataclasses import dataclass

from schemas.input.model import Model
from schemas.input.root import Link
from schemas.input.section import canonical_precision
from schemas.input.weights import parameter_counts

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


_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_COPIES = 4
"""Weights, gradients and both moments of Adam."""
_RUNTIME = 310 * 2**20
"""PyTorch itself, before anything is computed."""

# Live tensors per channel of a pair (repinit), of a triple (three-body), of an atom (fitting net).
_REPINIT = 7.1
_THREE_BODY = 6.0
_MEMORY_ESTIMATE_FITTING = 10.0
# Live tensors per channel of a pair in a repformer layer.
_ATOM_CHANNELS = 5.0
_PAIR_CHANNELS = 18.0
# Per pair of neighbours and head (or axis) of the attention.
_PAIR_ATTENTION = 18.0


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Neighbours of an atom within the three cutoffs."""

    repinit: float
    three_body: float
    repformer: float


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a training step in bytes.

    Args:
        activations: What a step keeps until its end.
        parameters: Weights, gradients, moments of the optimiser.
        runtime: PyTorch itself.
    """

    activations: int
    parameters: int
    runtime: int = _RUNTIME

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.parameters + self.runtime


def memory_estimate(
    model: Model, num_parameters: int, num_atoms: int, neighbors: Neighbors
) -> MemoryEstimate:
    """Return the memory of a training step.

    Args:
        model: The model.
        num_parameters: All parameters that are trained together.
        num_atoms: Atoms of the largest batch.
        neighbors: Of an atom, in the mean.
    """
    size = _BYTES[canonical_precision(model.descriptor.precision)]
    numbers = _of_descriptor(model, neighbors) + _MEMORY_ESTIMATE_FITTING * sum(
        model.fitting_net.neuron
    )
    return MemoryEstimate(
        activations=round(num_atoms * numbers * size), parameters=_COPIES * num_parameters * size
    )


def _of_descriptor(model: Model, neighbors: Neighbors) -> float:
    """Return the live numbers of one atom."""
    repinit, layers = model.descriptor.repinit, model.descriptor.repformer
    found = _REPINIT * neighbors.repinit * sum(repinit.neuron)
    if repinit.use_three_body:
        found += _THREE_BODY * neighbors.three_body**2 * sum(repinit.three_body_neuron)
    pair = _ATOM_CHANNELS * layers.g1_dim + _PAIR_CHANNELS * layers.g2_dim
    heads = layers.attn2_nhead if layers.update_g2_has_attn or layers.update_h2 else 0
    attention = _PAIR_ATTENTION * neighbors.repformer**2 * heads
    found += layers.nlayers * neighbors.repformer * pair
    return found + max(0, layers.nlayers - 1) * attention
