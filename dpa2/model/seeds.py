"""deepmd-kit's seed algebra, so that equal seeds give bit-equal initial weights.

docs/deepmd-format.md, 3.12.
"""

import torch

# A seed as the input file gives it (int), or as its position in the seed tree makes it (list).
Seed = int | list[int] | None

_MASK_64 = (1 << 64) - 1
_HASH = 0x43B0D7E5
_MIX_LEFT = 0xCA01F9DD
_MIX_RIGHT = 0x4973F715


def child(seed: Seed, index: int) -> Seed:
    """Return the seed of the `index`-th part of a component seeded with `seed`."""
    if seed is None:
        return None
    return [index, *(seed if isinstance(seed, list) else [seed])]


def descend(seed: Seed, *indices: int) -> Seed:
    """Return the seed reached from `seed` by going down `indices`, outermost first."""
    for index in indices:
        seed = child(seed, index)
    return seed


def generator(seed: Seed) -> torch.Generator | None:
    """Return a CPU generator for `seed`; None (torch's global generator) without a seed."""
    if seed is None:
        return None
    made = torch.Generator(device="cpu")
    made.manual_seed(mix(seed) if isinstance(seed, list) else seed)
    return made


def mix(entropy: list[int]) -> int:
    """Fold a list of integers into one 64-bit generator seed."""
    state = _hash(entropy[0])
    for value in entropy[1:]:
        state = (_MIX_LEFT * state - _MIX_RIGHT * _hash(value)) & _MASK_64
        state ^= state >> 16
    return state


def _hash(value: int) -> int:
    value = ((value ^ _HASH) * _HASH) & _MASK_64
    return value ^ (value >> 16)
