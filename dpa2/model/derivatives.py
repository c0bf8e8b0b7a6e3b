"""Forces and virials from the gradient with respect to displacements."""

# Axes:  F frames   N atoms (all frames, in processing order)   E pairs (all slots of all blocks)
#        X, Y = x, y, z

from collections.abc import Callable, Sequence
from typing import Any, List, NamedTuple, Optional

import torch
from torch import Tensor

from dpa2.model.blocks import NeighborBlock


class Derivatives(NamedTuple):
    """What follows from the gradient with respect to displacements; M atoms, or atoms and ghosts.

    Attributes:
        gradient: (E, 3) eV/Å.
        disp: (E, 3) Å, the displacements.
        force: (M, 3) eV/Å.
        atom_virial: (M, 3, 3) eV, or None.
    """

    gradient: Tensor
    disp: Tensor
    force: Tensor
    atom_virial: Optional[Tensor]


def differentiate(
    energy_N: Tensor,
    blocks: List[NeighborBlock],
    center_E: Tensor,
    neighbor_E: Tensor,
    coord_MX: Tensor,
    center_NX: Optional[Tensor] = None,
) -> Derivatives:
    """Return forces and, if the positions of the centres are given, atomic virials.

    Args:
        energy_N: (N,) atomic energies, eV.
        blocks: Whose `disp` are the leaves.
        center_E: Row of `coord_MX` that is the centre of each slot.
        neighbor_E: Row of `coord_MX` that is the neighbour in each slot.
        coord_MX: (M, 3) positions, Å.
        center_NX: (N, 3) positions of the centres, to split the virial among atoms, which takes
            three more backward passes; None: it is not split.
    """
    splits = center_NX is not None
    gradient_EX = displacement_gradient(energy_N, blocks, None, False, splits)
    moments: List[Tensor] = []
    if center_NX is not None:
        for axis in range(3):
            weight_N = center_NX[:, axis]
            moments.append(displacement_gradient(energy_N, blocks, weight_N, False, axis < 2))
    return derivatives(gradient_EX, moments, blocks, center_E, neighbor_E, coord_MX)


def derivatives(
    gradient_EX: Tensor,
    moments: List[Tensor],
    blocks: List[NeighborBlock],
    center_E: Tensor,
    neighbor_E: Tensor,
    coord_MX: Tensor,
) -> Derivatives:
    """Return what follows from gradients with respect to displacements.

    Args:
        gradient_EX: (E, 3) of the energy, eV/Å.
        moments: Three (E, 3), of sum_i x_ib e_i for b = x, y, z, to split the virial among atoms;
            none: it is not split.
        blocks: Whose slots these are.
        center_E: Row of `coord_MX` that is the centre of each slot.
        neighbor_E: Row of `coord_MX` that is the neighbour in each slot.
        coord_MX: (M, 3) positions, Å.
    """
    disp_EX = torch.cat([block.disp.detach().flatten(0, 1) for block in blocks])
    force_MX = forces(gradient_EX, center_E, neighbor_E, coord_MX.shape[0])
    virial_MXY: Optional[Tensor] = None
    if len(moments) > 0:
        virial_MXY = atomic_virials(
            gradient_EX.detach(), torch.stack(moments), disp_EX, coord_MX, center_E, neighbor_E
        )
    return Derivatives(gradient_EX, disp_EX, force_MX, virial_MXY)


