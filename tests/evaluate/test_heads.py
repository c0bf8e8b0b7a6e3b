"""Every head of a multi-task checkpoint of deepmd-kit says what `DeepPot(head=...)` says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.data.frames import Frames
from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import load
from dpa2.evaluate.recommend import open_heads
from dpa2.formats.checkpoint import read_checkpoint
from schemas.base.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden"
MULTI_TASK = GOLDEN / "multitask" / "model.pt"
HEADS = ("pbe", "scan", "metal")


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "multitask" / "heads.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def groups():
    found, problems = open_heads(read_checkpoint(MULTI_TASK), torch.device("cpu"))
    assert problems == {}
    return found


def five_frames(type_map: list[str]) -> Frames:
    (system,) = open_systems([GOLDEN / "training" / "data" / "five"], type_map)
    return system.frames(range(5))


@pytest.mark.parametrize("head", HEADS)
def test_a_branch_alone_equals_deepmd_kit(head, expected):
    potential = load(MULTI_TASK, head)
    frames = five_frames(potential.type_map)
    found = potential.predict(frames.coord, frames.box, frames.atom_types, atomic=False)
    np.testing.assert_allclose(found.energy, expected[f"{head}.energy"][:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.force, expected[f"{head}.force"], rtol=0, atol=1e-9)
    virial = found.virial.reshape(5, 9)
    np.testing.assert_allclose(virial, expected[f"{head}.virial"], rtol=0, atol=1e-9)


def test_branches_are_grouped_by_their_descriptor(groups):
    assert [list(group.models) for group in groups] == [["pbe", "scan"], ["metal"]]
    pbe, scan = groups[0].models.values()
    assert pbe.descriptor is scan.descriptor


def test_heads_on_a_shared_descriptor_equal_deepmd_kit(groups, expected):
    for group in groups:
        frames = five_frames(group.type_map)
        without = group.evaluate(frames, forces=False)
        for head, found in group.evaluate(frames, forces=True).items():
            energy = expected[f"{head}.energy"][:, 0]
            np.testing.assert_allclose(found.energy, energy, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found.force, expected[f"{head}.force"], rtol=0, atol=1e-9)
            np.testing.assert_allclose(without[head].energy, energy, rtol=0, atol=1e-9)
            assert without[head].force is None


def test_the_descriptor_is_computed_once_for_all_heads(groups, monkeypatch):
    descriptor = groups[0].models["pbe"].descriptor
    calls = []
    handle = descriptor.register_forward_hook(lambda *_: calls.append(1))
    groups[0].evaluate(five_frames(groups[0].type_map), forces=True)
    handle.remove()
    assert len(calls) == 1


def test_frames_without_atoms_have_no_energy(groups):
    types = np.full((1, 3), -1)
    frames = Frames("ghosts", np.arange(1), np.zeros((1, 3, 3)), np.eye(3)[None] * 9, types)
    for found in groups[0].evaluate(frames, forces=True).values():
        assert found.energy.tolist() == [0.0]
        assert not found.force.any()


def test_a_branch_that_cannot_be_run_is_named_and_left_out(tmp_path):
    content = torch.load(MULTI_TASK, weights_only=True)
    sections = content["model"]["_extra_state"]["model_params"]["model_dict"]
    sections["scan"]["descriptor"] = {"type": "se_e2_a"}
    torch.save(content, tmp_path / "model.pt")
    groups, problems = open_heads(read_checkpoint(tmp_path / "model.pt"), torch.device("cpu"))
    assert list(problems) == ["scan"]
    assert [list(group.models) for group in groups] == [["pbe"], ["metal"]]


def test_a_head_is_asked_for_by_alias(expected):
    potential = load(MULTI_TASK, "h2o-pbe")
    frames = five_frames(potential.type_map)
    found = potential.predict(frames.coord, frames.box, frames.atom_types, atomic=False)
    np.testing.assert_allclose(found.energy, expected["pbe.energy"][:, 0], rtol=0, atol=1e-9)
    with pytest.raises(CheckpointError, match="none was chosen") as error:
        load(MULTI_TASK)
    assert "pbe, scan, metal" in error.value.hint
