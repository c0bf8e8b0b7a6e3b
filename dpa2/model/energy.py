"""The energy model: blocks of atoms in, energies and their derivatives out."""

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   E slots of all blocks
#        X, Y = x, y, z

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpa2.model.blocks import BlockPlan
from dpa2.model.cutoffs import Cutoffs
from dpa2.model.derivatives import differentiate, virials
from dpa2.model.descriptor import Descriptor
from dpa2.model.fitting import EnergyFitting
from dpa2.model.graph import Graph, build_graph
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.input.model import Model


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about a batch; padding atoms hold zeros. float64.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å.
        virial: (F, 3, 3) eV, = -dE/dstrain.
        atom_energy: (F, N) eV.
        atom_virial: (F, N, 3, 3) eV, or None.
        descriptor: (F, N, D), or None.
    """

    energy: Tensor
    force: Tensor
    virial: Tensor
    atom_energy: Tensor
    atom_virial: Tensor | None = None
    descriptor: Tensor | None = None


class EnergyModel(nn.Module):
    """DPA-2 with an energy fitting net.

    Args:
        config: The checked `model` section; every neighbour capacity is a number.

    Raises:
        ConfigError: If a capacity is still `auto`, or the precision is unusable.
    """

    out_bias: Tensor
    out_std: Tensor
    min_nbor_dist: Tensor
    contributes_T: Tensor

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.config = config
        self.type_map = list(config.type_map)
        num_types = len(self.type_map)
        self.descriptor = Descriptor(config.descriptor, self.type_map)
        self.fitting = EnergyFitting(config.fitting_net, self.descriptor.dim_out, num_types)
        self.register_buffer("out_bias", torch.zeros(num_types, dtype=torch.float64))
        self.register_buffer("out_std", torch.ones(num_types, dtype=torch.float64))
        self.register_buffer("min_nbor_dist", torch.tensor(-1.0, dtype=torch.float64))
        contributes = torch.ones(num_types, dtype=torch.float64)
        for excluded in config.atom_exclude_types:
            if 0 <= excluded < num_types:
                contributes[excluded] = 0.0
        self.register_buffer("contributes_T", contributes, persistent=False)

    @property
    def rcut(self) -> float:
        """Radius of the neighbour search, Å."""
        return self.descriptor.repinit.statistics.rcut

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.out_bias.device

    def cutoffs(self) -> Cutoffs:
        """Return the radii and capacities of the neighbour lists."""
        blocks = self.descriptor.blocks().values()
        return Cutoffs.of(self.config, keep_slots=any(block.per_slot() for block in blocks))

    def plan(self) -> BlockPlan:
        """Return how this model wants atoms cut into blocks."""
        descriptor, three_body = self.config.descriptor, self.descriptor.three_body
        repformer = descriptor.repformer
        attends = repformer.update_g2_has_attn or repformer.update_h2
        return BlockPlan(
            self.cutoffs(),
            pair_channels=max(descriptor.repinit.neuron[-1], repformer.g1_dim),
            square_channels=max(
                repformer.attn2_nhead if attends else 1,
                descriptor.repinit.three_body_neuron[-1] if three_body is not None else 1,
            ),
            needs_empty_slot=self.descriptor.repformer.needs_empty_slot,
            all_repinit_slots=self.descriptor.repinit.needs_empty_slots,
            all_three_body_slots=three_body is not None and three_body.needs_empty_slots,
        )

    def graph(
        self,
        coord: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        atom_types: NDArray[np.int64],
        *,
        for_descriptor: bool = False,
        find_pairs: PairFinder = pairs_within,
    ) -> Graph:
        """Search the neighbours of a batch of frames.

        Args:
            coord: (F, N, 3) Å.
            box: (F, 3, 3) Å, rows are vectors; None: not periodic.
            atom_types: (F, N) index into the type map, -1 is padding.
            for_descriptor: See `dpa2.model.neighbors`; only models with statistics per slot notice.
            find_pairs: What searches the pairs of a frame.

        Raises:
            FrameError: If frames have atoms at one place, a position that is not finite or a cell
                without volume.
        """
        return build_graph(
            coord,
            box,
            atom_types,
            self.cutoffs(),
            self.plan(),
            self.device,
            for_descriptor=for_descriptor,
            find_pairs=find_pairs,
        )

    def statistics_changed(self) -> None:
        """Call after buffers of statistics were set: notes which closed forms they need."""
        self.descriptor.refresh()

    def forward(
        self,
        graph: Graph,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
        *,
        create_graph: bool = False,
        atomic_virial: bool = False,
        with_descriptor: bool = False,
    ) -> Prediction:
        """Return energies and derivatives of a batch.

        Args:
            graph: From `self.graph(...)`.
            fparam: (F, numb_fparam).
            aparam: (F, N, numb_aparam).
            create_graph: Keep the result differentiable with respect to the parameters.
            atomic_virial: Also return atomic virials (three more backward passes).
            with_descriptor: Also return the descriptor.
        """
        with torch.enable_grad():
            descriptor_AD = self.atomic_descriptors(graph)
            energy_A = self.atomic_energies(descriptor_AD, graph, fparam, aparam)
        found = self.predict(
            energy_A, graph, create_graph=create_graph, atomic_virial=atomic_virial
        )
        if not with_descriptor:
            return found
        return replace(found, descriptor=graph.padded(descriptor_AD.detach()))

    def predict(
        self,
        energy_A: Tensor,
        graph: Graph,
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
        atomic_virial: bool = False,
    ) -> Prediction:
        """Return what follows from atomic energies (A,), eV, in processing order.

        Args:
            energy_A: From `atomic_energies`.
            graph: The batch.
            create_graph: Keep the result differentiable with respect to the parameters.
            retain_graph: Keep the graph of the energies, as another head on it needs.
            atomic_virial: Also return atomic virials (three more backward passes).
        """
        center_E, neighbor_E = graph.pair_indices()
        found = differentiate(
            energy_A,
            graph.blocks,
            center_E,
            neighbor_E,
            graph.coord,
            graph.coord if atomic_virial else None,
            create_graph,
            retain_graph,
        )
        if not create_graph:
            energy_A = energy_A.detach()
        atom_energy_FN = graph.padded(energy_A)
        frame_E = graph.frame[center_E]
        return Prediction(
            # In the atoms' own order, as deepmd-kit: an ulp here is a step of Adam elsewhere.
            energy=atom_energy_FN.sum(dim=1),
            force=graph.padded(found.force),
            virial=virials(found.gradient, found.disp, frame_E, graph.num_frames),
            atom_energy=atom_energy_FN,
            atom_virial=None if found.atom_virial is None else graph.padded(found.atom_virial),
        )

    def describe(self, graph: Graph) -> Tensor:
        """Return the descriptors (F, N, D) of a batch, without gradients."""
        with torch.no_grad():
            return graph.padded(self.atomic_descriptors(graph))

    def atomic_descriptors(self, graph: Graph) -> Tensor:
        """Return the descriptors (A, D), float64, in processing order."""
        described: Tensor = self.descriptor(graph.blocks)
        return described.to(torch.float64)

    def atomic_energies(
        self, descriptor_AD: Tensor, graph: Graph, fparam: Tensor | None, aparam: Tensor | None
    ) -> Tensor:
        """Return the atomic energies (A,), eV, that this model's head makes of descriptors."""
        fparam_A = None if fparam is None else fparam[graph.frame]
        aparam_A = None if aparam is None else aparam.flatten(0, 1)[graph.slot]
        energy_A: Tensor = self.fitting(descriptor_AD, graph.types, fparam_A, aparam_A)
        return (energy_A + self.out_bias[graph.types]) * self.contributes_T[graph.types]

    def extra_repr(self) -> str:
        """Return the element names, for `print(model)`."""
        return f"type_map={self.type_map}"


def tensors_to(device: torch.device, array: NDArray[Any] | None) -> Tensor | None:
    """Return a float64 tensor of `array` on `device`, or None."""
    if array is None:
        return None
    return torch.as_tensor(array, dtype=torch.float64, device=device)
