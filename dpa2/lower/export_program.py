"""An energy model as one program of array operators, whatever the numbers of frames and atoms.

`torch.export` cannot see through `torch.autograd.grad`, so `make_fx` writes down the operators of
the energy and of its gradient first, with symbolic sizes; what it wrote is then exported.
"""

# Axes:  F frames   N atoms per frame   M atoms and ghosts   A centres (F * N)   K neighbour slots
#        W slots given   X, Y = x, y, z

import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from dpa2.lower.layout import Layout, centers, lower_outputs
from dpa2.model.blocks import NeighborBlock, Slots
from dpa2.model.derivatives import differentiate
from dpa2.model.energy import EnergyModel

# Numbers of frames, atoms, atoms and ghosts, and slots to trace with.
_SIZES = (2, 5, 7, 11, 13, 17, 19)


class LowerModel:
    """The lower interface of deepmd-kit as one function without control flow.

    All centres form one block that is as wide as the model's neighbour lists, so that the only
    sizes that vary are those of the arguments.

    Args:
        model: A trained model. It stays as it is, but its parameters lose their gradients.
        atomic_virial: Split virials among atoms exactly, which takes three more backward passes.
            Otherwise only their sum over the atoms is right.
    """

    def __init__(self, model: EnergyModel, *, atomic_virial: bool) -> None:
        self.model = model.eval().requires_grad_(False)
        self.atomic_virial = atomic_virial
        self.layout = Layout(model.cutoffs(), model.plan()).to(model.device)
        self.num_fparam = model.fitting.num_fparam
        self.num_aparam = model.fitting.num_aparam

    def __call__(
        self, coord: Tensor, types: Tensor, nlist: Tensor, mapping: Tensor, *parameters: Tensor
    ) -> dict[str, Tensor]:
        """Evaluate atoms with ghosts.

        Args:
            coord: (F, M, 3) float64, Å; the N atoms come first.
            types: (F, M) int64; -1 where there is no atom.
            nlist: (F, N, W) int64, -1 in empty slots; in any order, perhaps beyond the cutoff.
            mapping: (F, M) int64, the atom of which each is an image.
            parameters: fparam (F, P) if the model takes it, then aparam (F, N, Q) if it does.

        Returns:
            energy (F, N, 1) eV, mask (F, N) int32, energy_redu (F, 1) eV, energy_derv_r
            (F, M, 1, 3) the forces, eV/Å, energy_derv_c (F, M, 1, 9) eV, energy_derv_c_redu
            (F, 1, 9) eV; float64 but for the mask. deepmd-kit counts on this order.
        """
        F, N, M = nlist.shape[0], nlist.shape[1], types.shape[1]
        coord = coord.detach()
        # However short the caller's list is, what is cut from it has a constant width.
        long_list = torch.nn.functional.pad(nlist, [0, self.layout.nsel], value=-1)
        slots = self.layout.slots(coord, types, long_list)
        center_A, frame_A = centers(F, N, M, types.device)
        first_F1 = torch.arange(F, device=types.device).unsqueeze(1) * N
        block = self._block(slots, (mapping + first_F1).flatten(), F * N)
        real_A = types[:, :N].flatten() >= 0
        counts_A = real_A & (self.model.contributes_T > 0)[slots.types]
        energy_A = self._energies(block, frame_A, parameters) * counts_A
        K = block.present.shape[1]
        found = differentiate(
            energy_A,
            [block],
            center_A.unsqueeze(1).expand(F * N, K).flatten(),
            slots.neighbors.flatten(),
            coord.flatten(0, 1),
            coord[:, :N].flatten(0, 1) if self.atomic_virial else None,
        )
        force_FMX = found.force.view(F, M, 3)
        if found.atom_virial is None:
            virial_FMXY = force_FMX.unsqueeze(-1) * coord.unsqueeze(-2)
        else:
            virial_FMXY = found.atom_virial.view(F, M, 3, 3)
        # Not `virials`: compilers add up equal rows faster than they scatter. Empty slots have no
        # gradient, but their displacements are finite: nothing to mask.
        outer_EXY = found.gradient.unsqueeze(-1) * found.disp.unsqueeze(-2)
        return lower_outputs(
            energy_A.detach().view(F, N),
            counts_A.view(F, N),
            force_FMX,
            virial_FMXY,
            -outer_EXY.view(F, N * K, 3, 3).sum(dim=1),
            torch.float64,
        )

    def _block(self, slots: Slots, parent_M: Tensor, num_centers: int) -> NeighborBlock:
        """Return all centres as one block, in the caller's order and of constant width."""
        widths = (self.layout.nsel, max(1, self.layout.three_nsel), self.layout.repformer_nsel)
        # Empty slots must stay within the table, even if they read from anywhere.
        rows_AK = parent_M[slots.neighbors] * slots.present
        return self.layout.plan.block(slots._replace(neighbors=rows_AK), 0, num_centers, widths)

    def _energies(
        self, block: NeighborBlock, frame_A: Tensor, parameters: tuple[Tensor, ...]
    ) -> Tensor:
        """Return the energies (A,) eV, as if all centres counted."""
        model = self.model
        descriptor_AD = model.descriptor([block]).to(torch.float64)
        given = list(parameters)
        fparam_A = given.pop(0)[frame_A] if self.num_fparam else None
        aparam_A = given.pop(0).flatten(0, 1) if self.num_aparam else None
        energy_A = model.fitting(descriptor_AD, block.types, fparam_A, aparam_A)
        return energy_A + model.out_bias[block.types]


