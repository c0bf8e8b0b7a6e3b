"""Batch sizes, probabilities of systems, and the stream of batches: seeded, restored, mixed."""

import json
from itertools import islice

import numpy as np
import pytest

from dpa2.data.sampler import Sampler, apply_batch_size, iterate, system_probabilities
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError


@pytest.fixture
def three_systems(make_system, tmp_path):
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
def test_rules_give_the_frames_per_batch(three_systems, batch_size, sizes, batches):
    batching = apply_batch_size(three_systems, batch_size)
    assert batching.sizes == sizes
    assert batching.num_batches() == batches


def test_filter_drops_large_systems_and_says_so(three_systems):
    batching = apply_batch_size(three_systems, "filter:10")
    assert batching.sizes == [3, 2]
    assert "1 of 3 systems have more than 10 atoms" in batching.warnings[0]
    with pytest.raises(DataError, match="every system has more than 2 atoms"):
        apply_batch_size(three_systems, "filter:2")


def test_a_batch_larger_than_its_system_is_a_warning(three_systems):
    assert "more than the 4 frames" in apply_batch_size(three_systems, 8).warnings[0]


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
def test_unusable_batch_sizes_are_refused(three_systems, batch_size, message):
    with pytest.raises(DataError, match=message) as caught:
        apply_batch_size(three_systems, batch_size)
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


@pytest.fixture
def systems(make_system, tmp_path):
    """Two periodic systems of 3 and 2 atoms, 7 and 4 frames."""
    make_system("a", sets=(5, 2))
    make_system("b", types=(0, 1), sets=(4,), seed=1)
    return open_systems(tmp_path, ["O", "H"])


def trace(sampler, count):
    return [(b.system, b.sources, b.indices.tolist()) for b in islice(sampler, count)]


def test_the_same_seed_gives_the_same_stream(systems):
    first, second, other = (Sampler(systems, 2, seed=seed) for seed in (7, 7, 8))
    expected = trace(first, 30)
    assert trace(second, 30) == expected
    assert trace(other, 30) != expected


def test_each_epoch_of_a_system_shows_every_frame_once_in_a_new_order(systems):
    batches = list(islice(Sampler(systems[:1], 3, seed=0), 6))
    assert [b.num_frames for b in batches] == [3, 3, 1] * 2
    epochs = [np.concatenate([b.indices for b in batches[i : i + 3]]) for i in (0, 3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(7))
    assert epochs[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("batch_size", [1, 3, "mixed:5", "mix:12"])
@pytest.mark.parametrize("steps", [0, 1, 17])
def test_a_restored_sampler_continues_bit_by_bit(systems, batch_size, steps):
    sampler = Sampler(systems, batch_size, seed=3)
    trace(sampler, steps)
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = trace(sampler, 40)
    restored = Sampler(systems, batch_size, seed=99)
    trace(restored, 5)
    restored.load_state_dict(state)
    assert trace(restored, 40) == expected


def test_an_unseeded_sampler_can_be_continued_too(systems):
    sampler = Sampler(systems, 2)
    state = sampler.state_dict()
    restored = Sampler(systems, 2)
    restored.load_state_dict(state)
    assert trace(restored, 10) == trace(sampler, 10)


def test_a_state_of_other_data_is_refused(systems):
    state = Sampler(systems, 1).state_dict()
    with pytest.raises(DataError, match=r"2 systems of 11 frames; here are 1 of 7"):
        Sampler(systems[:1], 1).load_state_dict(state)


def test_systems_are_drawn_by_their_probability(systems):
    sampler = Sampler(systems, 1, sys_probs=[0.2, 0.8], seed=0)
    drawn = [batch.system == systems[1].name for batch in islice(sampler, 2000)]
    assert abs(np.mean(drawn) - 0.8) < 0.04


def test_steps_per_epoch_and_numbers_of_batches(systems):
    sampler = Sampler(systems, 2, auto_prob="prob_uniform")
    assert [sampler.num_batches[i] for i in (0, 1)] == [4, 2]
    assert sampler.steps_per_epoch == 8
    assert Sampler(systems, 2).steps_per_epoch == 6


def test_numb_copy_repeats_frames_in_an_epoch(make_system):
    path = make_system()
    np.save(path / "set.000/numb_copy.npy", np.array([1, 0, 3, 1]))
    sampler = Sampler(open_systems(path), 1, seed=0)
    assert sampler.num_batches[0] == 5
    assert sorted(int(b.indices[0]) for b in islice(sampler, 5)) == [0, 2, 2, 2, 3]


def test_mixed_batches_join_systems_and_pad_with_minus_one(systems):
    batches = list(islice(Sampler(systems, "mixed:6", seed=0), 20))
    joined = next(b for b in batches if len(set(b.sources)) == 2)
    assert joined.num_atoms == 3
    for i, name in enumerate(joined.sources):
        system = next(s for s in systems if s.name == name)
        alone = system.frames(joined.indices[i : i + 1])
        real = system.num_atoms
        assert (joined.atom_types[i, real:] == -1).all()
        np.testing.assert_array_equal(joined.atom_types[i, :real], alone.atom_types[0])
        np.testing.assert_array_equal(joined.coord[i, :real], alone.coord[0])
        np.testing.assert_array_equal(joined.force[i, :real], alone.force[0])
        assert joined.energy[i] == alone.energy[0]
        assert joined.source(i) == name


def test_mixed_batches_never_join_what_differs_in_boundaries_or_labels(make_system, tmp_path):
    make_system("a")
    make_system("b", periodic=False)
    make_system("c", virial=9)
    sampler = Sampler(open_systems(tmp_path), "mixed:4", seed=0)
    assert {b.system for b in islice(sampler, 30)} == {s.name for s in sampler.systems}


def test_a_mixed_batch_with_an_atom_budget_keeps_to_it(systems):
    for batch in islice(Sampler(systems, "mix:12", seed=0), 20):
        assert batch.num_frames * batch.num_atoms <= 12


def test_frames_with_atoms_too_close_are_left_out(make_system):
    path = make_system(sets=(6,))
    coord = np.tile(np.array([0, 0, 0, 4, 0, 0, 0, 4, 0.0]), (6, 1))
    coord[1, 3] = 0.5
    coord[4, 3] = 7.6  # 0.4 from the first atom through the boundary
    np.save(path / "set.000/coord.npy", coord)
    systems = open_systems(path)
    sampler = Sampler(systems, 2, seed=0, min_pair_dist=0.8)
    seen = {int(i) for batch in islice(sampler, 30) for i in batch.indices}
    assert seen == {0, 2, 3, 5}
    assert sampler.num_skipped > 0
    with pytest.raises(DataError, match="min_pair_dist 100 Å excludes all"):
        Sampler(systems, 6, seed=0, min_pair_dist=100).next()


def test_only_needed_labels_are_read(systems):
    batch = Sampler(systems, 1, need=("energy",)).next()
    assert batch.force is None


def test_a_full_pass_shows_every_frame_once_in_order(systems):
    passed = [(b.system, i) for b in iterate(systems, 3) for i in b.indices.tolist()]
    assert passed == [(s.name, i) for s in systems for i in range(s.num_frames)]


def test_no_systems_are_refused():
    with pytest.raises(DataError, match="no system"):
        Sampler([], 1)
