"""Whatever formats a model goes through, it arrives with every bit."""

import random

import pytest
import torch

from cli.convert import register_safetensors
from dpa2.formats import checkpoint
from dpa2.formats.conversion import convert
from dpa2.formats.weights import to_deepmd_state
from tests.convert.test_dictionary import CASES
from tests.golden_cases import GOLDEN

SUFFIXES = (".pt", ".pth", ".dp", ".yaml", ".yml", ".safetensors")


def bits(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor: values would take 0.0 for -0.0."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_weights_and_section_survive_a_random_chain_of_formats(seed, tmp_path):
    register_safetensors()
    chooser = random.Random(seed)
    chain = [chooser.choice(SUFFIXES) for _ in range(chooser.randint(3, 6))]
    while chain.count(".pth") > (seed % 3 == 0):  # compiling one takes a second
        chain.remove(".pth")
    place = source = GOLDEN / chooser.choice(CASES) / "model.pt"
    for number, suffix in enumerate([*chain, ".pt"]):
        convert(place, tmp_path / f"{number}{suffix}")
        place = tmp_path / f"{number}{suffix}"
    first, last = checkpoint.read(source, None), checkpoint.read(place, None)
    assert last.model_params == first.model_params
    before, after = to_deepmd_state(first.model), to_deepmd_state(last.model)
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert (tensor.dtype, bits(tensor)) == (after[name].dtype, bits(after[name])), name
