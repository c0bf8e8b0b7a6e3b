"""Batch sizes and probabilities: the rules of deepmd-kit."""

import numpy as np
import pytest

from dpa2.data.sampler import apply_batch_size, system_probabilities
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError


@pytest.fixture
def systems(make_system, tmp_path):
    """Three systems with 3, 5 and 40 atoms and 10, 4 and 9 frames."""
    for name, atoms, frames in (("a", 3, 10), ("b", 5, 4), ("c", 40, 9)):
        make_system(name, types=(0,) * atoms, sets=(frames,))
    return open_systems(tmp_path)


@pytest.mark.parametrize(
    ("batch_size", "sizes", "batches"),
    [
        (3, [3, 3, 3], [4, 2, 3]),
        ([1, 2, 4], [1, 2, 4], [10, 2, 3]),
        ("auto", [11, 7, 1], [1, 1, 9]),
        ("auto:41", [14, 9, 2], [1, 1, 5]),
        ("max:41", [13, 8, 1], [1, 1, 9]),
        ("max:1", [1, 1, 1], [10, 4, 9]),
        ("mixed:4", [4, 4, 4], [3, 1, 3]),
    ],
)
def test_rules_give_the_frames_per_batch(systems, batch_size, sizes, batches):
    batching = apply_batch_size(systems, batch_size)
    assert batching.sizes == sizes
    assert batching.num_batches() == batches


def test_filter_drops_large_systems_and_says_so(systems):
    batching = apply_batch_size(systems, "filter:10")
    assert batching.sizes == [3, 2]
    assert "1 of 3 systems have more than 10 atoms" in batching.warnings[0]
    with pytest.raises(DataError, match="every system has more than 2 atoms"):
        apply_batch_size(systems, "filter:2")


def test_a_batch_larger_than_its_system_is_a_warning(systems):
    assert "more than the 4 frames" in apply_batch_size(systems, 8).warnings[0]


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (0, "batch_size 0"),
        (True, "batch_size True"),
        ([1, 2], "2 batch sizes for 3 systems"),
        ([1, 2, 0], r"batch_size \[1, 2, 0\]"),
        ("atuo", "unknown batch size `atuo`"),
        ("auto:abc", "whole number"),
        ("auto:0", "whole number"),
        ("max", "unknown batch size `max`"),
        ("auto:", "whole number"),
    ],
)
def test_unusable_batch_sizes_are_refused(systems, batch_size, message):
    with pytest.raises(DataError, match=message) as caught:
        apply_batch_size(systems, batch_size)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("style", "sys_probs", "expected"),
    [
        ("prob_uniform", None, [1 / 3, 1 / 3, 1 / 3]),
        ("prob_sys_size", None, [0.2, 0.3, 0.5]),
        ("prob_sys_size;0:2:1;2:3:3", None, [0.1, 0.15, 0.75]),
        ("prob_sys_size;0:1:1", None, [1, 0, 0]),
        ("prob_sys_size", [0.5, -1, -1], [0.5, 0.1875, 0.3125]),
        ("prob_uniform", [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]),
    ],
)
def test_probabilities_follow_their_rule(style, sys_probs, expected):
    found = system_probabilities([2, 3, 5], style, sys_probs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("style", "sys_probs", "message"),
    [
        ("prob_sys_sizes", None, "unknown"),
        ("prob_sys_size;0:9:1", None, "exceeds the 3 systems"),
        ("prob_sys_size;0:2:1;1:3:1", None, "overlap"),
        ("prob_sys_size;2:2:1", None, "is empty"),
        ("prob_sys_size;0:2", None, "is not a block"),
        ("prob_sys_size;0:2:-1", None, "is not a block"),
        ("prob_sys_size;0:2:0", None, "weights of all blocks are 0"),
        ("prob_uniform", [0.5, 0.5], "2 probabilities for 3 systems"),
        ("prob_uniform", [-0.5, 1.0, 0.5], "the others sum to 1.5"),
        ("prob_uniform", [0.1, 0.1, 0.1], "sum to 0.3"),
        ("prob_uniform", [float("nan"), 0.5, 0.5], "NaN"),
    ],
)
def test_unusable_probabilities_are_refused(style, sys_probs, message):
    with pytest.raises(DataError, match=message) as caught:
        system_probabilities([2, 3, 5], style, sys_probs)
    assert message in caught.value.message