def export_model(
    model: EnergyModel, *, atomic_virial: bool = False, taken_apart: Sequence[Any] = ()
) -> ExportedProgram:
    """Return the program of a model; see `LowerModel` for its arguments and results.

    Args:
        model: On the CPU; move the program (`torch.export.passes.move_to_device_pass`) instead.
        atomic_virial: See `LowerModel`.
        taken_apart: Operators of `torch.ops.aten` to be written down as simpler ones.
    """
    lower = LowerModel(model, atomic_virial=atomic_virial)
    arguments = _sample(lower)
    table: Any = torch._decomp.get_decompositions(taken_apart)  # noqa: SLF001 - no public name
    with _quiet_export():
        traced = make_fx(
            lower,
            decomposition_table=table,
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
            _error_on_data_dependent_ops=True,
        )(*arguments)
        program = torch.export.export(
            traced,
            arguments,
            dynamic_shapes=_dynamic_sizes(lower),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    _forget_inequalities(program)
    return program


def _sample(lower: LowerModel) -> tuple[Tensor, ...]:
    """Return arguments to trace with; the numbers in them do not matter.

    Sizes that are equal are taken to be the same one, and 0 and 1 for constants.
    """
    taken = {3, lower.num_fparam, lower.num_aparam}
    F, N, M, W = [size for size in _SIZES if size not in taken][:4]
    generator = torch.Generator().manual_seed(0)
    spread = lower.layout.rcut
    coord = torch.rand(F, M, 3, dtype=torch.float64, generator=generator) * spread
    types = torch.zeros(F, M, dtype=torch.int64)
    nlist = (torch.arange(W) % M).expand(F, N, W).contiguous()
    mapping = (torch.arange(M) % N).expand(F, M).contiguous()
    arguments = [coord, types, nlist, mapping]
    if lower.num_fparam:
        arguments.append(torch.zeros(F, lower.num_fparam, dtype=torch.float64))
    if lower.num_aparam:
        arguments.append(torch.zeros(F, N, lower.num_aparam, dtype=torch.float64))
    return tuple(arguments)


def _dynamic_sizes(lower: LowerModel) -> tuple[dict[int, Dim], ...]:
    frames, atoms = Dim("nframes", min=1), Dim("nloc", min=1)
    extended, slots = Dim("nall", min=1), Dim("nnei", min=1)
    sizes = [
        {0: frames, 1: extended},
        {0: frames, 1: extended},
        {0: frames, 1: atoms, 2: slots},
        {0: frames, 1: extended},
    ]
    if lower.num_fparam:
        sizes.append({0: frames})
    if lower.num_aparam:
        sizes.append({0: frames, 1: atoms})
    return tuple(sizes)


def _forget_inequalities(program: ExportedProgram) -> None:
    """Remove assertions that two sizes differ: the operators do not depend on it.

    torch notes that the sizes of the sample differ wherever it asked. Frames without ghosts or with
    a single atom would be refused.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default and (  # noqa: SLF001
            not isinstance(node.args[0], torch.fx.Node) or node.args[0].target is not operator.eq
        ):
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Hide what torch says about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
