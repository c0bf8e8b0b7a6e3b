"""The table of type embeddings (docs/deepmd-format.md, 3.4)."""

# Axes:  T types   C channels

import torch
from torch import Tensor, nn

from dpa2.model.electron_configuration import electron_configuration
from dpa2.model.layers import Linear, close_hidden
from dpa2.model.seeds import Seed, descend


class TypeEmbedding(nn.Module):
    """One linear layer over one-hot types, or over electronic configurations.

    Args:
        type_map: Element of each type.
        dim: Width of the embedding.
        use_econf: Feed electronic configurations instead of one-hot vectors.
        bias: Whether the layer has a bias.
        dtype: Of the parameters.
        seed: Seed of the embedding (child 2 of the descriptor's).
    """

    rows_TC: Tensor

    def __init__(
        self,
        type_map: list[str],
        dim: int,
        *,
        use_econf: bool,
        bias: bool,
        dtype: torch.dtype,
        seed: Seed,
    ) -> None:
        super().__init__()
        rows = electron_configuration(type_map) if use_econf else torch.eye(len(type_map))
        self.linear = Linear(rows.shape[1], dim, bias=bias, dtype=dtype, seed=descend(seed, 0))
        self.register_buffer("rows_TC", rows.to(dtype), persistent=False)

    def forward(self) -> Tensor:
        """Return the table (T, dim), one row a type."""
        return close_hidden(self.rows_TC, self.linear(self.rows_TC), None)
