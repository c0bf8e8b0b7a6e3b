"""Embedding networks over a scalar and the types of two atoms: concat or strip.

docs/deepmd-format.md, 3.7.
"""

# Axes:  R pairs   T types   C channels

from typing import Optional

import torch
from torch import Tensor, nn

from dpa2.model.layers import EmbeddingNetwork
from dpa2.model.seeds import Seed, descend


class TypedEmbedding(nn.Module):
    """G(s, type a, type b) for pairs of atoms.

    concat: one network sees [s, T_a, T_b]. strip: one network sees s, a second sees [T_a, T_b] and
    scales the first, G = S + S * tau. Types enter through tables over type pairs: a table row is
    looked up per pair of atoms instead of being recomputed.

    Args:
        neuron: Widths of the network(s).
        tebd_dim: Width of the type embedding.
        mode: `tebd_input_mode`, concat or strip.
        one_side: Only type a is used.
        activation: Name.
        timestep: `resnet_dt`.
        dtype: Of the parameters.
        seed: Seed of the block; the networks are its children 1 and 2.
    """

    def __init__(
        self,
        neuron: list[int],
        tebd_dim: int,
        *,
        mode: str,
        one_side: bool,
        activation: str,
        timestep: bool,
        dtype: torch.dtype,
        seed: Seed,
    ) -> None:
        super().__init__()
        self.strip = mode == "strip"
        self.one_side = one_side
        num_types_in = tebd_dim if one_side else 2 * tebd_dim
        self.network = EmbeddingNetwork(
            1 if self.strip else 1 + num_types_in,
            neuron,
            activation=activation,
            timestep=timestep,
            dtype=dtype,
            seed=descend(seed, 1),
        )
        self.type_network: Optional[EmbeddingNetwork] = None
        if self.strip:
            self.type_network = EmbeddingNetwork(
                num_types_in,
                neuron,
                activation=activation,
                timestep=timestep,
                dtype=dtype,
                seed=descend(seed, 2),
            )
        self.by_tables = self.network.splits_first_layer()

    def table(self, tebd_TC: Tensor) -> Tensor:
        """Return what types contribute, one row per ordered type pair a * T + b.

        concat: the first layer's sum without the geometric input (T * T, neuron[0]), or the raw
        inputs (T * T, 2 tebd) where a skip connection needs them. strip: tau (T * T, neuron[-1]).
        """
        num_types = tebd_TC.shape[0]
        first = tebd_TC.repeat_interleave(num_types, 0)
        second = tebd_TC.repeat(num_types, 1)
        inputs = first if self.one_side else torch.cat([first, second], dim=-1)
        type_network = self.type_network
        if type_network is not None:
            return type_network(inputs)
        if self.by_tables:
            return self.network.first_terms(inputs, 1) + self.network.first_bias()
        return inputs

    def forward(self, scalar_R: Tensor, rows_RC: Tensor, switch_R: Optional[Tensor]) -> Tensor:
        """Return G (R, neuron[-1]).

        Args:
            scalar_R: (R,) the geometric input.
            rows_RC: (R, .) the row of `table` of each pair.
            switch_R: (R,) weight of tau in strip mode; None leaves tau as it is.
        """
        if self.strip:
            s_RC = self.network.from_first_sum(scalar_R, self.network.first_bias())
            tau_RC = rows_RC if switch_R is None else rows_RC * switch_R.unsqueeze(-1)
            return torch.addcmul(s_RC, s_RC, tau_RC)
        if self.by_tables:
            return self.network.from_first_sum(scalar_R, rows_RC)
        return self.network(torch.cat([scalar_R.unsqueeze(-1), rows_RC], dim=-1))
