"""The table of type embeddings, and the elements' electronic configurations as +-1 vectors.

docs/deepmd-format.md, 3.4.
"""

# Axes:  T types   C channels

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpa2.model.layers import Linear, close_hidden, descend, dtype_of
from schemas.base.names import SYMBOLS
from schemas.input.descriptor import Descriptor

_STORED = [
    "1s", "2s", "2p", "3s", "3p", "3d", "4s", "4p", "4d", "4f", "5s",
    "5p", "5d", "5f", "6s", "6p", "6d", "7s", "7p",
]  # fmt: skip
_MADELUNG = [
    "1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p",
    "6s", "4f", "5d", "6p", "7s", "5f", "6d", "7p",
]  # fmt: skip
_ORBITALS = {"s": 1, "p": 3, "d": 5, "f": 7}

# Ground states that leave the n + l rule: only the subshells that differ from it.
_EXCEPTIONS = {
    "Cr": "3d5 4s1", "Cu": "3d10 4s1", "Nb": "4d4 5s1", "Mo": "4d5 5s1", "Ru": "4d7 5s1",
    "Rh": "4d8 5s1", "Pd": "4d10 5s0", "Ag": "4d10 5s1", "La": "4f0 5d1", "Ce": "4f1 5d1",
    "Gd": "4f7 5d1", "Pt": "5d9 6s1", "Au": "5d10 6s1", "Ac": "5f0 6d1", "Th": "5f0 6d2",
    "Pa": "5f2 6d1", "U": "5f3 6d1", "Np": "5f4 6d1", "Cm": "5f7 6d1", "Ds": "6d9 7s1",
    "Rg": "6d10 7s1",
}  # fmt: skip


class TypeEmbedding(nn.Module):
    """One linear layer over one-hot types, or over electronic configurations.

    Args:
        config: The descriptor's section.
        type_map: Element of each type.
    """

    rows_TC: Tensor

    def __init__(self, config: Descriptor, type_map: Sequence[str]) -> None:
        super().__init__()
        dtype = dtype_of(config.precision)
        econf = config.use_econf_tebd
        rows = electron_configuration(type_map) if econf else torch.eye(len(type_map))
        self.linear = Linear(
            rows.shape[1],
            config.repinit.tebd_dim,
            bias=config.use_tebd_bias,
            dtype=dtype,
            seed=descend(config.seed, 2, 0),
        )
        self.register_buffer("rows_TC", rows.to(dtype), persistent=False)

    def forward(self) -> Tensor:
        """Return the table (T, tebd_dim), one row a type."""
        return close_hidden(self.rows_TC, self.linear(self.rows_TC), None)


def electron_configuration(type_map: Sequence[str]) -> Tensor:
    """Return the configurations (T, 118) of the elements of `type_map`, divided by sqrt(118).

    Raises:
        ValueError: If a name is not an element.
    """
    unknown = [name for name in type_map if name not in SYMBOLS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not an element; use_econf_tebd needs element names")
    rows = [_spins(SYMBOLS.index(name) + 1) for name in type_map]
    return torch.tensor(rows, dtype=torch.float64) / 118**0.5


def _spins(atomic_number: int) -> list[int]:
    """Fill the orbitals: pairs (+1, +1) first, then singles (-1, +1), then empties (-1, -1)."""
    electrons = _occupation(atomic_number)
    vector: list[int] = []
    for shell in _STORED:
        orbitals = _ORBITALS[shell[1]]
        count = electrons[shell]
        pairs = max(0, count - orbitals)
        singles = count - 2 * pairs
        empties = orbitals - pairs - singles
        vector += [1, 1] * pairs + [-1, 1] * singles + [-1, -1] * empties
    return vector


def _occupation(atomic_number: int) -> dict[str, int]:
    left = atomic_number
    electrons = {}
    for shell in _MADELUNG:
        electrons[shell] = min(left, 2 * _ORBITALS[shell[1]])
        left -= electrons[shell]
    for item in _EXCEPTIONS.get(SYMBOLS[atomic_number - 1], "").split():
        electrons[item[:2]] = int(item[2:])
    return electrons
