"""One evaluation of the network over blocks of atoms: energies and their gradients.

The network is cut into steps: the first makes the features of a block's atoms and pairs, each layer
of the repformer is one, and the head, which makes energies of features, is the last. Blocks meet
only between steps, where neighbours' features are gathered, so that worker threads take them side
by side. A step keeps its graph, or computes its values once more when it is differentiated, so that
memory is bounded. Sums over blocks have a fixed order: results do not depend on the number of
workers. `trained_pass` differentiates once more, for the gradients of parameters.
"""

# Axes:  A all atoms, in processing order   N centre atoms of a block   K neighbour slots
#        C atom channels (g1_dim)   E slots of all blocks

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from dpa2.model.attention import AttentionFactors, PairGeometry
from dpa2.model.blocks import NeighborBlock
from dpa2.model.derivatives import Gradients, gradients
from dpa2.model.descriptor import Descriptor, TypeTables
from dpa2.model.repformer import FoldedWeights, RepformerLayer
from dpa2.model.workers import for_each

# Blocks are dealt to workers in this many portions at most, and gradients of atoms are summed
# portion by portion.
PORTIONS = 16

Head = Callable[[Tensor, NeighborBlock], Tensor]
"""Features (N, C) of a block's atoms to their energies (N,), eV."""

Inputs = Callable[[], Sequence[Tensor]]
Outputs = Callable[..., Sequence[Tensor]]


class Step:
    """Outputs as a function of inputs, evaluated when made.

    Args:
        function: Inputs to outputs. It must not hold the pass it belongs to: that circle would keep
            all graphs until it is collected.
        inputs: Returns the inputs; asked again when values are computed once more.
        keep: Keep the graph instead.
    """

    def __init__(
        self,
        function: Outputs,
        inputs: Inputs,
        *,
        keep: bool,
    ) -> None:
        self._function = function
        self._inputs = inputs
        self._kept: tuple[list[Tensor], Sequence[Tensor]] | None = None
        if keep:
            self._kept = self._with_graph()
            self.outputs = [output.detach() for output in self._kept[1]]
        else:
            with torch.no_grad():
                self.outputs = list(function(*inputs()))

    def reverse(self, cotangents: Sequence[Tensor | None], *, retain: bool) -> Gradients:
        """Return the gradients of sum(cotangent * output) with respect to the inputs.

        Without `retain` a kept graph is given up.
        """
        leaves, outputs = self._kept or self._with_graph()
        retain = retain and self._kept is not None
        found = gradients(outputs, cotangents, leaves, retain_graph=retain)
        if not retain:
            self._kept = None
        return found

    def _with_graph(self) -> tuple[list[Tensor], Sequence[Tensor]]:
        """Return the inputs as leaves, and the outputs that they make."""
        leaves = [tensor.detach().requires_grad_(True) for tensor in self._inputs()]
        with torch.enable_grad():
            return leaves, self._function(*leaves)


