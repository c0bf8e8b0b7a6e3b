"""The DPA-2 descriptor: repinit, then repformer, per block of atoms.

docs/deepmd-format.md, 3.5; DPA-2 paper.
"""

# Axes:  N centre atoms (all)   T types   A atom channels (g1_dim)   D descriptor width
#        E type-embedding width (tebd_dim)

from collections.abc import Sequence
from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from dpa2.lower.ghost_exchange import Ghosts, exchange
from dpa2.model.attention import AttentionFactors, PairGeometry
from dpa2.model.blocks import NeighborBlock
from dpa2.model.cutoffs import kept_pairs
from dpa2.model.environment import EnvironmentStatistics
from dpa2.model.layers import Linear, descend, dtype_of
from dpa2.model.repformer import Repformer
from dpa2.model.repinit import Repinit, ThreeBody
from dpa2.model.type_embedding import TypeEmbedding
from schemas.input.descriptor import Descriptor as DescriptorConfig


class TypeTables(NamedTuple):
    """What depends on types alone, a row each.

    Attributes:
        tebd: (T, E) type embeddings.
        repinit: A row a pair of types, as `TypedEmbedding.table` makes it.
        three_body: The same of the three-body part, or None.
        added: (T, A) what types add to g1, or None.
    """

    tebd: Tensor
    repinit: Tensor
    three_body: Optional[Tensor]
    added: Optional[Tensor]


class Descriptor(nn.Module):
    """Describe every atom by what is around it, blind to rotations and to the order of atoms.

    Args:
        config: The descriptor's section.
        type_map: Element of each type.
    """

    def __init__(self, config: DescriptorConfig, type_map: Sequence[str]) -> None:
        super().__init__()
        r, seed, num_types = config.repinit, config.seed, len(type_map)
        self.dtype = dtype = dtype_of(config.precision)
        self.concat_types = config.concat_output_tebd
        table = kept_pairs(num_types, config.exclude_types)
        keep = None if table is None else torch.from_numpy(table)
        width = r.neuron[-1] * r.axis_neuron
        if r.use_three_body:
            width += r.three_body_neuron[-1]
        g1_dim = config.repformer.g1_dim
        self.dim_out = g1_dim + (r.tebd_dim if config.concat_output_tebd else 0)
        # Weights without a seed are drawn in this order; modules are registered in another.
        type_embedding = TypeEmbedding(config, type_map)
        shape_map: Optional[Linear] = None
        if width != g1_dim:
            shape_map = Linear(
                width, g1_dim, bias=False, dtype=dtype, seed=descend(seed, 3), glorot=True
            )
        types_to_g1: Optional[Linear] = None
        if config.add_tebd_to_repinit_out:
            types_to_g1 = Linear(r.tebd_dim, g1_dim, bias=False, dtype=dtype, seed=descend(seed, 4))
        self.type_embedding = type_embedding
        self.repinit = Repinit(config, num_types, keep)
        self.three_body: Optional[ThreeBody] = None
        if r.use_three_body:
            self.three_body = ThreeBody(config, num_types, keep)
        # To `g1_dim`; None where the width already agrees.
        self.shape_map: Optional[Linear] = shape_map
        self.type_map: Optional[Linear] = types_to_g1
        self.repformer = Repformer(config, num_types, keep)

    @torch.jit.unused
    def blocks(self) -> Dict[str, EnvironmentStatistics]:
        """Return the statistics of each part, by deepmd-kit's names of the parts."""
        found = {"repinit": self.repinit.statistics}
        if self.three_body is not None:
            found["repinit_three_body"] = self.three_body.statistics
        found["repformers"] = self.repformer.statistics
        return found

    @torch.jit.unused
    def refresh(self) -> None:
        """Call after statistics change: notes which closed forms they need."""
        self.repinit.refresh()
        if self.three_body is not None:
            self.three_body.refresh()

    def tables(self) -> TypeTables:
        """Compute what depends on types alone."""
        tebd_TE = self.type_embedding()
        three_body_table: Optional[Tensor] = None
        three_body = self.three_body
        if three_body is not None:
            three_body_table = three_body.embedding.table(tebd_TE)
        added: Optional[Tensor] = None
        type_map = self.type_map
        if type_map is not None:
            added = type_map(tebd_TE)
        return TypeTables(tebd_TE, self.repinit.embedding.table(tebd_TE), three_body_table, added)

    def initial_atoms(self, block: NeighborBlock, disp_NKX: Tensor, tables: TypeTables) -> Tensor:
        """Return g1 of a block before the repformer (N, A)."""
        num_types = tables.tebd.shape[0]
        g1_NA = self.repinit(block, disp_NKX, tables.repinit, num_types)
        three_body = self.three_body
        if three_body is not None:
            table = tables.three_body
            assert table is not None
            more = three_body(block, disp_NKX, table, num_types)
            g1_NA = torch.cat([g1_NA, more], dim=-1)
        shape_map = self.shape_map
        if shape_map is not None:
            g1_NA = shape_map(g1_NA)
        added = tables.added
        if added is not None:
            g1_NA = g1_NA + added.index_select(0, block.types)
        return self.repformer.activation(g1_NA)

    def with_types(self, g1_NA: Tensor, types_N: Tensor, tebd_TE: Tensor) -> Tensor:
        """Return the descriptor (N, D) of the repformer's last g1."""
        if self.concat_types:
            return torch.cat([g1_NA, tebd_TE.index_select(0, types_N)], dim=-1)
        return g1_NA

    def forward(self, blocks: List[NeighborBlock], ghosts: Optional[Ghosts] = None) -> Tensor:
        """Return the descriptor (N, D) of all centres, in the descriptor's precision.

        Args:
            blocks: Consecutive blocks that cover all atoms; neighbours index the same atoms, or
                the rows of the table that `ghosts` completes.
            ghosts: Completes the table of features in parallel runs.
        """
        tables = self.tables()
        repformer = self.repformer
        initial: List[Tensor] = []
        geometries: List[PairGeometry] = []
        factors: List[Optional[AttentionFactors]] = []
        g2: List[Tensor] = []
        h2: List[Tensor] = []
        for block in blocks:
            disp_NKX = block.disp.to(self.dtype)
            initial.append(self.initial_atoms(block, disp_NKX, tables))
            geometry, g2_NKP = repformer.start(block, disp_NKX)
            geometries.append(geometry)
            factors.append(repformer.shared_factors(geometry))
            g2.append(g2_NKP)
            h2.append(geometry.h2)
        g1_NA = torch.cat(initial)
        for layer in repformer.layers:
            folded = layer.fold()  # type: ignore[operator]
            table_MA = g1_NA if ghosts is None else exchange(g1_NA, ghosts)
            parts: List[Tensor] = []
            for i, block in enumerate(blocks):
                K = block.width_repformer
                index = block.neighbors[:, :K]
                g1_NKA = table_MA.index_select(0, index.flatten()).view(
                    index.shape[0], K, g1_NA.shape[1]
                )
                updated, g2_new, h2_new = layer(
                    g1_NA[block.start : block.stop],
                    g1_NKA,
                    g2[i],
                    h2[i],
                    geometries[i],
                    factors[i],
                    folded,
                )
                parts.append(updated)
                g2[i] = g2_new
                h2[i] = h2_new
            g1_NA = torch.cat(parts)
        types_N = torch.cat([block.types for block in blocks])
        return self.with_types(g1_NA, types_N, tables.tebd)
