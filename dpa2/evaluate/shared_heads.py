"""Several branches at once: the descriptor they share is computed once, each head on top of it."""

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   D descriptor width

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.frames import Frames, named
from dpa2.formats.checkpoint import Checkpoint
from dpa2.formats.weights import model_from_state
from dpa2.model.energy import EnergyModel, tensors_to
from schemas.base.errors import ZooError
from schemas.input.weights import DESCRIPTOR

FloatArray = NDArray[np.float64]

_IRRELEVANT = frozenset({"seed", "trainable"})
"""Settings of a descriptor that do not change what it computes."""


@dataclass(frozen=True, slots=True)
class HeadPrediction:
    """What one head says.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å, zero for padding; None where it was not asked for.
    """

    energy: FloatArray
    force: FloatArray | None


class SharedHeads:
    """Branches that have one descriptor.

    Args:
        models: Branch by branch; all have the descriptor of the first.

    Attributes:
        type_map: Element of each type, the same for all branches.
        num_dropped: Pairs within the cutoff so far that were ignored for being beyond `nsel`.
    """

    def __init__(self, models: Mapping[str, EnergyModel]) -> None:
        self.models = dict(models)
        self._first = next(iter(self.models.values()))
        self.type_map = list(self._first.type_map)
        self.num_dropped = 0

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that any branch takes: `fparam`, `aparam`."""
        fittings = [model.fitting for model in self.models.values()]
        widths = {
            "fparam": max(fitting.num_fparam for fitting in fittings),
            "aparam": max(fitting.num_aparam for fitting in fittings),
        }
        return [name for name, width in widths.items() if width]

    def evaluate(self, frames: Frames, *, forces: bool) -> dict[str, HeadPrediction]:
        """Evaluate every head: one pass of the descriptor, and with forces one backward pass each.

        The backward pass cannot be shared: it is linear in dE/dD, and a sum of heads does not come
        apart again.

        Raises:
            FrameError: If frames have atoms at one place; names them.
        """
        with named(frames):
            graph = self._first.graph(frames.coord, frames.box, frames.atom_types)
        self.num_dropped += graph.num_dropped
        fparam = tensors_to(self._first.device, frames.fparam)
        aparam = tensors_to(self._first.device, frames.aparam)
        with torch.set_grad_enabled(forces):
            descriptor_AD = self._first.atomic_descriptors(graph)
            energies = {
                name: model.atomic_energies(descriptor_AD, graph, fparam, aparam)
                for name, model in self.models.items()
            }
        if not forces:
            return {
                name: HeadPrediction(_array(graph.padded(energy_A).sum(dim=1)), None)
                for name, energy_A in energies.items()
            }
        last = next(reversed(energies))
        predictions = {
            name: self.models[name].predict(energy_A, graph, retain_graph=name != last)
            for name, energy_A in energies.items()
        }
        return {
            name: HeadPrediction(_array(found.energy), _array(found.force))
            for name, found in predictions.items()
        }


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().cpu().numpy())


def open_heads(
    checkpoint: Checkpoint, device: torch.device
) -> tuple[list[SharedHeads], dict[str, str]]:
    """Build all branches of a checkpoint, grouped by their descriptor.

    Returns:
        The groups, and for each branch that this engine cannot run the reason.
    """
    groups: list[tuple[dict[str, Any], Mapping[str, Tensor], dict[str, EnergyModel]]] = []
    problems: dict[str, str] = {}
    for name in checkpoint.branches:
        section, tensors = checkpoint.branch(name)
        try:
            model = model_from_state(section, tensors)
        except ZooError as error:
            problems[name] = error.message
            continue
        model.requires_grad_(False)
        what = _what_is_described(section)
        described = {key: t for key, t in tensors.items() if key.startswith(DESCRIPTOR)}
        for known, weights, models in groups:
            if known == what and _are_equal(weights, described):
                model.descriptor = next(iter(models.values())).descriptor
                models[name] = model.to(device).eval()
                break
        else:
            groups.append((what, described, {name: model.to(device).eval()}))
    return [SharedHeads(models) for _, _, models in groups], problems


def _what_is_described(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings on which a descriptor's value depends, weights aside."""
    descriptor = {k: v for k, v in section["descriptor"].items() if k not in _IRRELEVANT}
    others = {key: section.get(key) or [] for key in ("type_map", "pair_exclude_types")}
    return {"descriptor": descriptor, **others}


def _are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_is_same(one[key], other[key]) for key in one)


def _is_same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    same_place = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return same_place or torch.equal(one, other)
