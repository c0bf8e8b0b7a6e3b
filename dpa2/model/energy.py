"""The energy model: blocks of atoms in, energies and their derivatives out."""

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   E slots of all blocks
#        X, Y = x, y, z

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpa2.model import derivatives
from dpa2.model.blocks import NeighborBlock
from dpa2.model.descriptor import Descriptor
from dpa2.model.fitting import EnergyFitting
from dpa2.model.graph import BlockPlan, Graph, build_graph
from dpa2.model.neighbors import Cutoffs, PairFinder, pairs_within
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
        config: The checked `model` section that it was built from.
        descriptor: The descriptor.
        fitting: The fitting net.
        keep: (T, T) bool, False where the model removes a pair of types from the neighbour list.
    """

    out_bias: Tensor
    out_std: Tensor
    min_nbor_dist: Tensor
    contributes_T: Tensor

    def __init__(
        self,
        config: Model,
        descriptor: Descriptor,
        fitting: EnergyFitting,
        keep: NDArray[np.bool_] | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.type_map = list(config.type_map)
        self.descriptor = descriptor
        self.fitting = fitting
        num_types = len(self.type_map)
        self.register_buffer("out_bias", torch.zeros(num_types, dtype=torch.float64))
        self.register_buffer("out_std", torch.ones(num_types, dtype=torch.float64))
        self.register_buffer("min_nbor_dist", torch.tensor(-1.0, dtype=torch.float64))
        contributes = torch.ones(num_types, dtype=torch.float64)
        for excluded in config.atom_exclude_types:
            if 0 <= excluded < num_types:
                contributes[excluded] = 0.0
        self.register_buffer("contributes_T", contributes, persistent=False)
        self._keep = keep

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
        repinit = self.descriptor.repinit.statistics
        three_body = self.descriptor.three_body
        repformer = self.descriptor.repformer.statistics
        return Cutoffs(
            rcut=repinit.rcut,
            nsel=repinit.nsel,
            three_body=None
            if three_body is None
            else (three_body.statistics.rcut, three_body.statistics.nsel),
            repformer=(repformer.rcut, repformer.nsel),
            keep=self._keep,
            keep_slots=any(block.per_slot() for block in self.descriptor.blocks().values()),
        )

    def plan(self) -> BlockPlan:
        """Return how this model wants atoms cut into blocks."""
        descriptor = self.config.descriptor
        repformer = descriptor.repformer
        attends = repformer.update_g2_has_attn or repformer.update_h2
        three_body = self.descriptor.three_body
        return BlockPlan(
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
            for_descriptor: See `slot_order`; only models with statistics per slot notice.
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
        if not graph.blocks:
            return self._nothing(
                graph, atomic_virial=atomic_virial, with_descriptor=with_descriptor
            )
        descriptor_AD, energy_A = self.atomic_energies(graph, fparam, aparam)
        center_E, neighbor_E = graph.pair_indices()
        gradient_EX = derivatives.displacement_gradient(
            energy_A, graph.blocks, create_graph=create_graph
        )
        if not create_graph:
            energy_A = energy_A.detach()
        disp_EX = torch.cat([block.disp.detach().flatten(0, 1) for block in graph.blocks])
        F, N = graph.num_frames, graph.num_atoms
        force_AX = derivatives.forces(gradient_EX, center_E, neighbor_E, len(energy_A))
        atom_energy_FN = self._padded(energy_A, graph).view(F, N)
        return Prediction(
            # In the atoms' own order, as deepmd-kit: an ulp here is a step of Adam elsewhere.
            energy=atom_energy_FN.sum(dim=1),
            force=self._padded(force_AX, graph),
            virial=derivatives.virials(gradient_EX, disp_EX, graph.frame[center_E], F),
            atom_energy=atom_energy_FN,
            atom_virial=self._atomic_virial(
                graph, fparam, aparam, gradient_EX, disp_EX, center_E, neighbor_E
            )
            if atomic_virial
            else None,
            descriptor=self._padded(descriptor_AD.detach(), graph) if with_descriptor else None,
        )

    def describe(self, graph: Graph) -> Tensor:
        """Return the descriptors (F, N, D) of a batch, without gradients."""
        with torch.no_grad():
            return self._padded(self.descriptor(self._cast(graph.blocks)).to(torch.float64), graph)

    def atomic_energies(
        self, graph: Graph, fparam: Tensor | None, aparam: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return (descriptor (A, D), atomic energies (A,) eV) in processing order."""
        with torch.enable_grad():
            descriptor_AD = self.descriptor(self._cast(graph.blocks)).to(torch.float64)
            fparam_A = None if fparam is None else fparam[graph.frame]
            aparam_A = None if aparam is None else aparam.flatten(0, 1)[graph.slot]
            energy_A = self.fitting(descriptor_AD, graph.types, fparam_A, aparam_A)
            energy_A = energy_A + self.out_bias[graph.types]
            return descriptor_AD, energy_A * self.contributes_T[graph.types]

    def _cast(self, blocks: list[NeighborBlock]) -> list[NeighborBlock]:
        dtype = self.descriptor.dtype
        return [block._replace(disp=block.disp.to(dtype)) for block in blocks]

    def _nothing(self, graph: Graph, *, atomic_virial: bool, with_descriptor: bool) -> Prediction:
        """Return the prediction of frames without any atom."""
        F, N = graph.num_frames, graph.num_atoms
        zeros = self.out_bias.new_zeros
        width = int(self.fitting.dim_descriptor)
        return Prediction(
            energy=zeros(F),
            force=zeros(F, N, 3),
            virial=zeros(F, 3, 3),
            atom_energy=zeros(F, N),
            atom_virial=zeros(F, N, 3, 3) if atomic_virial else None,
            descriptor=zeros(F, N, width) if with_descriptor else None,
        )

    def _padded(self, values_A: Tensor, graph: Graph) -> Tensor:
        """Return values of real atoms (A, ...) as (F, N, ...), zeros elsewhere."""
        shape = (graph.num_frames * graph.num_atoms, *values_A.shape[1:])
        flat = values_A.new_zeros(shape).index_add(0, graph.slot, values_A)
        return flat.view(graph.num_frames, graph.num_atoms, *values_A.shape[1:])

    def _atomic_virial(
        self,
        graph: Graph,
        fparam: Tensor | None,
        aparam: Tensor | None,
        gradient_EX: Tensor,
        disp_EX: Tensor,
        center_E: Tensor,
        neighbor_E: Tensor,
    ) -> Tensor:
        _, energy_A = self.atomic_energies(graph, fparam, aparam)
        moments = [
            derivatives.displacement_gradient(
                energy_A, graph.blocks, weight=graph.coord[:, axis], retain_graph=axis < 2
            )
            for axis in range(3)
        ]
        virial_AXY = derivatives.atomic_virials(
            gradient_EX.detach(), torch.stack(moments), disp_EX, graph.coord, center_E, neighbor_E
        )
        return self._padded(virial_AXY, graph)

    def extra_repr(self) -> str:
        """Return the element names, for `print(model)`."""
        return f"type_map={self.type_map}"


def tensors_to(device: torch.device, array: NDArray[Any] | None) -> Tensor | None:
    """Return a float64 tensor of `array` on `device`, or None."""
    if array is None:
        return None
    return torch.as_tensor(array, dtype=torch.float64, device=device)