class Portions:
    """Blocks, dealt to workers that take them side by side.

    Args:
        blocks: Consecutive blocks that cover all atoms.

    Attributes:
        blocks: As given.
    """

    def __init__(self, blocks: Sequence[NeighborBlock]) -> None:
        self.blocks = blocks
        count = min(PORTIONS, len(blocks))
        self._bounds = [len(blocks) * k // count for k in range(count + 1)]
        self._owners: dict[int, int] = {}

    def for_each(self, work: Callable[[int, int], None]) -> None:
        """Call `work` with the number of every block and of its portion."""

        def take(portion: int) -> None:
            for index in range(self._bounds[portion], self._bounds[portion + 1]):
                work(index, portion)

        for_each(take, len(self._bounds) - 1, self._owners)

    def steps(self, make: Callable[[int], Step]) -> list[Step]:
        """Return the steps that `make` makes for the blocks, by their number."""
        made: dict[int, Step] = {}

        def work(index: int, _: int) -> None:
            made[index] = make(index)

        self.for_each(work)
        return [made[index] for index in range(len(self.blocks))]


class AtomSum:
    """A sum over blocks of what each adds to the features of its centres and of their neighbours.

    Args:
        blocks: All blocks.
        like_AC: Has the shape and the type of the sum.
    """

    def __init__(self, blocks: Sequence[NeighborBlock], like_AC: Tensor) -> None:
        self._blocks = blocks
        self._own_AC = torch.zeros_like(like_AC)
        self._of_neighbors: dict[int, Tensor] = {}

    def add(
        self, index: int, portion: int, own_NC: Tensor | None, others_NKC: Tensor | None
    ) -> None:
        """Add what a block adds to its centres and to its neighbours."""
        block = self._blocks[index]
        if own_NC is not None:
            centers(self._own_AC, block).copy_(own_NC)
        if others_NKC is not None:
            if portion not in self._of_neighbors:
                self._of_neighbors[portion] = torch.zeros_like(self._own_AC)
            rows = block.neighbors[:, : block.width_repformer].flatten()
            self._of_neighbors[portion].index_add_(0, rows, others_NKC.flatten(0, 1))

    def total(self) -> Tensor:
        """Return the sum (A, C), portion by portion."""
        for portion in sorted(self._of_neighbors):
            self._own_AC += self._of_neighbors[portion]
        return self._own_AC


class DescriptorPass:
    """The descriptor of all atoms, evaluated when made.

    Args:
        descriptor: The module.
        blocks: Consecutive blocks that cover all atoms.
        keep: How many blocks keep their graphs.

    Attributes:
        g1: (A, C), features after the last layer.
        tables: What depends on types alone.
        keep: As given.
    """

    def __init__(
        self, descriptor: Descriptor, blocks: Sequence[NeighborBlock], *, keep: int
    ) -> None:
        self.blocks = blocks
        self.portions = Portions(blocks)
        self.keep = keep
        self._descriptor = descriptor
        # What of a block's geometry does not depend on displacements, after its first step.
        self._geometries: dict[int, PairGeometry] = {}
        self._layers: list[list[Step]] = []
        self.tables, self._folded = self._constants()
        before = self._first = self.portions.steps(self._first_step)
        self.g1 = torch.cat([step.outputs[0] for step in self._first])
        for k in range(len(self._folded)):
            before = self._evaluate_layer(k, before)

    def _constants(self) -> tuple[TypeTables, list[FoldedWeights]]:
        """Return what all blocks share: what depends on types, and products of weights."""
        with torch.no_grad():
            layers = [layer.fold() for layer in layers_of(self._descriptor)]
            return self._descriptor.tables(), layers

    def _step(self, layer: int | None, function: Outputs, inputs: Inputs, *, keep: bool) -> Step:  # noqa: ARG002 - who needs it overrides this
        """Return a step of a layer, or the first one."""
        return Step(function, inputs, keep=keep)

    def _first_step(self, index: int) -> Step:
        """Return the step from displacements to g1, g2, h2, switch and attention factors."""
        descriptor, tables, block = self._descriptor, self.tables, self.blocks[index]
        repformer, keep, geometries = descriptor.repformer, index < self.keep, self._geometries

        def function(disp_NKX: Tensor) -> list[Tensor]:
            disp_NKX = disp_NKX.to(descriptor.dtype)
            g1_NC = descriptor.initial_atoms(block, disp_NKX, tables)
            geometry, g2_NKP = repformer.start(block, disp_NKX)
            if index not in geometries:
                switch = geometry.weight.detach()
                geometries[index] = geometry._replace(h2=geometry.h2.detach(), weight=switch)
            # Where graphs are kept, so are the factors; elsewhere each layer makes them anew.
            factors = repformer.shared_factors(geometry) if keep else None
            return [g1_NC, g2_NKP, geometry.h2, geometry.weight, *(factors or ())]

        return self._step(None, function, lambda: [block.disp], keep=keep)

    def _evaluate_layer(self, k: int, before: list[Step]) -> list[Step]:
        """Return the steps of layer k that follow those `before`, and put their atoms into g1."""
        g1_AC, repformer = self.g1, self._descriptor.repformer
        layer, folded = layers_of(self._descriptor)[k], self._folded[k]

        def make(index: int) -> Step:
            block, constants = self.blocks[index], self._geometries[index]
            others = [*before[index].outputs[1:3], *self._first[index].outputs[3:]]

            def function(
                g1_NC: Tensor, g1_NKC: Tensor, g2_NKP: Tensor, h2_NKX: Tensor, *fixed: Tensor
            ) -> Sequence[Tensor]:
                geometry = constants._replace(h2=h2_NKX, weight=fixed[0])
                if len(fixed) > 1:
                    factors: AttentionFactors | None = AttentionFactors(*fixed[1:])
                else:
                    factors = repformer.shared_factors(geometry)
                found: Sequence[Tensor] = layer(
                    g1_NC, g1_NKC, g2_NKP, h2_NKX, geometry, factors, folded
                )
                return found

            return self._step(
                k,
                function,
                lambda: [centers(g1_AC, block), gathered(g1_AC, block), *others],
                keep=index < self.keep,
            )

        self._layers.append(self.portions.steps(make))
        self.g1 = torch.cat([step.outputs[0] for step in self._layers[-1]])
        return self._layers[-1]

    def reverse(self, cotangent_AC: Tensor, *, retain: bool) -> Tensor:
        """Return the gradient (E, 3) of sum(cotangent * g1) at the displacements of every slot.

        Args:
            cotangent_AC: (A, C).
            retain: Keep the graphs for another gradient.
        """
        # Cotangents of g2 and h2, and of the switch and the factors, which all layers use.
        pairs: list[Sequence[Tensor | None]] = [[None, None] for _ in self.blocks]
        fixed: list[Sequence[Tensor | None]] = [
            [None for _ in step.outputs[3:]] for step in self._first
        ]
        for steps in reversed(self._layers):
            cotangent_AC = self._reverse_layer(steps, cotangent_AC, pairs, fixed, retain=retain)
        results: dict[int, Tensor] = {}

        def work(index: int, _: int) -> None:
            block = self.blocks[index]
            (found,) = self._first[index].reverse(
                [centers(cotangent_AC, block), *pairs[index], *fixed[index]], retain=retain
            )
            results[index] = torch.zeros_like(block.disp) if found is None else found

        self.portions.for_each(work)
        return torch.cat([results[index].flatten(0, 1) for index in range(len(self.blocks))])

    def _reverse_layer(
        self,
        steps: list[Step],
        cotangent_AC: Tensor,
        pairs: list[Sequence[Tensor | None]],
        fixed: list[Sequence[Tensor | None]],
        *,
        retain: bool,
    ) -> Tensor:
        """Return the cotangent of g1 before a layer; replaces those of g2, h2, adds to the rest."""
        total = AtomSum(self.blocks, cotangent_AC)

        def work(index: int, portion: int) -> None:
            own, others, *rest = steps[index].reverse(
                [centers(cotangent_AC, self.blocks[index]), *pairs[index]], retain=retain
            )
            total.add(index, portion, own, others)
            pairs[index] = rest[:2]
            fixed[index] = [added(a, b) for a, b in zip(fixed[index], rest[2:], strict=True)]

        self.portions.for_each(work)
        return total.total()


class EnergyPass:
    """Atomic energies of described atoms, evaluated when made.

    Args:
        described: The descriptor.
        head: What makes energies of features.

    Attributes:
        energy: (A,) eV.
    """

    def __init__(self, described: DescriptorPass, head: Head) -> None:
        self._described = described

        def make(index: int) -> Step:
            block = described.blocks[index]
            return self._step(
                lambda g1_NC: [head(g1_NC, block)],
                lambda: [centers(described.g1, block)],
                keep=index < described.keep,
            )

        self._steps = described.portions.steps(make)
        self.energy = torch.cat([step.outputs[0] for step in self._steps])

    def _step(self, function: Outputs, inputs: Inputs, *, keep: bool) -> Step:
        return Step(function, inputs, keep=keep)

    def gradient(self, weight_A: Tensor | None = None, *, retain: bool = False) -> Tensor:
        """Return d sum(weight * energy) / d displacement of every slot (E, 3), eV/Å.

        Args:
            weight_A: (A,) constants; None: ones.
            retain: Keep the graphs for another gradient; without them it takes longer.
        """
        described = self._described
        weights_A = torch.ones_like(self.energy) if weight_A is None else weight_A
        total = AtomSum(described.blocks, described.g1)

        def work(index: int, portion: int) -> None:
            weights_N = centers(weights_A, described.blocks[index])
            (found,) = self._steps[index].reverse([weights_N], retain=retain)
            total.add(index, portion, found, None)

        described.portions.for_each(work)
        return described.reverse(total.total(), retain=retain)


def layers_of(descriptor: Descriptor) -> list[RepformerLayer]:
    """Return the layers of the repformer."""
    return cast("list[RepformerLayer]", list(descriptor.repformer.layers))


def centers(values_AC: Tensor, block: NeighborBlock) -> Tensor:
    """Return the rows (N, C) of a block's atoms."""
    return values_AC[block.start : block.stop]


def gathered(values_AC: Tensor, block: NeighborBlock) -> Tensor:
    """Return the rows (N, K, C) of a block's neighbours."""
    index_NK = block.neighbors[:, : block.width_repformer]
    return values_AC.index_select(0, index_NK.flatten()).view(*index_NK.shape, values_AC.shape[1])


def added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients."""
    if one is None or other is None:
        return other if one is None else one
    return one + other
