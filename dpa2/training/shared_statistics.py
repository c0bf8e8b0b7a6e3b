"""Statistics of branches that share parts of their networks (docs/deepmd-format.md, 5.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dpa2.model.energy import EnergyModel
from dpa2.training.environment_statistics import BlockMoments, set_normalisation
from dpa2.training.moments import Moments
from schemas.multitask import Link

ParameterMoments = dict[str, list[Moments]]
"""Moments of every component of `fparam` and `aparam`."""


@dataclass(frozen=True)
class InputMoments:
    """What one branch's data say about the inputs of its networks.

    Attributes:
        environment: Of the environment matrix, by descriptor block.
        parameters: Of fparam and aparam, where the fitting net takes them.
    """

    environment: dict[str, BlockMoments]
    parameters: ParameterMoments


def merge_statistics(
    models: Mapping[str, EnergyModel],
    links: Sequence[Link],
    found: Mapping[str, InputMoments],
    probabilities: Mapping[str, float],
) -> None:
    """Normalise shared parts by the data of all branches that use them.

    Environment matrices count as they are; fparam and aparam by how often a branch is trained, or
    evenly where none of the branches is. (deepmd-kit 3.2.0 divides by the owner's probability and
    dies where that is 0.)

    Args:
        models: The branches, parts shared already.
        links: What is shared, the owner first.
        found: Moments of each branch.
        probabilities: Of training each branch.
    """
    for owner in dict.fromkeys(link.owner for link in links):
        shared = [link for link in links if link.owner == owner]
        descriptors = [n.branch for n in shared if n.component == "descriptor" and n.level == 0]
        if len(descriptors) > 1:
            _merge_environment(models[owner], [found[name] for name in descriptors])
        fittings = [link.branch for link in shared if link.component == "fitting_net"]
        if len(fittings) > 1:
            weights = [probabilities[name] for name in fittings]
            if not any(weights):
                weights = [1.0] * len(fittings)
            _merge_parameters(models[owner], [found[name] for name in fittings], weights)
    for model in models.values():
        model.statistics_changed()


def _merge_environment(owner: EnergyModel, members: Sequence[InputMoments]) -> None:
    for name, block in owner.descriptor.blocks().items():
        keys = members[0].environment[name]
        total = {k: sum((m.environment[name][k] for m in members), Moments()) for k in keys}
        set_normalisation(block, total)


def _merge_parameters(
    owner: EnergyModel, members: Sequence[InputMoments], weights: Sequence[float]
) -> None:
    for name in ("fparam", "aparam"):
        tables = [member.parameters.get(name, []) for member in members]
        if not all(tables):  # not an input of the net, or left to its default
            continue
        totals = [
            sum((m.scaled(weight) for m, weight in zip(column, weights, strict=True)), Moments())
            for column in zip(*tables, strict=True)
        ]
        set_parameter_normalisation(owner, name, totals)


def set_parameter_normalisation(
    model: EnergyModel, name: str, components: Sequence[Moments]
) -> None:
    """Write mean and inverse spread of `fparam` or `aparam` into the buffers of a model."""
    smallest = model.config.data_stat_protect
    mean = torch.tensor([m.mean() for m in components], dtype=torch.float64)
    spread = torch.tensor([m.spread(smallest) for m in components], dtype=torch.float64)
    getattr(model.fitting, f"{name}_avg").copy_(mean)
    getattr(model.fitting, f"{name}_inv_std").copy_(1.0 / spread)
