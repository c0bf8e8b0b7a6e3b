"""What `zoo freeze` writes, what the file says of itself, and what happens with bad input."""

import json
import zipfile

import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.conversion import freeze
from schemas.base.errors import CheckpointError, WriteError
from tests.commands import zoo
from tests.golden_cases import GOLDEN, QUANTITIES, assert_checkpoint_numbers

CHECKPOINT = GOLDEN / "small" / "model.pt"


def test_the_state_dict_is_deepmd_kits(frozen):
    _, expected = read_checkpoint(CHECKPOINT).branch()
    state = frozen("small").state_dict()
    assert set(state) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(state[key], tensor), key
    trained = [name for name, _ in frozen("small").named_parameters()]
    assert any("descriptor.repformers" in name for name in trained)
    assert not any(name.endswith(("mean", "stddev", "out_bias")) for name in trained)


def test_a_frozen_model_answers_what_deepmd_kit_asks(frozen):
    model = frozen("fparam_aparam")
    params = json.loads(model.get_model_def_script())
    assert json.loads(model.model_def_script) == params
    repinit, fitting = params["descriptor"]["repinit"], params["fitting_net"]
    answers = {
        "get_rcut": repinit["rcut"],
        "get_sel": [repinit["nsel"]],
        "get_nsel": repinit["nsel"],
        "get_nnei": repinit["nsel"],
        "get_type_map": ["O", "H"],
        "get_ntypes": 2,
        "get_sel_type": [0, 1],
        "get_dim_fparam": fitting["numb_fparam"],
        "get_dim_aparam": fitting["numb_aparam"],
        "has_default_fparam": bool(fitting["default_fparam"]),
        "model_output_type": ["energy", "mask"],
        "has_message_passing": True,
        "mixed_types": True,
        "need_sorted_nlist_for_lower": True,
        "do_grad_r": True,
        "do_grad_c": True,
        "is_aparam_nall": False,
        "has_chg_spin_ebd": False,
        "has_default_chg_spin": False,
        "get_dim_chg_spin": 0,
        "get_default_chg_spin": None,
        "get_min_nbor_dist": None,
    }
    assert {name: getattr(model, name)() for name in answers} == answers
    assert set(model.get_observed_type_list()) <= set(params["type_map"])
    assert model.do_grad_r("energy")
    assert model.do_grad_c("energy")


def test_the_file_has_the_extra_file_that_deepmd_kit_looks_for(tmp_path):
    path = freeze(CHECKPOINT, tmp_path / "model.pth").path
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("extra/data_modifier.pth") for name in archive.namelist())


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path):
    (tmp_path / "model.ckpt-7.pt").write_bytes(CHECKPOINT.read_bytes())
    (tmp_path / "checkpoint").write_text("model.ckpt-7.pt\n")
    frozen = freeze(tmp_path, tmp_path / "out")
    assert (frozen.source, frozen.path) == (tmp_path / "model.ckpt-7.pt", tmp_path / "out.pth")


def test_a_folder_that_does_not_say_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no file `checkpoint`") as error:
        freeze(tmp_path)
    assert "a.pt" in error.value.hint
    (tmp_path / "checkpoint").write_text("gone.pt")
    with pytest.raises(CheckpointError, match=r"names `gone\.pt`"):
        freeze(tmp_path)


def test_a_branch_of_several_is_chosen_by_name_or_alias(tmp_path, load_frozen):
    several = GOLDEN / "multitask" / "model.pt"
    with pytest.raises(CheckpointError, match="3 branches") as error:
        freeze(several)
    assert error.value.hint == "choose one with --branch: pbe, scan, metal"
    made = freeze(several, tmp_path / "water.pth", "WATER")
    assert made.branch == "pbe"
    _, expected = read_checkpoint(several).branch("pbe")
    state = load_frozen(made.path).state_dict()
    assert [key for key, tensor in expected.items() if not torch.equal(state[key], tensor)] == []


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


def test_a_frozen_model_loads_like_a_checkpoint_and_describes(tmp_path):
    potential = load(freeze(CHECKPOINT, tmp_path / "model.pth").path)
    assert_checkpoint_numbers(potential, "small", QUANTITIES, 1e-12, descriptor=True)


def test_the_command_says_what_it_wrote_and_how_lammps_runs_it(tmp_path):
    output = tmp_path / "water.pth"
    document = json.loads(zoo("freeze", "-c", CHECKPOINT, "-o", output, "--json", "-q").stdout)
    told = {name: document[name] for name in ("ok", "output", "type_map", "branch")}
    assert told == {"ok": True, "output": str(output), "type_map": ["O", "H"], "branch": "Default"}
    assert document["num_bytes"] == output.stat().st_size
    result = zoo("freeze", "-c", CHECKPOINT, "-o", output)
    assert "2 types" in result.stdout
    assert "pair_coeff * * O H" in result.stderr
