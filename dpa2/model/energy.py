"""The energy model: blocks of atoms in, energies and their derivatives out."""

# Axes:  F frames   N atoms per frame (padded)   A real atoms of all frames   E slots of all blocks
#        X, Y = x, y, z

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpa2.model.blocks import BlockPlan, NeighborBlock
from dpa2.model.cutoffs import Cutoffs
from dpa2.model.derivatives import (
    Derivatives,
    Gradients,
    derivatives,
    displacement_gradient,
    virials,
)
from dpa2.model.descriptor import Descriptor
from dpa2.model.fitting import EnergyFitting
from dpa2.model.graph import Graph, build_graph
from dpa2.model.neighbors import PairFinder, pairs_within
from dpa2.model.network_pass import DescriptorPass, EnergyPass, Head
from dpa2.model.trained_pass import EnergyAndGradient, TrainedDescriptorPass, TrainedEnergyPass
from dpa2.model.workers import leading, num_workers
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
            value_bytes=self.descriptor.dtype.itemsize,
            needs_empty_slot=self.descriptor.repformer.needs_empty_slot,
            all_repinit_slots=self.descriptor.repinit.needs_empty_slots,
            all_three_body_slots=three_body is not None and three_body.needs_empty_slots,
        )

    @leading
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
            create_graph: Keep the result differentiable with respect to the parameters; without
                the two below.
            atomic_virial: Also return atomic virials (three more backward passes).
            with_descriptor: Also return the descriptor.
        """
        if create_graph:
            assert not atomic_virial, "no loss compares atomic virials"
            assert not with_descriptor, "no loss compares descriptors"
            return self._trained(graph, fparam, aparam)
        return self._evaluated(graph, fparam, aparam, atomic_virial, with_descriptor)

    @leading
    def _evaluated(
        self,
        graph: Graph,
        fparam: Tensor | None,
        aparam: Tensor | None,
        atomic_virial: bool,
        with_descriptor: bool,
    ) -> Prediction:
        described = self.described(graph)
        made = self.energies(described, graph, fparam, aparam)
        found = self.predict(made, graph, atomic_virial=atomic_virial)
        if not with_descriptor:
            return found
        return replace(found, descriptor=self._descriptors(described, graph))

    @leading
    def described(self, graph: Graph, *, gradient: bool = True) -> DescriptorPass:
        """Return a pass of the descriptor over a batch; `gradient`: forces are wanted of it."""
        keep = self._num_kept(graph) if gradient else 0
        return DescriptorPass(self.descriptor, graph.blocks, keep=keep)

    @leading
    def energies(
        self, described: DescriptorPass, graph: Graph, fparam: Tensor | None, aparam: Tensor | None
    ) -> EnergyPass:
        """Return the atomic energies that this model's head makes of described atoms."""
        return EnergyPass(described, self._head(described.tables.tebd, graph, fparam, aparam))

    def _head(
        self, tebd_TE: Tensor, graph: Graph, fparam: Tensor | None, aparam: Tensor | None
    ) -> Head:
        """Return what makes energies of the features of a block's atoms."""

        def head(g1_NC: Tensor, block: NeighborBlock) -> Tensor:
            descriptor_ND = self.descriptor.with_types(g1_NC, block.types, tebd_TE)
            rows = slice(block.start, block.stop)
            return self._atomic_energies(descriptor_ND, rows, graph, fparam, aparam)

        return head

    def _atomic_energies(
        self,
        descriptor_ND: Tensor,
        rows: slice,
        graph: Graph,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Return the energies (N,), eV, of the atoms `rows`."""
        types_N = graph.types[rows]
        energy_N: Tensor = self.fitting(
            descriptor_ND.to(torch.float64),
            types_N,
            None if fparam is None else fparam[graph.frame[rows]],
            None if aparam is None else aparam.flatten(0, 1)[graph.slot[rows]],
        )
        return (energy_N + self.out_bias[types_N]) * self.contributes_T[types_N]

    @leading
    def predict(
        self, made: EnergyPass, graph: Graph, *, atomic_virial: bool = False, retain: bool = False
    ) -> Prediction:
        """Return what follows from atomic energies.

        Args:
            made: From `energies`.
            graph: The batch.
            atomic_virial: Also return atomic virials (three more backward passes).
            retain: Keep the graphs of the descriptor, as another head on it needs.
        """
        weights = graph.coord.unbind(dim=1) if atomic_virial else ()
        moments = [made.gradient(weight_A, retain=True) for weight_A in weights]
        center_E, neighbor_E = graph.pair_indices()
        found = derivatives(
            made.gradient(retain=retain),
            moments,
            graph.blocks,
            center_E,
            neighbor_E,
            graph.coord,
        )
        return _prediction(graph, made.energy, found, graph.frame[center_E])

    def _trained(self, graph: Graph, fparam: Tensor | None, aparam: Tensor | None) -> Prediction:
        """Return a prediction that is differentiable with respect to the parameters."""
        keep = self._num_kept(graph, trained=True)
        alone = num_workers(self.device) == 1 and keep == len(graph.blocks)
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if alone or not parameters:
            energy_A, gradient_EX = self._in_one_graph(graph, fparam, aparam)
        else:
            made, gradient_EX = self._trained_pass(graph, fparam, aparam, keep)
            energy_A, gradient_EX = EnergyAndGradient.apply(  # type: ignore[no-untyped-call]
                partial(self._differentiate, made), made.energy, gradient_EX, *parameters
            )
        center_E, neighbor_E = graph.pair_indices()
        found = derivatives(gradient_EX, [], graph.blocks, center_E, neighbor_E, graph.coord)
        return _prediction(graph, energy_A, found, graph.frame[center_E])

    @leading
    def _trained_pass(
        self, graph: Graph, fparam: Tensor | None, aparam: Tensor | None, keep: int
    ) -> tuple[TrainedEnergyPass, Tensor]:
        """Return a pass, and the gradient (E, 3) with respect to displacements."""
        described = TrainedDescriptorPass(self.descriptor, graph.blocks, keep=keep)
        head = self._head(described.tables.tebd, graph, fparam, aparam)
        made = TrainedEnergyPass(described, head, self.fitting)
        return made, made.gradient()

    def _in_one_graph(
        self, graph: Graph, fparam: Tensor | None, aparam: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return energies (A,) and gradient (E, 3); a seventh less to compute than over blocks."""
        with torch.enable_grad():
            descriptor_AD = self.descriptor(graph.blocks)
            energy_A = self._atomic_energies(descriptor_AD, slice(None), graph, fparam, aparam)
        return energy_A, displacement_gradient(energy_A, graph.blocks, create_graph=True)

    @leading
    def _differentiate(
        self,
        made: TrainedEnergyPass,
        of_energy_A: Tensor,
        of_gradient_EX: Tensor,
        parameters: Sequence[Tensor],
    ) -> Gradients:
        return made.parameter_gradients(of_energy_A, of_gradient_EX, parameters)

    def _num_kept(self, graph: Graph, *, trained: bool = False) -> int:
        """Return how many blocks keep their graphs."""
        num_layers = len(self.descriptor.repformer.layers)
        return self.plan().num_kept(graph.blocks, num_layers, trained)

    @leading
    def describe(self, graph: Graph) -> Tensor:
        """Return the descriptors (F, N, D) of a batch."""
        return self._descriptors(self.described(graph, gradient=False), graph)

    def _descriptors(self, described: DescriptorPass, graph: Graph) -> Tensor:
        with torch.no_grad():
            types, tebd = graph.types, described.tables.tebd
            descriptor_AD: Tensor = self.descriptor.with_types(described.g1, types, tebd)
            return graph.padded(descriptor_AD.to(torch.float64))

    def extra_repr(self) -> str:
        """Return the element names, for `print(model)`."""
        return f"type_map={self.type_map}"


def _prediction(graph: Graph, energy_A: Tensor, found: Derivatives, frame_E: Tensor) -> Prediction:
    atom_energy_FN = graph.padded(energy_A)
    return Prediction(
        # In the atoms' own order, as deepmd-kit: an ulp here is a step of Adam elsewhere.
        energy=atom_energy_FN.sum(dim=1),
        force=graph.padded(found.force),
        virial=virials(found.gradient, found.disp, frame_E, graph.num_frames),
        atom_energy=atom_energy_FN,
        atom_virial=None if found.atom_virial is None else graph.padded(found.atom_virial),
    )


def tensors_to(device: torch.device, array: NDArray[Any] | None) -> Tensor | None:
    """Return a float64 tensor of `array` on `device`, or None."""
    if array is None:
        return None
    return torch.as_tensor(array, dtype=torch.float64, device=device)
