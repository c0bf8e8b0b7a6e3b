"""Training's evaluation over blocks: energies and gradients, differentiated by the parameters.

A loss L has derivatives by energies e and by their gradient g with respect to displacements. With
dL/dg as directions in which displacements move, dL/dparameter is the gradient of
sum(dL/de * e) + sum(dL/dg * g), taken in two sweeps over layers and blocks: forward, for the
derivatives along the directions, and back.
"""

# Axes:  A all atoms, in processing order   C atom channels (g1_dim)   E slots of all blocks

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dpa2.model.blocks import NeighborBlock
from dpa2.model.derivatives import Gradients, gradients
from dpa2.model.descriptor import Descriptor, TypeTables
from dpa2.model.network_pass import (
    AtomSum,
    DescriptorPass,
    EnergyPass,
    Head,
    Inputs,
    Outputs,
    Step,
    added,
    centers,
    gathered,
    layers_of,
)
from dpa2.model.repformer import FoldedWeights

Differentiate = Callable[[Tensor, Tensor, Sequence[Tensor]], Gradients]


class TrainedStep(Step):
    """A step whose gradient is differentiated, too.

    Args:
        function: See `Step`.
        inputs: See `Step`.
        keep: See `Step`.
        shared: Leaves whose gradients are wanted: parameters, and what is made of them.
        num_trained: Inputs that depend on parameters: the first so many.
    """

    def __init__(
        self,
        function: Outputs,
        inputs: Inputs,
        *,
        keep: bool,
        shared: Sequence[Tensor],
        num_trained: int,
    ) -> None:
        self._shared = shared
        self._num_trained = num_trained
        self._cotangents: Gradients = []
        self._directions: Sequence[Tensor | None] = ()
        self._whole: tuple[list[Tensor], Sequence[Tensor], Gradients] | None = None
        self._maker = get_ident()
        super().__init__(function, inputs, keep=keep)

    def reverse(self, cotangents: Sequence[Tensor | None], *, retain: bool) -> Gradients:
        """Return the gradients of sum(cotangent * output) with respect to the inputs."""
        self._cotangents = [
            None if cotangent is None else cotangent.detach().requires_grad_(True)
            for cotangent in cotangents
        ]
        if self._kept is None:
            return super().reverse(cotangents, retain=retain)
        if self._maker != get_ident():
            # Autograd adds gradients in an order that it counts in each thread: a graph is made by
            # one thread, or results would depend on which one was free.
            self._kept = self._with_graph()
        self._whole = self._reversed()
        return [None if found is None else found.detach() for found in self._whole[2]]

    def tangents(self, directions: Sequence[Tensor | None]) -> Gradients:
        """Return the derivatives of the outputs as the inputs move in `directions`.

        They are the gradients of sum(direction * gradient that `reverse` returned) with respect to
        its cotangents.
        """
        self._directions = directions
        known = [cotangent for cotangent in self._cotangents if cotangent is not None]
        keep = self._whole is not None
        found = iter(gradients(self._reversed()[2], directions, known, retain_graph=keep))
        return [None if cotangent is None else next(found) for cotangent in self._cotangents]

    def reverse_both(self, cotangents: Sequence[Tensor | None]) -> tuple[Gradients, Gradients]:
        """Return the gradients of two sums together, and give up the graph; after `tangents`.

        The sums are of cotangent * output and of direction * gradient that `reverse` returned.

        Returns:
            With respect to the trained inputs, and to what is shared.
        """
        leaves, outputs, found = self._reversed()
        self._kept = self._whole = None
        trained = leaves[: self._num_trained]
        both = gradients(
            [*outputs, *found], [*cotangents, *self._directions], [*trained, *self._shared]
        )
        return both[: len(trained)], both[len(trained) :]

    def _reversed(self) -> tuple[list[Tensor], Sequence[Tensor], Gradients]:
        """Return inputs, outputs and gradients in one graph, made once more where not kept."""
        if self._whole is not None:
            return self._whole
        leaves, outputs = self._kept or self._with_graph()
        return leaves, outputs, gradients(outputs, self._cotangents, leaves, create_graph=True)


