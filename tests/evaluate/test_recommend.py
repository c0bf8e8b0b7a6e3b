"""Heads say what deepmd-kit says, and the one whose labels the data look like is recommended."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.data.frames import Frames
from dpa2.data.systems import open_systems
from dpa2.evaluate.comparison import choose_frames, error_stat
from dpa2.evaluate.potential import load
from dpa2.evaluate.recommend import SharedHeads, open_heads, recommend
from dpa2.evaluate.recommendation import BranchFit, Recommendation, plot_recommendation, rank
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import freeze
from schemas.base.errors import CheckpointError, DataError
from tests.containers import write_npy

GOLDEN = Path(__file__).parents[1] / "golden"
MULTI_TASK = GOLDEN / "multitask" / "model.pt"
FIVE = str(GOLDEN / "training" / "data" / "five")
MIXED = str(GOLDEN / "training" / "data" / "mixed")
HEADS = ("pbe", "scan", "metal")
ERRORS = {"far": 0.103, "near": 0.101, "best": 0.1}


def write_system(folder: Path, labels: dict, *, elements=("O", "H"), types=None) -> str:
    """Write the structures of `five` with other labels."""
    (system,) = open_systems([FIVE], ["O", "H"])
    frames = system.frames(range(5))
    arrays = {"coord": frames.coord, "box": frames.box, **labels}
    kinds = frames.atom_types[0] if types is None else types
    return str(write_npy(folder, arrays, kinds, " ".join(elements)))


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "multitask" / "heads.npz") as archive:
        return dict(archive)


@pytest.fixture
def labelled(tmp_path, expected):
    """Writes data that one head labelled, its energies shifted per element."""

    def write(head, labels=("energy", "force")):
        shift = 4 * -75.0 + 8 * -0.5
        arrays = {"energy": expected[f"{head}.energy"] + shift, "force": expected[f"{head}.force"]}
        return write_system(tmp_path / head, {name: arrays[name] for name in labels})

    return write


@pytest.fixture(scope="module")
def groups():
    found, problems = open_heads(read_checkpoint(MULTI_TASK), torch.device("cpu"))
    assert problems == {}
    return found


def five_frames(type_map: list[str]) -> Frames:
    (system,) = open_systems([FIVE], type_map)
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
    handle = descriptor.type_embedding.register_forward_hook(lambda *_: calls.append(1))
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


@pytest.mark.parametrize("labels", [("energy", "force"), ("energy",), ("force",)])
@pytest.mark.parametrize("head", HEADS)
def test_the_head_that_made_the_labels_is_first(head, labels, labelled):
    found = recommend(MULTI_TASK, [labelled(head, labels)])
    assert found.best.branch == head
    assert found.best.is_covered
    assert found.best.score == pytest.approx(1)
    for error in (found.best.force_rmse, found.best.energy_rmse):
        assert error is None or error < 1e-9
    assert (found.best.force_rmse is None) == ("force" not in labels)
    assert (found.best.energy_rmse is None) == ("energy" not in labels)
    assert all(fit.score > 1 for fit in found.branches[1:])


def test_errors_are_those_of_each_branch_alone():
    found = recommend(MULTI_TASK, [FIVE], all_forces=True)
    assert (found.num_frames, found.num_force_frames, found.num_descriptors) == (5, 5, 2)
    for fit in found.branches:
        potential = load(MULTI_TASK, fit.branch)
        (system,) = open_systems([FIVE], potential.type_map)
        frames = system.frames(range(5))
        alone = potential.predict(frames.coord, frames.box, frames.atom_types, atomic=False)
        force = error_stat(alone.force - frames.force).rmse
        # One composition: the shift takes up the mean.
        energy = (alone.energy - frames.energy) / system.num_atoms
        assert fit.force_rmse == pytest.approx(force, abs=1e-12)
        assert fit.energy_rmse == pytest.approx(np.std(energy), abs=1e-12)
        counts = system.type_counts()
        total = sum(fit.shift[potential.type_map[kind]] * n for kind, n in counts.items())
        assert total == pytest.approx(np.mean(frames.energy - alone.energy), abs=1e-10)


def test_padded_frames_of_several_compositions_are_compared_too():
    found = recommend(MULTI_TASK, [MIXED, FIVE])
    assert found.num_frames == 8
    assert all(fit.energy_rmse > 0 and fit.force_rmse > 0 for fit in found.branches)


def test_backward_passes_stay_within_the_cost_limit(monkeypatch):
    passes = {True: 0, False: 0}
    evaluate = SharedHeads.evaluate

    def counted(self, frames, *, forces):
        passes[forces] += frames.num_frames * (len(self.models) if forces else 1)
        return evaluate(self, frames, forces=forces)

    monkeypatch.setattr(SharedHeads, "evaluate", counted)
    found = recommend(MULTI_TASK, [FIVE])
    # Two descriptors of five frames: what one branch on each would cost is ten backward passes.
    assert passes[True] <= 1.3 * 10
    assert (found.num_energy_frames, found.num_force_frames) == (5, 4)


def test_frames_are_spaced_over_all_systems():
    systems = open_systems([FIVE, MIXED])
    choice = choose_frames(systems, 4)
    assert [frames.tolist() for frames in choice.frames] == [[1, 3], [0, 2]]
    assert [f.tolist() for f in choice.thinned("force", 2)] == [[3], [2]]
    assert [len(frames) for frames in choose_frames(systems, None).frames] == [5, 3]
    assert choose_frames(systems, 100).num_frames == 8
    assert choose_frames(systems, 1).num_frames == 1


def test_one_frame_cannot_compare_energies(labelled):
    found = recommend(MULTI_TASK, [labelled("scan")], num_frames=1)
    assert found.num_frames == found.num_force_frames == 1
    assert all(fit.energy_rmse is None for fit in found.branches)
    assert "give more frames" in found.warnings[-1]
    assert found.best.branch == "scan"


def test_a_branch_without_a_type_for_an_element_comes_last_and_says_so(tmp_path, expected):
    labels = {"force": expected["pbe.force"]}
    types = np.array([0, 1, 1] * 4)
    types[-1] = 2
    data = write_system(tmp_path / "s", labels, elements=("O", "H", "Cu"), types=types)
    found = recommend(MULTI_TASK, [data])
    assert found.best.branch == "metal"
    assert found.best.unseen == ["Cu"]
    assert not found.best.is_covered
    for fit in found.branches[1:]:
        assert fit.missing == ["Cu"]
        assert fit.problem == "has no type for Cu"
        assert fit.score is None
    assert found.to_json()["all_elements_known"] is False


def test_elements_that_a_branch_never_saw_rank_it_last(tmp_path, labelled):
    content = torch.load(MULTI_TASK, weights_only=True)
    sections = content["model"]["_extra_state"]["model_params"]["model_dict"]
    sections["pbe"]["info"]["observed_type"] = ["H"]
    torch.save(content, tmp_path / "model.pt")
    found = recommend(tmp_path / "model.pt", [labelled("pbe")])
    assert found.branches[-1].branch == "pbe"
    assert found.branches[-1].unseen == ["O"]
    assert found.branches[-1].force_rmse < 1e-9


def test_neighbours_beyond_the_capacity_are_noted(tmp_path):
    content = torch.load(MULTI_TASK, weights_only=True)
    state = content["model"]
    for name, section in state["_extra_state"]["model_params"]["model_dict"].items():
        section["descriptor"]["repinit"]["nsel"] = 30
        for what in ("mean", "stddev"):
            key = f"model.{name}.atomic_model.descriptor.repinit.{what}"
            state[key] = state[key][:, :30].clone()
    torch.save(content, tmp_path / "model.pt")
    assert "more neighbours than its nsel" in recommend(tmp_path / "model.pt", [FIVE]).warnings[0]
    assert recommend(MULTI_TASK, [FIVE]).warnings == []


def test_no_branch_for_the_data_is_an_error(tmp_path, expected):
    data = write_system(tmp_path / "s", {"force": expected["pbe.force"]}, elements=("Na", "Cl"))
    with pytest.raises(CheckpointError, match="no branch of") as error:
        recommend(MULTI_TASK, [data])
    assert "scan: has no type for Na, Cl" in error.value.hint


def test_a_branch_that_needs_parameters_says_so():
    model = GOLDEN / "fparam_aparam" / "model.pt"
    with pytest.raises(CheckpointError, match="no branch of") as error:
        recommend(model, [MIXED])
    assert "values, and" in error.value.hint


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match="neither energies nor forces"):
        recommend(MULTI_TASK, [write_system(tmp_path / "bare", {})])


def test_a_frozen_model_is_refused(tmp_path):
    freeze(MULTI_TASK, tmp_path / "model.pth", "scan")
    with pytest.raises(CheckpointError, match="frozen model"):
        recommend(tmp_path / "model.pth", [FIVE])


def test_a_single_task_model_is_its_own_only_branch():
    found = recommend(GOLDEN / "training" / "adam" / "model.pt", [FIVE])
    assert [fit.branch for fit in found.branches] == ["Default"]
    assert found.num_force_frames == 5


def fit(branch, **numbers):
    return BranchFit(branch, [], [], [], **numbers)


def test_the_score_is_the_geometric_mean_over_all_numbers():
    one = fit("one", force_rmse=0.2, num_force=30, energy_rmse=0.01, num_energy=10)
    two = fit("two", force_rmse=0.1, num_force=30, energy_rmse=0.02, num_energy=10)
    best, second = rank([one, two])
    assert best.branch == "two"
    assert best.score == pytest.approx(2 ** (10 / 40))
    assert second.score == pytest.approx(2 ** (30 / 40))


def test_branches_within_two_percent_are_rivals():
    fits = [fit(name, force_rmse=error, num_force=9) for name, error in ERRORS.items()]
    unseen = BranchFit("unseen", [], [], ["Cu"], force_rmse=0.1, num_force=9)
    found = Recommendation(rank([*fits, unseen]), ["O"], 1, 0, 1, 1, [])
    assert found.best.branch == "best"
    assert found.rivals == ["near"]
    assert found.to_json()["rivals"] == ["near"]


@pytest.mark.parametrize(
    "worse",
    [{"problem": "compressed"}, {"force_rmse": float("nan"), "num_force": 3}],
    ids=["not evaluated", "not a number"],
)
def test_a_branch_without_an_error_is_never_the_best(worse):
    bad, good = fit("bad", **worse), fit("good", force_rmse=0.1, num_force=3)
    assert [f.branch for f in rank([bad, good])] == ["good", "bad"]
    assert bad.to_json()["force_rmse"] is None


def test_the_plot_is_an_image(tmp_path):
    found = recommend(MULTI_TASK, [FIVE])
    plot_recommendation(found, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="image format"):
        plot_recommendation(found, tmp_path / "errors.txt")
