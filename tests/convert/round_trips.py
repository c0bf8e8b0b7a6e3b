"""Random chains of formats, for the test beside it; by itself it walks as many as are asked for.

python -m tests.convert.round_trips 50
"""

import random
import sys
import tempfile
from pathlib import Path

import torch

from cli.safetensors_format import register_safetensors
from dpa2.formats import network
from dpa2.formats.conversion import convert
from dpa2.formats.weights import to_deepmd_state

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))
SUFFIXES = (".pt", ".pth", ".dp", ".yaml", ".yml", ".safetensors")


def walk(seed: int, folder: Path, *, num_frozen: int = 2) -> list[str]:
    """Send a golden model through a random chain of formats and back to `.pt`.

    Args:
        seed: Of the choice of model and chain.
        folder: An empty folder.
        num_frozen: How many `.pth` there may be in a chain: compiling one takes a second.

    Returns:
        The model and the chain; an AssertionError says what was lost.
    """
    register_safetensors()
    chooser = random.Random(seed)
    case = chooser.choice(CASES)
    chain = [chooser.choice(SUFFIXES) for _ in range(chooser.randint(3, 6))]
    while chain.count(".pth") > num_frozen:
        chain.remove(".pth")
    source = GOLDEN / case / "model.pt"
    place = source
    for number, suffix in enumerate([*chain, ".pt"]):
        target = folder / f"{number}{suffix}"
        convert(place, target)
        place = target
    first, last = network.read(source, None), network.read(place, None)
    assert last.model_params == first.model_params
    before, after = to_deepmd_state(first.model), to_deepmd_state(last.model)
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        # bits, not values: 0.0 == -0.0
        assert bits(tensor) == bits(after[name]), name
    return [case, *chain]


def bits(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


if __name__ == "__main__":
    for seed in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as name:
            sys.stdout.write(" ".join(walk(seed, Path(name))) + "\n")
            sys.stdout.flush()