class TrainedDescriptorPass(DescriptorPass):
    """The descriptor of all atoms, evaluated when made, for gradients of parameters.

    `reverse`, `tangents` and `reverse_both` are called once each, in this order.

    Args:
        descriptor: The module.
        blocks: Consecutive blocks that cover all atoms.
        keep: How many blocks keep their graphs.

    Attributes:
        sums: Gradients of parameters.
    """

    def __init__(
        self, descriptor: Descriptor, blocks: Sequence[NeighborBlock], *, keep: int
    ) -> None:
        self.sums = ParameterSums()
        # Inputs of a layer that depend on parameters: g1, neighbours' g1, g2, perhaps h2.
        vectors = any(layer.updates_vectors for layer in layers_of(descriptor))
        self._num_trained = 4 if vectors else 3
        self._shared: dict[int | None, list[Tensor]] = {}
        super().__init__(descriptor, blocks, keep=keep)

    def _constants(self) -> tuple[TypeTables, list[FoldedWeights]]:
        descriptor, leaf = self._descriptor, self.sums.leaf
        layers = layers_of(descriptor)
        with torch.enable_grad():
            tables = TypeTables(*map(leaf, descriptor.tables()))
            folded = [FoldedWeights(*map(leaf, layer.fold())) for layer in layers]
        self._shared[None] = _trained(
            tables,
            descriptor.repinit,
            descriptor.three_body,
            descriptor.shape_map,
            descriptor.repformer.pair_embedding,
        )
        for index, layer in enumerate(layers):
            self._shared[index] = _trained(folded[index], layer)
        return tables, folded

    def _step(self, layer: int | None, function: Outputs, inputs: Inputs, *, keep: bool) -> Step:
        return TrainedStep(
            function,
            inputs,
            keep=keep,
            shared=self._shared[layer],
            num_trained=0 if layer is None else self._num_trained,
        )

    def tangents(self, directions: Sequence[Tensor]) -> Tensor:
        """Return the derivative (A, C) of g1 as displacements move in `directions`, per block."""
        pairs: dict[int, Gradients] = {}
        fixed: dict[int, Gradients] = {}

        def work(index: int, _: int) -> None:
            found = _twice(self._first)[index].tangents([directions[index]])
            pairs[index], fixed[index] = found[:3], found[3:]

        self.portions.for_each(work)
        tangent_AC = self._atoms(pairs)
        for steps in self._layers:
            tangent_AC = self._layer_tangents(_twice(steps), tangent_AC, pairs, fixed)
        return tangent_AC

    def _layer_tangents(
        self,
        steps: list[TrainedStep],
        before_AC: Tensor,
        pairs: dict[int, Gradients],
        fixed: dict[int, Gradients],
    ) -> Tensor:
        """Return the tangent of g1 after a layer; replaces those of what the layer returns."""

        def work(index: int, _: int) -> None:
            block, others = self.blocks[index], pairs[index][1:]
            of_atoms = [centers(before_AC, block), gathered(before_AC, block)]
            pairs[index] = steps[index].tangents([*of_atoms, *others, *fixed[index]])

        self.portions.for_each(work)
        return self._atoms(pairs)

    def _atoms(self, pairs: dict[int, Gradients]) -> Tensor:
        """Return the first entries of all blocks as one tensor (A, C)."""
        result_AC = torch.zeros_like(self.g1)
        for index, block in enumerate(self.blocks):
            part = pairs[index][0]
            if part is not None:
                centers(result_AC, block).copy_(part)
        return result_AC

    def reverse_both(self, cotangent_AC: Tensor) -> None:
        """Add the gradients of sum(cotangent * g1) and of sum(direction * gradient) to `sums`."""
        pairs: dict[int, Gradients] = {index: [None, None] for index in range(len(self.blocks))}
        for k in reversed(range(len(self._layers))):
            cotangent_AC = self._reverse_layer_both(k, cotangent_AC, pairs)

        def work(index: int, portion: int) -> None:
            step = _twice(self._first)[index]
            # What else the first step returns does not depend on parameters.
            rest = [None for _ in step.outputs[3:]]
            own = centers(cotangent_AC, self.blocks[index])
            _, shared = step.reverse_both([own, *pairs[index], *rest])
            self.sums.add(portion, self._shared[None], shared)

        self.portions.for_each(work)
        self.sums.join(self._shared[None])

    def _reverse_layer_both(
        self, k: int, cotangent_AC: Tensor, pairs: dict[int, Gradients]
    ) -> Tensor:
        """Return the cotangent of g1 before layer k; replaces those of g2 and h2."""
        total = AtomSum(self.blocks, cotangent_AC)

        def work(index: int, portion: int) -> None:
            cotangents = [centers(cotangent_AC, self.blocks[index]), *pairs[index]]
            found, shared = _twice(self._layers[k])[index].reverse_both(cotangents)
            total.add(index, portion, found[0], found[1])
            pairs[index] = [*found[2:], None][:2]
            self.sums.add(portion, self._shared[k], shared)

        self.portions.for_each(work)
        self.sums.join(self._shared[k])
        return total.total()