def displacement_gradient(
    energy_N: Tensor,
    blocks: List[NeighborBlock],
    weight: Optional[Tensor] = None,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> Tensor:
    """Return d sum(weight * energy) / d displacement of every slot (E, 3), eV/Å.

    Args:
        energy_N: (N,) atomic energies, eV.
        blocks: Whose `disp` are the leaves.
        weight: (N,) constants; None: ones.
        create_graph: Keep the result differentiable, as the loss needs it.
        retain_graph: Keep the graph for another gradient.
    """
    # Written so that TorchScript compiles it too: no keyword-only defaults, typed lists, a loop.
    # A scalar: weights that are given to `grad` cost an import of sympy, 0.3 s.
    total = energy_N.sum() if weight is None else (weight * energy_N).sum()
    grads: List[Optional[Tensor]] = list(
        torch.autograd.grad(
            [total],
            [block.disp for block in blocks],
            create_graph=create_graph,
            retain_graph=retain_graph or create_graph,
            allow_unused=True,
        )
    )
    parts: List[Tensor] = []
    for i, block in enumerate(blocks):
        grad = grads[i]
        parts.append((torch.zeros_like(block.disp) if grad is None else grad).flatten(0, 1))
    return torch.cat(parts)


def forces(gradient_EX: Tensor, center_E: Tensor, neighbor_E: Tensor, num_atoms: int) -> Tensor:
    """Return forces (N, 3): a displacement is neighbour minus centre, so F_c += g and F_n -= g."""
    force_NX = gradient_EX.new_zeros(num_atoms, 3)
    force_NX = force_NX.index_add(0, center_E, gradient_EX)
    return force_NX.index_add(0, neighbor_E, gradient_EX, alpha=-1)


def virials(gradient_EX: Tensor, disp_EX: Tensor, frame_E: Tensor, num_frames: int) -> Tensor:
    """Return virials (F, 3, 3) = -dE/dstrain, eV; V_ab = -sum g_a d_b over the frame's pairs."""
    outer_EXY = gradient_EX.unsqueeze(-1) * disp_EX.unsqueeze(-2)
    virial_FXY = gradient_EX.new_zeros(num_frames, 3, 3)
    return virial_FXY.index_add(0, frame_E, outer_EXY, alpha=-1)


def atomic_virials(
    gradient_EX: Tensor,
    moment_gradients_YEX: Tensor,
    disp_EX: Tensor,
    coord_NX: Tensor,
    center_E: Tensor,
    neighbor_E: Tensor,
) -> Tensor:
    """Return atomic virials (N, 3, 3), eV (docs/deepmd-format.md, 3.10).

    Each pair end carries force times position, plus the gradient of sum_i x_ib e_i, in which the
    positions x_i count as constants; the second part moves virial between atoms and sums to 0.

    Args:
        gradient_EX: (E, 3) gradient of the energy.
        moment_gradients_YEX: (3, E, 3) gradients of sum_i x_ib e_i for b = x, y, z.
        disp_EX: (E, 3).
        coord_NX: (N, 3) positions; the split between atoms depends on them, the sum does not.
        center_E: Centre atom of each slot.
        neighbor_E: Neighbour atom of each slot.
    """
    center_EX = coord_NX[center_E]
    moment_EXY = moment_gradients_YEX.permute(1, 2, 0)
    at_center = gradient_EX.unsqueeze(-1) * center_EX.unsqueeze(-2) - moment_EXY
    at_neighbor = moment_EXY - gradient_EX.unsqueeze(-1) * (center_EX + disp_EX).unsqueeze(-2)
    result = gradient_EX.new_zeros(coord_NX.shape[0], 3, 3)
    return result.index_add(0, center_E, at_center).index_add(0, neighbor_E, at_neighbor)


Gradients = list[Tensor | None]
"""Gradients with respect to several tensors; None is 0."""


def gradients(
    outputs: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> Gradients:
    """Return the gradients of sum(cotangent * output) with respect to the inputs."""
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(outputs, cotangents, strict=True)
        if output is not None and cotangent is not None and output.requires_grad
    ]
    if not pairs or not inputs:
        return [None] * len(inputs)
    with torch.enable_grad():
        total = _weighted([cotangent for _, cotangent in pairs], *(output for output, _ in pairs))
    found = torch.autograd.grad(
        total,
        list(inputs),
        retain_graph=retain_graph or create_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    return list(found)


class _Weighted(torch.autograd.Function):
    """Stands for sum(cotangent * output): its gradients are the cotangents, its value is not made.

    Cotangents that are given to `torch.autograd.grad` cost an import of sympy, 0.3 s.
    """

    @staticmethod
    def forward(ctx: Any, cotangents: Sequence[Tensor], *outputs: Tensor) -> Tensor:
        ctx.cotangents = cotangents
        return outputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.cotangents


_weighted: Callable[..., Tensor] = _Weighted.apply
