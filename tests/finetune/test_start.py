"""What a fine-tuning takes from where, what it refuses, and how it goes on."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import build_model
from dpa2.training.finetune import transfer
from schemas.base.errors import CheckpointError, ConfigError
from schemas.check.input_file import check_text
from schemas.input.model import parse_model
from schemas.input.start import Source
from schemas.input.weights import DESCRIPTOR
from tests.finetune.cases import MODEL


def quiet(config, **options):
    options = {"finetune": MODEL, "branch": "scan"} | options
    return dpa2.train(config, device="cpu", **{"progress": False} | options)


def states(result):
    return {item.group: item.state for item in result.provenance["Default"].groups}


def test_the_table_says_where_every_part_is_from(case_folder):
    result = quiet(case_folder("copied"), branch="scan")
    found = result.provenance["Default"]
    assert states(result) == {
        "type embedding": "loaded",
        "repinit": "loaded",
        "three-body": "loaded",
        "repformer": "loaded",
        "fitting net": "loaded",
        "statistics": "loaded",
        "energy bias": "loaded, shifted",
    }
    text = "\n".join(found.lines())
    assert "model.pt, branch scan" in text
    assert "O" in text
    assert f"{found.bias.shift[0]:+.8f}" in text
    numbers = sum(item.numbers for item in found.groups)
    _, tensors = read_checkpoint(result.checkpoint).branch()
    stored = {k: t for k, t in tensors.items() if "._networks." not in k and t.ndim}
    assert numbers == sum(t.numel() for t in stored.values())


def test_a_random_fitting_net_is_called_new(case_folder):
    found = states(quiet(case_folder("random"), branch="RANDOM"))
    new = {"fitting net": "new", "energy bias": "fitted", "repformer": "loaded"}
    assert found | new == found


def test_new_and_dropped_elements_are_named(case_folder):
    document = case_folder("superset")
    document["model"]["type_map"] = ["Li", "O"]
    Path("data/five/type_map.raw").write_text("O\nLi\n")
    result = quiet(document, branch="pbe")
    found = result.provenance["Default"]
    assert (found.new_elements, found.dropped_elements) == (["Li"], ["H"])
    assert states(result)["type embedding"] == "rows added"
    assert found.document()["new_elements"] == ["Li"]


def test_the_bias_can_be_left_as_it_is(case_folder):
    result = quiet(case_folder("alias"), branch="water", bias_mode="none")
    before = read_checkpoint(MODEL).branch("pbe")[1]["atomic_model.out_bias"]
    after = read_checkpoint(result.checkpoint).branch()[1]["atomic_model.out_bias"]
    assert torch.equal(before, after)


def test_a_fitting_net_is_not_random_without_a_word(case_folder, capfd):
    quiet(case_folder("copied", numb_steps=1), branch=None, progress=True)
    assert "3 branches and none is chosen" in "".join(capfd.readouterr())


def test_a_branch_that_does_not_exist_is_refused(case_folder):
    document = case_folder("copied")
    with pytest.raises(ConfigError, match="no branch `scam`"):
        quiet(document, branch="scam")


def test_another_architecture_is_refused_with_the_option_that_takes_it_over(case_folder):
    document = case_folder("copied")
    document["model"]["fitting_net"]["neuron"] = [7, 7, 7]
    with pytest.raises(ConfigError, match="neuron"):
        quiet(document)
    checked = check_text(json.dumps(document)).config
    with pytest.raises(ConfigError) as caught:
        quiet(checked)
    assert "--use-pretrain-script" in caught.value.hint


def test_networks_are_taken_over_from_the_checkpoint(case_folder):
    document = case_folder("copied")
    document["model"]["descriptor"] = {}
    document["model"]["fitting_net"] = {}
    result = quiet(document, use_pretrain_script=True)
    stored = read_checkpoint(result.checkpoint).model_params
    assert stored["fitting_net"]["neuron"] == [5, 5, 5]


def test_a_tensor_that_does_not_fit_is_named(case_folder):
    section, tensors = read_checkpoint(MODEL).branch("scan")
    model = build_model(parse_model(section))
    source = Source("model.pt", "scan", {"type_map": ["O", "H"]})
    key = "atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix"
    with pytest.raises(CheckpointError, match="has shape"):
        transfer(model, source, {**tensors, key: torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="has no atomic_model"):
        transfer(model, source, {k: t for k, t in tensors.items() if k != key})


def test_a_restart_after_fine_tuning_is_exact(case_folder, tmp_path):
    document = case_folder("copied", numb_steps=6, save_freq=3, enable_ema=True)
    document["training"]["training_data"]["batch_size"] = 2
    whole = quiet(document, output_dir=tmp_path / "whole")
    middle, folder = tmp_path / "whole" / "model.ckpt-3.pt", tmp_path / "again"
    again = quiet(document, finetune=None, branch=None, restart=middle, output_dir=folder)
    assert again.steps_done == 6
    assert whole.checkpoint.read_bytes() == again.checkpoint.read_bytes()


def test_branches_that_share_a_part_but_load_different_ones_are_told(case_folder, capsys):
    document = case_folder("branches")
    models = document["model"]["model_dict"]
    models["fresh"]["finetune_head"] = "metal"
    models["fresh"]["fitting_net"] = models["pbe"]["fitting_net"]
    dpa2.train(document, finetune=MODEL, device="cpu")
    text = capsys.readouterr().err
    assert "branch fresh shares its descriptor with pbe" in text
    assert "branch random" not in text


def test_a_shared_descriptor_is_normalised_for_new_elements_by_all_branches(case_folder):
    document = case_folder("branches")
    document["model"]["shared_dict"]["elements"] = ["O", "H", "Li"]
    del document["model"]["model_dict"]["random"], document["loss_dict"]["random"]
    data = document["training"]["data_dict"]
    del data["random"], document["training"]["model_prob"]["random"]
    shutil.copytree("data/five", "data/with_lithium")
    Path("data/with_lithium/type_map.raw").write_text("O\nLi\n")
    data["fresh"] = {"training_data": {"systems": ["data/with_lithium"], "batch_size": 5}}
    result = dpa2.train(document, finetune=MODEL, device="cpu", progress=False)
    rows = read_checkpoint(result.checkpoint).branch("pbe")[1][f"{DESCRIPTOR}repinit.stddev"]
    before = read_checkpoint(MODEL).branch("pbe")[1][f"{DESCRIPTOR}repinit.stddev"]
    assert torch.equal(rows[:2], before)
    assert float(rows[2, 0, 0]) not in (0.1, 1.0)


def test_the_elements_that_were_seen_are_kept_in_the_file(case_folder, tmp_path):
    document = case_folder("copied")
    first = quiet(document, branch="RANDOM")
    info = read_checkpoint(first.checkpoint).model_params["info"]
    assert info["observed_type"] == ["H", "O"]
    document["model"]["type_map"] = ["O", "H", "Li"]
    Path("data/five/type_map.raw").write_text("Li\nH\n")
    second = quiet(document, branch=None, finetune=first.checkpoint, output_dir=tmp_path / "next")
    info = read_checkpoint(second.checkpoint).model_params["info"]
    assert info["observed_type"] == ["H", "Li", "O"]