class ParameterSums:
    """Sums over blocks of gradients of parameters, and of tensors that are made of parameters."""

    def __init__(self) -> None:
        self._made: list[tuple[Tensor, Tensor]] = []
        self._of_portions: dict[int, Gradients] = {}
        self._totals: dict[int, Tensor | None] = {}

    def leaf(self, made: Tensor | None) -> Any:
        """Return a leaf for a tensor that is made of parameters; other tensors as they are."""
        if made is None or not made.requires_grad:
            return made
        leaf = made.detach().requires_grad_(True)
        self._made.append((made, leaf))
        return leaf

    def add(self, portion: int, shared: Sequence[Tensor], found: Gradients) -> None:
        """Add the gradients of one block with respect to `shared`."""
        known = self._of_portions.get(portion, [None for _ in shared])
        self._of_portions[portion] = [added(a, b) for a, b in zip(known, found, strict=True)]

    def join(self, shared: Sequence[Tensor]) -> None:
        """Join the sums of portions, in their order, once all blocks have added theirs."""
        for portion in sorted(self._of_portions):
            for leaf, found in zip(shared, self._of_portions[portion], strict=True):
                self._totals[id(leaf)] = added(self._totals.get(id(leaf)), found)
        self._of_portions.clear()

    def gradients(self, parameters: Sequence[Tensor]) -> Gradients:
        """Return the gradients with respect to `parameters`; called once."""
        made = [tensor for tensor, _ in self._made]
        cotangents = [self._totals.get(id(leaf)) for _, leaf in self._made]
        through = gradients(made, cotangents, parameters)
        return [
            added(self._totals.get(id(parameter)), found)
            for parameter, found in zip(parameters, through, strict=True)
        ]


class TrainedEnergyPass(EnergyPass):
    """Atomic energies of described atoms, evaluated when made, for gradients of parameters.

    Args:
        described: The descriptor.
        head: What makes energies of features.
        fitting: The modules whose parameters the head uses.
    """

    def __init__(self, described: TrainedDescriptorPass, head: Head, fitting: nn.Module) -> None:
        self._shared = _trained([described.tables.tebd], fitting)
        self._trained_descriptor = described
        super().__init__(described, head)

    def _step(self, function: Outputs, inputs: Inputs, *, keep: bool) -> Step:
        return TrainedStep(function, inputs, keep=keep, shared=self._shared, num_trained=1)

    def parameter_gradients(
        self, of_energy_A: Tensor, of_gradient_EX: Tensor, parameters: Sequence[Tensor]
    ) -> Gradients:
        """Return the gradients of sum(of_energy * energy) + sum(of_gradient * gradient).

        Called once, after `gradient()`.
        """
        described, steps = self._trained_descriptor, _twice(self._steps)
        disps = [block.disp for block in described.blocks]
        sizes = [disp.shape[0] * disp.shape[1] for disp in disps]
        parts = torch.split(of_gradient_EX, sizes)
        tangent_AC = described.tangents(
            [part.view_as(disp) for part, disp in zip(parts, disps, strict=True)]
        )
        total = AtomSum(described.blocks, described.g1)

        def work(index: int, portion: int) -> None:
            block, step = described.blocks[index], steps[index]
            step.tangents([centers(tangent_AC, block)])
            (found,), shared = step.reverse_both([centers(of_energy_A, block)])
            total.add(index, portion, found, None)
            described.sums.add(portion, self._shared, shared)

        described.portions.for_each(work)
        described.sums.join(self._shared)
        described.reverse_both(total.total())
        return described.sums.gradients(parameters)


class EnergyAndGradient(torch.autograd.Function):
    """Energies (A,) and their gradient (E, 3) as functions of the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        differentiate: Differentiate,
        energy_A: Tensor,
        gradient_EX: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return energies and gradient as they are; `differentiate` is called for the backward."""
        ctx.differentiate, ctx.parameters = differentiate, parameters
        # Other tensors: what is differentiated would hold its result, which holds it.
        return energy_A.detach(), gradient_EX.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_energy_A: Tensor, of_gradient_EX: Tensor) -> tuple[Any, ...]:
        """Return the gradients with respect to the parameters."""
        return (None, None, None, *ctx.differentiate(of_energy_A, of_gradient_EX, ctx.parameters))


def _trained(tensors: Sequence[Tensor | None], *modules: nn.Module | None) -> list[Tensor]:
    """Return what can be trained of tensors and of the parameters of modules."""
    parameters = [p for module in modules if module is not None for p in module.parameters()]
    return [t for t in (*tensors, *parameters) if t is not None and t.requires_grad]


def _twice(steps: Sequence[Step]) -> list[TrainedStep]:
    """Return the steps of a trained pass as what they are."""
    return cast("list[TrainedStep]", steps)
