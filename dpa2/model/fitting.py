"""The energy fitting net: descriptor to atomic energy (docs/deepmd-format.md, 3.9)."""

# Axes:  N atoms   D descriptor width   T types

from itertools import pairwise
from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.layers import Activation, Linear, close_hidden, descend, dtype_of
from schemas.input.model import EnergyFitting as FittingConfig

# Axes:  N atoms   D descriptor width   T types


class EnergyFitting(nn.Module):
    """One network for all types; fparam, aparam and a case vector are appended to its input.

    Args:
        config: The section of the fitting net.
        dim_descriptor: D.
        num_types: T.
    """

    bias_atom_e: Tensor
    fparam_avg: Tensor
    fparam_inv_std: Tensor
    aparam_avg: Tensor
    aparam_inv_std: Tensor
    case_embd: Tensor
    default_fparam_tensor: Tensor

    def __init__(self, config: FittingConfig, dim_descriptor: int, num_types: int) -> None:
        super().__init__()
        self.dtype = dtype = dtype_of(config.precision)
        self.dim_descriptor = dim_descriptor
        self.num_fparam = num_fparam = config.numb_fparam
        self.num_aparam = num_aparam = config.numb_aparam
        self.dim_case = dim_case = config.dim_case_embd
        self.feeds_aparam = num_aparam > 0 and not config.use_aparam_as_mask
        # The network's value for an empty descriptor (docs/deepmd-format.md, 1.5, atom_ener).
        self.subtract_vacuum = any(energy is not None for energy in config.atom_ener)
        width = dim_descriptor + num_fparam + (num_aparam if self.feeds_aparam else 0) + dim_case
        widths = [width, *config.neuron]
        seed = descend(config.seed, 0)
        self.hidden_layers = nn.ModuleList(
            Linear(a, b, timestep=config.resnet_dt, dtype=dtype, seed=descend(seed, k))
            for k, (a, b) in enumerate(pairwise(widths))
        )
        self.output = Linear(widths[-1], 1, dtype=dtype, seed=descend(seed, len(config.neuron)))
        self.activation = Activation(config.activation_function)
        # eV: deepmd-kit keeps it in double precision whatever the network's
        self.register_buffer("bias_atom_e", torch.zeros(num_types, 1, dtype=torch.float64))
        self.register_buffer("fparam_avg", torch.zeros(num_fparam, dtype=dtype))
        self.register_buffer("fparam_inv_std", torch.ones(num_fparam, dtype=dtype))
        self.register_buffer("aparam_avg", torch.zeros(num_aparam, dtype=dtype))
        self.register_buffer("aparam_inv_std", torch.ones(num_aparam, dtype=dtype))
        self.register_buffer("case_embd", torch.zeros(dim_case, dtype=dtype))
        default = config.default_fparam
        self.has_default_fparam = default is not None and num_fparam > 0
        values = default if default is not None and num_fparam > 0 else []
        self.register_buffer("default_fparam_tensor", torch.tensor(values, dtype=dtype))

    def features(self, x_ND: Tensor) -> Tensor:
        """Return the last hidden layer's activations (N, neuron[-1])."""
        for layer in self.hidden_layers:
            y_ND = self.activation(layer(x_ND))
            x_ND = close_hidden(x_ND, y_ND, layer.timestep)  # type: ignore[arg-type]
        return x_ND

    def network(self, x_ND: Tensor) -> Tensor:
        """Return the bare network's value (N,)."""
        return self.output(self.features(x_ND)).squeeze(-1)

    def forward(
        self,
        descriptor_ND: Tensor,
        types_N: Tensor,
        fparam_N: Optional[Tensor],
        aparam_N: Optional[Tensor],
    ) -> Tensor:
        """Return atomic energies (N,) in eV, without the fitted bias.

        Args:
            descriptor_ND: (N, D).
            types_N: (N,) type of each atom.
            fparam_N: (N, numb_fparam) the frame's parameters, repeated per atom.
            aparam_N: (N, numb_aparam).
        """
        x_ND = self.inputs(descriptor_ND, fparam_N, aparam_N)
        energy_N = self.network(x_ND)
        if self.subtract_vacuum:
            vacuum_ND = self.inputs(torch.zeros_like(descriptor_ND), fparam_N, aparam_N)
            energy_N = energy_N - self.network(vacuum_ND)
        return energy_N.to(torch.float64) + self.bias_atom_e[types_N, 0]

    def inputs(
        self, descriptor_ND: Tensor, fparam_N: Optional[Tensor], aparam_N: Optional[Tensor]
    ) -> Tensor:
        """Return what the network sees (N, D + ...), in its precision."""
        x_ND = descriptor_ND.to(self.dtype)
        extra: list[Tensor] = [x_ND]
        if self.num_fparam > 0:
            if fparam_N is None:
                fparam_N = self.default_fparam_tensor.unsqueeze(0).expand(x_ND.shape[0], -1)
            extra.append((fparam_N.to(self.dtype) - self.fparam_avg) * self.fparam_inv_std)
        if self.feeds_aparam:
            assert aparam_N is not None
            extra.append((aparam_N.to(self.dtype) - self.aparam_avg) * self.aparam_inv_std)
        if self.dim_case > 0:
            extra.append(self.case_embd.unsqueeze(0).expand(x_ND.shape[0], -1))
        return x_ND if len(extra) == 1 else torch.cat(extra, dim=-1)
