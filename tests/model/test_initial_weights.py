"""Equal seeds give deepmd-kit's initial weights, bit by bit."""

import hashlib

import pytest

from dpa2.formats.weights import to_deepmd_state
from dpa2.model.build import build_model
from schemas.input.model import parse_model

MODELS = (
    "published sizes",
    "every update",
    "strip, time steps, electron configuration",
    "constant residual, float32",
)


def fingerprint(tensor):
    array = tensor.detach().contiguous().numpy()
    return list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()


def test_every_recorded_model_is_tested(initial_weights):
    assert set(initial_weights) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_the_bits_of_deepmd_kit(initial_weights, name):
    recorded = initial_weights[name]
    state = to_deepmd_state(build_model(parse_model(recorded["model"])))
    ours = {
        key: fingerprint(tensor)
        for key, tensor in state.items()
        if "._networks." not in key and tensor.numel()
    }
    theirs = {
        key: (row["shape"], row["dtype"], row["sha256"]) for key, row in recorded["tensors"].items()
    }
    assert ours == theirs


@pytest.mark.parametrize("part", ["descriptor", "fitting_net"])
def test_another_seed_gives_other_weights(initial_weights, part):
    section = initial_weights["every update"]["model"]
    changed = {**section, part: {**section[part], "seed": section[part]["seed"] + 1}}
    before, after = (
        to_deepmd_state(build_model(parse_model(which))) for which in (section, changed)
    )
    moved = {key for key in before if not before[key].equal(after[key])}
    weights = {key for key in before if key.endswith(".matrix") and ".attn2_lm." not in key}
    assert {key for key in weights if f".{part}." in key} <= moved
    assert {key.split(".")[1] for key in moved} == {part}
