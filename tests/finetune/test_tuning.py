"""Freezing, and learning rates by part of the model."""

import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.optimizer import Tuning
from schemas.base.errors import ConfigError
from schemas.input.weights import DESCRIPTOR
from tests.finetune.cases import MODEL

LAYERS = DESCRIPTOR + "repformers.layers."


def quiet(config, **options):
    options = options if "restart" in options else {"finetune": MODEL, "branch": "scan"} | options
    return dpa2.train(config, device="cpu", progress=False, **options)


def moved(result, branch="scan"):
    """Return the names of the tensors that training has changed."""
    _, before = read_checkpoint(MODEL).branch(branch)
    _, after = read_checkpoint(result.checkpoint).branch()
    names = [name for name in before if "._networks." not in name and before[name].numel()]
    return {n for n in names if not torch.equal(before[n], after[n]) and ".out_" not in n}


def test_a_frozen_descriptor_stays_as_it_is(case_folder):
    document = case_folder("copied")
    result = quiet(document, tuning=Tuning(freeze_descriptor=True))
    assert moved(result)
    assert not any(name.startswith(DESCRIPTOR) for name in moved(result))
    rows = {item.group: item for item in result.provenance["Default"].groups}
    assert rows["repformer"].frozen == rows["repformer"].numbers
    assert rows["fitting net"].frozen == 0
    assert "loaded, frozen" in "\n".join(result.provenance["Default"].lines())


def test_the_first_layers_are_frozen_with_what_comes_before_them(case_folder):
    document = case_folder("copied")
    result = quiet(document, tuning=Tuning(freeze_layers=1))
    of_descriptor = {name for name in moved(result) if name.startswith(DESCRIPTOR)}
    assert of_descriptor
    assert all(name.startswith(LAYERS + "1.") for name in of_descriptor)


def test_a_factor_scales_the_first_step_of_its_part(case_folder):
    document = case_folder("copied", numb_steps=1)
    plain = quiet(document, output_dir="plain")
    tuning = Tuning(lr_scale={"descriptor": 0.1, "repformer.1": 0.5})
    slow = quiet(document, output_dir="slow", tuning=tuning)
    start = read_checkpoint(MODEL).branch("scan")[1]
    whole, part = (read_checkpoint(item.checkpoint).branch()[1] for item in (plain, slow))
    for name, factor in (
        (LAYERS + "0.linear1.matrix", 0.1),
        (LAYERS + "1.linear1.matrix", 0.5),
        ("atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix", 1.0),
    ):
        steps = [tensors[name] - start[name] for tensors in (whole, part)]
        torch.testing.assert_close(steps[1], factor * steps[0], rtol=1e-9, atol=1e-15)


def test_factors_decay_from_layer_to_layer():
    names = ["repinit.x", "repformers.layers.0.x", "repformers.layers.1.x"]
    listed = [DESCRIPTOR + name for name in names] + ["atomic_model.fitting_net.x"]
    assert Tuning(layer_decay=0.5).factors(listed) == [0.125, 0.25, 0.5, 1.0]
    assert Tuning(lr_scale={"repinit": 2.0}, layer_decay=0.5).factors(listed)[0] == 0.25


def test_a_restart_keeps_what_is_frozen_and_the_factors(case_folder, tmp_path):
    document = case_folder("copied", numb_steps=4, save_freq=2)
    tuning = Tuning(freeze_layers=0, lr_scale={"repformer": 0.3}, layer_decay=0.7)
    whole = quiet(document, tuning=tuning, output_dir=tmp_path / "whole")
    middle = tmp_path / "whole" / "model.ckpt-2.pt"
    again = quiet(document, restart=middle, output_dir=tmp_path / "again")
    assert whole.checkpoint.read_bytes() == again.checkpoint.read_bytes()


def test_the_optimizer_section_has_one_group_in_deepmd_kits_numbering(case_folder):
    document = case_folder("copied", numb_steps=2)
    tuning = Tuning(lr_scale={"descriptor": 0.1})
    result = quiet(document, tuning=tuning)
    stored = read_checkpoint(result.checkpoint)
    (group,) = stored.optimizer["param_groups"]
    assert group["params"] == list(range(len(group["params"])))
    assert group["lr"] == pytest.approx(1e-4)  # the schedule's next, no part's
    assert list(stored.optimizer["state"]) == sorted(stored.optimizer["state"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_scale": {"descriptr": 0.1}}, "no part"),
        ({"lr_scale": {"descriptor": 0.0}}, "not positive"),
        ({"layer_decay": -1.0}, "not positive"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Tuning(**settings)


def test_more_layers_than_there_are_cannot_be_frozen(case_folder):
    document = case_folder("copied")
    with pytest.raises(ConfigError, match="has 2"):
        quiet(document, tuning=Tuning(freeze_layers=3))
