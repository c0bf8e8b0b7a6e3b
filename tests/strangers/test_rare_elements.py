"""An element of few frames: statistics see it, and the preflight says so."""

import json

import numpy as np
import pytest

from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.moments import draw_frames
from dpa2.training.run import train
from tests.commands import outcome
from tests.strangers.runs import small_input
from tests.strangers.situations import situation
from tests.train.multitask_cases import write_system

FRAMES = 60
RARE = [17, 41]


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """Write a mixed system in which two frames of sixty have an atom of a third element."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a"
    write_system(folder, 6, FRAMES, seed=1)
    kinds = np.tile(np.arange(6) % 2, (FRAMES, 1))
    kinds[RARE, 3] = 2
    np.save(folder / "set.000" / "real_atom_types.npy", kinds)
    energy = np.load(folder / "set.000" / "energy.npy")
    energy[RARE] -= 100.0
    np.save(folder / "set.000" / "energy.npy", energy)
    (folder / "type.raw").write_text("0 0 0 0 0 0")
    (folder / "type_map.raw").write_text("O\nH\nCu\n")
    return folder


def drawn_at_random(seed):
    return np.sort(np.random.default_rng([seed, 0]).permutation(FRAMES)[:2]).tolist()


@situation("""OC20, MPtrj: many elements, few frames of some | two of sixty frames have Cu, none of
    the frames drawn for statistics | they are drawn too, and said; deepmd-kit would leave its
    energy at 0""")
def test_a_rare_element_is_drawn(mixed):
    systems = open_systems("a", ["O", "H", "Cu"])
    said: list[str] = []
    first, added = draw_frames(Sampler(systems, 2, seed=1), 1, 3, said.append)
    assert first.indices.tolist() == drawn_at_random(3)
    assert added.indices.tolist() == RARE
    assert said == [
        "the frames drawn for the statistics have no Cu: 2 frames of a that have it are added"
    ]


@situation("""any data | the frames drawn have every element | the same frames as ever: equal
    statistics""")
def test_nothing_is_added_where_nothing_is_missing(mixed):
    kinds = np.tile(np.arange(6) % 2, (FRAMES, 1))
    np.save(mixed / "set.000" / "real_atom_types.npy", kinds)
    systems = open_systems("a", ["O", "H", "Cu"])
    said: list[str] = []
    (only,) = draw_frames(Sampler(systems, 2, seed=1), 1, 3, said.append)
    assert only.indices.tolist() == drawn_at_random(3)
    assert said == []


def rare_input():
    model = {"type_map": ["O", "H", "Cu"], "data_stat_nbatch": 1}
    return small_input("a", steps=1, batch_size=1, model=model)


@situation("""many elements, few frames of some | training with few frames for statistics | the rare
    element has its energy in the model, not 0""")
def test_a_rare_element_has_its_energy(mixed):
    train(rare_input(), progress=False)
    _, tensors = read_checkpoint(mixed.parent / "model.ckpt.pt").branch(None)
    bias = next(value for name, value in tensors.items() if name.endswith("out_bias"))
    assert float(bias.reshape(-1)[2]) < -50.0


@situation("""many elements, few frames of some | two of sixty frames have Cu | the preflight notes
    it""")
def test_the_preflight_notes_a_rare_element(mixed):
    (mixed.parent / "input.json").write_text(json.dumps(rare_input()))
    result = outcome("validate", "input.json")
    assert "ZOO463" in result.stdout
    assert "Cu is in 2 of 60 frames" in result.stdout
