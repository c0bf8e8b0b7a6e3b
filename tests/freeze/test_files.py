"""What `zoo freeze` writes, what the file says of itself, and what happens with bad input."""

import copy
import json
import zipfile
from functools import partial

import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import freeze
from schemas.base.errors import CheckpointError, WriteError
from tests.commands import zoo
from tests.freeze.golden_cases import GOLDEN, golden_inputs, load_module

CHECKPOINT = GOLDEN / "small" / "model.pt"


@pytest.fixture
def run():
    return partial(zoo, "freeze")


@pytest.fixture
def two_branches(tmp_path):
    """Write a multi-task checkpoint with branches H2O (alias ice) and Cu."""
    original = torch.load(CHECKPOINT, weights_only=True)["model"]
    section = original.pop("_extra_state")["model_params"]
    sections = {"H2O": dict(section, model_branch_alias=["ice"]), "Cu": copy.deepcopy(section)}
    model = {
        key.replace("model.Default.", f"model.{branch}."): tensor + (branch == "Cu")
        for branch in sections
        for key, tensor in original.items()
    }
    model["_extra_state"] = {"model_params": {"shared_dict": {}, "model_dict": sections}}
    path = tmp_path / "two.pt"
    torch.save({"model": model}, path)
    return path


def test_the_state_dict_is_deepmd_kits(frozen):
    _, expected = read_checkpoint(CHECKPOINT).branch()
    state = frozen("small").state_dict()
    assert set(state) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(state[key], tensor), key


def test_parameters_are_those_that_training_changes(frozen):
    names = [name for name, _ in frozen("small").named_parameters()]
    assert any("descriptor.repformers" in name for name in names)
    assert not any(name.endswith(("mean", "stddev", "out_bias")) for name in names)


def test_a_frozen_model_answers_what_deepmd_kit_asks(frozen):
    model = frozen("fparam_aparam")
    params = json.loads(model.get_model_def_script())
    assert json.loads(model.model_def_script) == params
    repinit = params["descriptor"]["repinit"]
    assert model.get_rcut() == repinit["rcut"]
    assert model.get_sel() == [model.get_nsel()] == [model.get_nnei()] == [repinit["nsel"]]
    assert model.get_type_map() == params["type_map"]
    assert model.get_ntypes() == len(params["type_map"])
    assert model.get_sel_type() == list(range(model.get_ntypes()))
    assert model.get_dim_fparam() == params["fitting_net"]["numb_fparam"]
    assert model.get_dim_aparam() == params["fitting_net"]["numb_aparam"]
    assert model.model_output_type() == ["energy", "mask"]
    assert model.has_message_passing()
    assert model.mixed_types()
    assert model.need_sorted_nlist_for_lower()
    assert not model.is_aparam_nall()
    assert not model.has_chg_spin_ebd()
    assert not model.has_default_chg_spin()
    assert model.has_default_fparam() == bool(params["fitting_net"]["default_fparam"])
    assert model.get_dim_chg_spin() == 0
    assert model.get_default_chg_spin() is None
    assert model.get_min_nbor_dist() is None
    assert set(model.get_observed_type_list()) <= set(params["type_map"])
    assert model.do_grad_r("energy")
    assert model.do_grad_c("energy")


def test_types_without_energies_are_masked(frozen):
    model = frozen("pair_and_atom_exclude")
    excluded = set(range(model.get_ntypes())) - set(model.get_sel_type())
    inputs = golden_inputs("pair_and_atom_exclude")
    mask = model(**inputs)["mask"].bool()
    assert excluded
    for kind in excluded:
        assert not mask[inputs["atype"] == kind].any()


def test_the_file_has_the_extra_file_that_deepmd_kit_looks_for(tmp_path):
    path = freeze(CHECKPOINT, tmp_path / "model.pth").path
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("extra/data_modifier.pth") for name in archive.namelist())


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path):
    (tmp_path / "model.ckpt-7.pt").write_bytes(CHECKPOINT.read_bytes())
    (tmp_path / "checkpoint").write_text("model.ckpt-7.pt\n")
    frozen = freeze(tmp_path, tmp_path / "out")
    assert frozen.source == tmp_path / "model.ckpt-7.pt"
    assert frozen.path == tmp_path / "out.pth"


def test_a_folder_that_does_not_say_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no file `checkpoint`") as error:
        freeze(tmp_path)
    assert "a.pt" in error.value.hint
    (tmp_path / "checkpoint").write_text("gone.pt")
    with pytest.raises(CheckpointError, match=r"names `gone\.pt`"):
        freeze(tmp_path)


def test_several_branches_need_a_choice(two_branches, tmp_path):
    with pytest.raises(CheckpointError, match="2 branches") as error:
        freeze(two_branches)
    assert error.value.hint == "choose one with --branch: H2O, Cu"
    with pytest.raises(CheckpointError, match="no branch `H20`") as error:
        freeze(two_branches, branch="H20")
    assert "did you mean `H2O`" in error.value.hint


def test_a_branch_is_found_by_its_alias_in_any_case(two_branches, tmp_path):
    frozen = freeze(two_branches, tmp_path / "ice.pth", "ICE")
    assert frozen.branch == "H2O"
    inputs = golden_inputs("small")
    alone = freeze(CHECKPOINT, tmp_path / "alone.pth")
    energies = [load_module(f.path)(**inputs)["energy"] for f in (frozen, alone)]
    torch.testing.assert_close(*energies, rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 cut short", b"\x80\x02garbage"])
def test_files_that_are_no_checkpoints_leave_the_old_output_alone(content, tmp_path):
    bad, output = tmp_path / "bad.pt", tmp_path / "model.pth"
    bad.write_bytes(content)
    output.write_text("old")
    with pytest.raises(CheckpointError):
        freeze(bad, output)
    assert output.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [bad, output]


def test_an_output_in_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(WriteError, match="cannot be written"):
        freeze(CHECKPOINT, tmp_path / "missing" / "model.pth")


def test_a_frozen_model_loads_like_a_checkpoint(tmp_path):
    potential = load(freeze(CHECKPOINT, tmp_path / "model.pth").path)
    inputs = {key: v.numpy() for key, v in golden_inputs("small").items() if v is not None}
    expected = load(CHECKPOINT).predict(**inputs)
    found = potential.predict(**inputs, descriptor=True)
    assert abs(found.force - expected.force).max() < 1e-12
    assert found.descriptor is not None


def test_the_command_reports_what_it_wrote(run, tmp_path):
    output = tmp_path / "water.pth"
    result = run("-c", CHECKPOINT, "-o", output, "--json", "-q")
    document = json.loads(result.stdout)
    assert document["ok"]
    assert document["output"] == str(output)
    assert document["type_map"] == ["O", "H"]
    assert document["num_bytes"] == output.stat().st_size
    assert document["branch"] == "Default"


def test_the_command_tells_a_person_how_to_run_lammps(run, tmp_path):
    result = run("-c", CHECKPOINT, "-o", tmp_path / "water.pth")
    assert "2 types" in result.stdout
    assert "pair_coeff * * O H" in result.stderr
