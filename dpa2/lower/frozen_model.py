# ruff: noqa: ARG002 - deepmd-kit passes arguments that only other models use
# ruff: noqa: SLF001 - the tables of tensors and children of torch's modules
"""The scripted model: our network behind the methods that deepmd-kit and LAMMPS call.

docs/deepmd-format.md, 8.1.

deepmd-kit rebuilds its own model from a frozen file's state dict (`dp change-bias`,
`convert-backend`), so that must have exactly its keys. Our network therefore holds its tensors as
constants, which no state dict lists, and a tree of modules without code carries the same tensors
under deepmd-kit's names.
"""

# Axes:  F frames   N atoms per frame   M atoms and ghosts per frame   A all centres
#        E slots of all blocks   T types   X, Y = x, y, z

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from dpa2.formats.weights import held_tensors, to_deepmd_state
from dpa2.lower.ghost_exchange import Ghosts
from dpa2.lower.layout import Laid, Layout, lower_outputs
from dpa2.lower.periodic_images import Extended, all_pairs, extend, nearest_neighbors
from dpa2.model.blocks import pair_indices
from dpa2.model.derivatives import differentiate, virials
from dpa2.model.energy import EnergyModel
from schemas.input.weights import weights


class FrozenEnergyModel(nn.Module):
    """An energy model as deepmd-kit's readers of `.pth` files expect it.

    Lengths are in Å, energies in eV. Inputs may be float32 or float64; energies and virials of
    frames are float64, everything else has the type of the positions.

    `forward_common` and `forward_common_lower` are compiled because the others call them. Exported
    methods would have no default arguments while TorchScript compiles their callers.

    Args:
        model: A trained model; it is taken apart and must not be used afterwards.
        kept: Attributes that the file keeps besides, by name.
    """

    min_nbor_dist: Tensor

    def __init__(self, model: EnergyModel, kept: Dict[str, Any]) -> None:
        super().__init__()
        self.register_buffer("min_nbor_dist", model.min_nbor_dist.detach().clone())
        self.rcut = float(model.rcut)
        self.nsel = int(model.cutoffs().nsel)
        self.num_fparam = model.fitting.num_fparam
        self.num_aparam = model.fitting.num_aparam
        self.defaults_fparam = model.fitting.has_default_fparam
        for name, value in kept.items():
            setattr(self, name, value)
        self.layout = Layout(model.cutoffs(), model.plan())
        self.atomic_model = named_weights(model).branch("atomic_model")
        self.contributes_T = model.contributes_T.detach() > 0
        self.descriptor = model.descriptor
        self.fitting = model.fitting
        make_constant(self.descriptor)
        make_constant(self.fitting)

    def forward(
        self,
        coord: Tensor,
        atype: Tensor,
        box: Optional[Tensor] = None,
        fparam: Optional[Tensor] = None,
        aparam: Optional[Tensor] = None,
        do_atomic_virial: bool = False,
        charge_spin: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Evaluate frames; see `forward_common` for the arguments.

        Returns:
            atom_energy (F, N, 1), energy (F, 1), force (F, N, 3), virial (F, 9), mask (F, N) and,
            on request, atom_virial (F, N, 9).
        """
        found = self.forward_common(coord, atype, box, fparam, aparam, do_atomic_virial)
        return public_outputs(found, "", do_atomic_virial)

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: Tensor,
        extended_atype: Tensor,
        nlist: Tensor,
        mapping: Optional[Tensor] = None,
        fparam: Optional[Tensor] = None,
        aparam: Optional[Tensor] = None,
        do_atomic_virial: bool = False,
        comm_dict: Optional[Dict[str, Tensor]] = None,
        charge_spin: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Evaluate atoms with ghosts; see `forward_common_lower` for the arguments.

        Returns:
            atom_energy (F, N, 1), energy (F, 1), extended_force (F, M, 3), virial (F, 9),
            mask (F, N) and, on request, extended_virial (F, M, 9).
        """
        found = self.forward_common_lower(
            extended_coord,
            extended_atype,
            nlist,
            mapping,
            fparam,
            aparam,
            do_atomic_virial,
            comm_dict,
        )
        return public_outputs(found, "extended_", do_atomic_virial)

    def forward_common(
        self,
        coord: Tensor,
        atype: Tensor,
        box: Optional[Tensor] = None,
        fparam: Optional[Tensor] = None,
        aparam: Optional[Tensor] = None,
        do_atomic_virial: bool = False,
        coord_corr_for_virial: Optional[Tensor] = None,
        charge_spin: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Evaluate frames.

        Args:
            coord: (F, N, 3) or (F, N * 3), Å.
            atype: (F, N) int64; -1 where there is no atom.
            box: (F, 3, 3) or (F, 9), rows are vectors; None: not periodic.
            fparam: (F, numb_fparam).
            aparam: (F, N, numb_aparam).
            do_atomic_virial: Also compute virials of atoms.
            coord_corr_for_virial: Of spin models; must be None.
            charge_spin: Of charge-spin models; not used.

        Returns:
            energy (F, N, 1), energy_redu (F, 1), energy_derv_r (F, N, 1, 3), energy_derv_c_redu
            (F, 1, 9), mask (F, N) and, on request, energy_derv_c (F, N, 1, 9).
        """
        assert coord_corr_for_virial is None, "this model has no spins"
        F, N = atype.shape[0], atype.shape[1]
        system, nlist = self.neighborhood(coord, atype, box)
        found = self.forward_common_lower(
            system.coord, system.types, nlist, system.mapping, fparam, aparam, do_atomic_virial
        )
        index = (system.mapping + torch.arange(F, device=atype.device).unsqueeze(1) * N).flatten()
        folded: Dict[str, Tensor] = {
            "energy_redu": found["energy_redu"],
            "energy_derv_c_redu": found["energy_derv_c_redu"],
            "mask": found["mask"],
            "energy": found["energy"].to(coord.dtype),
        }
        names = ["energy_derv_r", "energy_derv_c"] if do_atomic_virial else ["energy_derv_r"]
        for name in names:
            values = found[name].flatten(0, 1)
            total = values.new_zeros([F * N, 1, values.shape[2]]).index_add(0, index, values)
            folded[name] = total.view(F, N, 1, values.shape[2]).to(coord.dtype)
        return folded

    def forward_common_lower(
        self,
        extended_coord: Tensor,
        extended_atype: Tensor,
        nlist: Tensor,
        mapping: Optional[Tensor] = None,
        fparam: Optional[Tensor] = None,
        aparam: Optional[Tensor] = None,
        do_atomic_virial: bool = False,
        comm_dict: Optional[Dict[str, Tensor]] = None,
        extra_nlist_sort: bool = False,
        extended_coord_corr: Optional[Tensor] = None,
        charge_spin: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Evaluate atoms with ghosts.

        Args:
            extended_coord: (F, M, 3) or (F, M * 3), Å; the N atoms come first.
            extended_atype: (F, M) int64; -1 where there is no atom.
            nlist: (F, N, W) int64, -1 in empty slots; in any order, perhaps beyond the cutoff.
            mapping: (F, M) int64, the atom of which each is an image; not used with `comm_dict`.
            fparam: (F, numb_fparam).
            aparam: (F, N, numb_aparam).
            do_atomic_virial: Also compute how the virial is shared among atoms.
            comm_dict: Who sends features of ghosts to whom (LAMMPS).
            extra_nlist_sort: Not used: lists are always sorted.
            extended_coord_corr: Of spin models; must be None.
            charge_spin: Of charge-spin models; not used.

        Returns:
            energy (F, N, 1), energy_redu (F, 1), energy_derv_r (F, M, 1, 3) the forces,
            energy_derv_c (F, M, 1, 9) virials whose sum is right even where not requested,
            energy_derv_c_redu (F, 1, 9), mask (F, N) int32.
        """
        assert extended_coord_corr is None, "this model has no spins"
        F, N, M = nlist.shape[0], nlist.shape[1], extended_atype.shape[1]
        coord_FMX = extended_coord.detach().view(F, M, 3).to(torch.float64)
        parent = self.parents(mapping, F, N, M) if comm_dict is None else None
        laid = self.layout(coord_FMX, extended_atype, nlist, parent)
        ghosts: Optional[Ghosts] = None
        if comm_dict is not None:
            assert F == 1, "processes exchange one frame at a time"
            ghosts = Ghosts(laid.place, M, comm_dict)
        energy_A = self.atomic_energies(laid, ghosts, fparam, aparam)
        center_E, neighbor_E = pair_indices(laid.blocks, laid.center, laid.neighbor)
        coord_BX = coord_FMX.flatten(0, 1)
        center_AX: Optional[Tensor] = None
        if do_atomic_virial:
            center_AX = coord_BX[laid.center]
        found = differentiate(energy_A, laid.blocks, center_E, neighbor_E, coord_BX, center_AX)
        # Where it is not split, only the sum over atoms and ghosts of the virial is right.
        virial_BXY = found.force.unsqueeze(-1) * coord_BX.unsqueeze(-2)
        split = found.atom_virial
        if split is not None:
            virial_BXY = split
        frame_E = torch.div(center_E, max(M, 1), rounding_mode="floor")
        return lower_outputs(
            energy_A.detach()[laid.place].view(F, N),
            self.atom_mask(extended_atype[:, :N]),
            found.force.view(F, M, 3),
            virial_BXY.view(F, M, 3, 3),
            virials(found.gradient, found.disp, frame_E, F),
            extended_coord.dtype,
        )

    @torch.jit.export
    def forward_embedding(
        self,
        coord: Tensor,
        atype: Tensor,
        box: Optional[Tensor] = None,
        fparam: Optional[Tensor] = None,
        aparam: Optional[Tensor] = None,
        charge_spin: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Return what the network makes of each atom; arguments as in `forward_common`.

        Returns:
            descriptor (F, N, D), atomic_feature (F, N, H) the last hidden layer of the fitting net,
            structural_feature (F, H) its sum over the atoms; in the networks' precision.
        """
        F, N = atype.shape[0], atype.shape[1]
        system, nlist = self.neighborhood(coord, atype, box)
        laid = self.layout(system.coord, system.types, nlist, system.mapping)
        descriptor_AD = self.descriptor(laid.blocks, None).detach()
        fparam_A, aparam_A = self.parameters_of_atoms(laid, fparam, aparam)
        inputs_AC = self.fitting.inputs(descriptor_AD, fparam_A, aparam_A)
        feature_AH = self.fitting.features(inputs_AC).detach()[laid.place]
        feature_FNH = feature_AH.view(F, N, feature_AH.shape[1])
        mask_FN1 = self.atom_mask(atype).unsqueeze(-1)
        return {
            "descriptor": descriptor_AD[laid.place].view(F, N, descriptor_AD.shape[1]),
            "atomic_feature": feature_FNH,
            "structural_feature": (feature_FNH * mask_FN1).sum(dim=1),
        }

    @torch.jit.export
    def format_nlist(
        self,
        extended_coord: Tensor,
        extended_atype: Tensor,
        nlist: Tensor,
        extra_nlist_sort: bool = False,
    ) -> Tensor:
        """Return the list (F, N, nsel) that the model makes of `nlist` (F, N, W)."""
        F, M = extended_atype.shape[0], extended_atype.shape[1]
        coord_FMX = extended_coord.detach().view(F, M, 3).to(torch.float64)
        found = nearest_neighbors(coord_FMX, extended_atype, nlist, self.rcut, self.nsel)
        lacking = self.nsel - found.indices.shape[2]
        return torch.nn.functional.pad(found.indices, [0, lacking], value=-1.0)

    def neighborhood(
        self, coord: Tensor, atype: Tensor, box: Optional[Tensor]
    ) -> Tuple[Extended, Tensor]:
        """Return the atoms with their images, and the nearest neighbours of the atoms."""
        F, N = atype.shape[0], atype.shape[1]
        coord_FNX = coord.detach().view(F, N, 3).to(torch.float64)
        box_FXX: Optional[Tensor] = None
        if box is not None:
            box_FXX = box.detach().view(F, 3, 3).to(torch.float64)
        system = extend(coord_FNX, atype, box_FXX, self.rcut)
        return system, all_pairs(system, N, self.rcut, self.nsel)

    def parents(self, mapping: Optional[Tensor], F: int, N: int, M: int) -> Tensor:
        """Return the atom of which each atom or ghost is an image (F, M)."""
        if mapping is not None:
            return mapping.view(F, M)
        assert M == N, "ghosts need `mapping` or `comm_dict`: they have the features of other atoms"
        device = self.min_nbor_dist.device
        return torch.arange(N, device=device).unsqueeze(0).expand(F, N)

    def atomic_energies(
        self,
        laid: Laid,
        ghosts: Optional[Ghosts],
        fparam: Optional[Tensor],
        aparam: Optional[Tensor],
    ) -> Tensor:
        """Return energies (A,), eV, in processing order."""
        descriptor_AD = self.descriptor(laid.blocks, ghosts)
        fparam_A, aparam_A = self.parameters_of_atoms(laid, fparam, aparam)
        energy_A = self.fitting(descriptor_AD.to(torch.float64), laid.types, fparam_A, aparam_A)
        bias_T = self.atomic_model.out_bias.flatten().to(torch.float64)  # type: ignore[operator]
        counts_A = laid.real & self.contributes_T[laid.types]
        return (energy_A + bias_T[laid.types]) * counts_A

    def parameters_of_atoms(
        self, laid: Laid, fparam: Optional[Tensor], aparam: Optional[Tensor]
    ) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        """Return fparam (A, P) and aparam (A, Q) of every centre, in processing order."""
        fparam_A: Optional[Tensor] = None
        aparam_A: Optional[Tensor] = None
        if self.num_fparam > 0:
            if fparam is not None:
                fparam_A = fparam.detach().view(-1, self.num_fparam)[laid.frame]
            else:
                assert self.defaults_fparam, "this model needs fparam"
        if self.num_aparam > 0:
            assert aparam is not None, "this model needs aparam"
            aparam_A = aparam.detach().reshape(-1, self.num_aparam)[laid.order]
        return fparam_A, aparam_A

    def atom_mask(self, types_FN: Tensor) -> Tensor:
        """Return (F, N) int32: 1 where there is an atom whose type has an energy."""
        return ((types_FN >= 0) & self.contributes_T[types_FN.clamp(min=0)]).to(torch.int32)


def public_outputs(
    found: Dict[str, Tensor], prefix: str, do_atomic_virial: bool
) -> Dict[str, Tensor]:
    """Return results under the names of `forward`, or with a prefix of `forward_lower`."""
    result = {
        "atom_energy": found["energy"],
        "energy": found["energy_redu"],
        prefix + "force": found["energy_derv_r"].squeeze(-2),
        "virial": found["energy_derv_c_redu"].squeeze(-2),
        "mask": found["mask"],
    }
    if do_atomic_virial:
        name = prefix + "virial" if len(prefix) > 0 else "atom_virial"
        result[name] = found["energy_derv_c"].squeeze(-2)
    return result


class NamedTensors(nn.Module):
    """A branch of a state dict: tensors and further branches."""

    def branch(self, name: str) -> "NamedTensors":
        """Return the branch of that name, made where it does not exist."""
        if name not in self._modules:
            self.add_module(name, NamedTensors())
        found = self._modules[name]
        assert isinstance(found, NamedTensors)
        return found


def named_weights(model: EnergyModel) -> NamedTensors:
    """Return the model's tensors in a tree whose state dict is deepmd-kit's."""
    root = NamedTensors()
    held, state = held_tensors(model), to_deepmd_state(model)
    made: dict[str, Tensor] = {}
    for weight in weights(model.config):
        key = weight.name if weight.is_empty else weight.place
        if key not in made:
            tensor = state[weight.name].detach()
            if not weight.is_empty and held[weight.place].shape == tensor.shape:
                # The very storage our network uses, so that the file holds it once.
                tensor = held[weight.place].detach()
            made[key] = nn.Parameter(tensor) if weight.is_parameter else tensor
        _attach(root, weight.name, made[key])
    return root


def _attach(root: NamedTensors, key: str, tensor: Tensor) -> None:
    *path, name = key.split(".")
    holder = root
    for part in path:
        holder = holder.branch(part)
    if isinstance(tensor, nn.Parameter):
        holder.register_parameter(name, tensor)
    else:
        holder.register_buffer(name, tensor)


def make_constant(module: nn.Module) -> None:
    """Turn all parameters and buffers below `module` into plain attributes, in place.

    TorchScript saves them and moves them to a device on loading, but state dicts leave them out.
    """
    for child in module.modules():
        for tensors in (child._parameters, child._buffers):
            for name, tensor in list(tensors.items()):
                del tensors[name]
                setattr(child, name, None if tensor is None else tensor.detach())
        for name, grandchild in list(child._modules.items()):
            if isinstance(grandchild, nn.ParameterList):
                del child._modules[name]
                values = [tensor.detach() for tensor in grandchild]
                setattr(child, name, torch.jit.Attribute(values, List[Tensor]))
