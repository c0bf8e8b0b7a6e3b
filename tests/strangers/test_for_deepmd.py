"""Inputs that deepmd-kit trains and zoo does not, or the other way round: never silently."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from schemas.base.errors import ConfigError
from schemas.check.input_file import check_text, fix_text
from schemas.input.model import parse_model
from schemas.input.refusals import foreign_optimizer
from tests.cli.conftest import changed
from tests.strangers.runs import quiet, zoo
from tests.strangers.situations import case, situation
from tests.strangers.test_training_numbers import SHUFFLED, training_input, write_system

HESSIAN = {"start_pref_h": 1.0, "limit_pref_h": 1.0}


@pytest.fixture(autouse=True)
def water(here):
    """Two systems in the current folder."""
    for seed, name in enumerate("ab", 3):
        write_system(here / name, SHUFFLED, 2, seed)


def with_section(section, changes):
    """Return an input with values put into a section."""
    paths = {f"{section}.{key}": value for key, value in changes.items()}
    return changed(training_input("a", "b"), paths)


def severities(document):
    report = check_text(json.dumps(document))
    return [
        {item.code: item.severity for item in seen.diagnostics}
        for seen in (report, report.for_deepmd())
    ]


@pytest.mark.parametrize(("section", "changes", "code"), [
    case("deepmd-kit 3.2 input | optimizer HybridMuon | right, but not trained here", "optimizer",
         {"type": "HybridMuon"}, "ZOO332"),
    case("deepmd-kit 3.2 input | optimizer AdaMuon | right, but not trained here", "optimizer",
         {"type": "AdaMuon"}, "ZOO332"),
    case("deepmd-kit input | optimizer LKF | right, but not trained here", "optimizer",
         {"type": "LKF"}, "ZOO332"),
    case("deepmd-kit 3.2 input | training.zero_stage | refused by validate, as by train",
         "training", {"zero_stage": 1}, "ZOO345"),
    case("deepmd-kit input | training.profiling | refused by validate, as by train", "training",
         {"profiling": True}, "ZOO341"),
    case("deepmd-kit 3.1 input | a Hessian term of the loss | refused by validate, as by train",
         "loss", HESSIAN, "ZOO341"),
    case("deepmd-kit 3.2 input | bridging_method | right, but not trained here", "model",
         {"bridging_method": "ZBL"}, "ZOO113"),
    case("deepmd-kit input | a DPA-3 descriptor | a note for a user of deepmd-kit",
         "model.descriptor", {"type": "dpa3"}, "ZOO108"),
])  # fmt: skip
def test_what_only_deepmd_kit_trains_is_refused_here_and_noted_for_it(section, changes, code):
    document = with_section(section, changes)
    ours, theirs = severities(document)
    assert (ours[code], theirs[code]) == ("error", "note")
    with pytest.raises(ConfigError):
        quiet(document, output_dir="o")


@pytest.mark.parametrize(("section", "changes", "code", "expected"), [
    case("zoo input | batch_size mixed:4, a rule of ours | a note on portability; for deepmd-kit, "
         "which ends with a ValueError, an error", "training.training_data",
         {"batch_size": "mixed:4"}, "ZOO343", ("note", "error")),
    case("deepmd-kit input | preset_out_bias with a misspelt output | an error; deepmd-kit ignores "
         "it", "model", {"preset_out_bias": {"enery": [-1.0, -2.0]}}, "ZOO231", ("error", "error")),
    case("deepmd-kit input | a preset energy of two numbers | an error", "model",
         {"preset_out_bias": {"energy": [[-1.0, 2.0], None]}}, "ZOO231", ("error", "error")),
    case("deepmd-kit input | a list trainable longer than the net has layers | an error; "
         "deepmd-kit's PyTorch backend takes any length", "model.fitting_net",
         {"trainable": [True] * 9}, "ZOO342", ("error", "error")),
    case("deepmd-kit input | descriptor in double, fitting net in single precision | a warning "
         "that names both", "model.fitting_net", {"precision": "single"}, "ZOO344",
         ("warning", "warning")),
])  # fmt: skip
def test_what_is_a_fault_for_one_of_both(section, changes, code, expected):
    ours, theirs = severities(with_section(section, changes))
    assert (ours[code], theirs[code]) == expected


def test_the_command_asks_for_whom():
    document = with_section("optimizer", {"type": "LKF"})
    for options, code in (([], 1), (["--for", "zoo"], 1), (["--for", "deepmd-kit"], 0)):
        result = zoo(document, "validate", "--no-data", *options)
        assert result.exit_code == code, result.output
        assert "right for deepmd-kit, but not trained here" in result.output


def test_the_trainer_asks_what_the_validator_asks():
    class Section:
        type = "LKF"

    assert [item.path for item in foreign_optimizer(Section())] == [("type",)]


@pytest.mark.parametrize(("name", "usual"), [
    case("deepmd-kit input | precision `double` | float64, kept as written", "double", "float64"),
    case("deepmd-kit input | precision `single` | float32, kept as written", "single", "float32"),
    case("deepmd-kit input | precision `half` | float16, kept as written, with a warning", "half",
         "float16"),
])  # fmt: skip
def test_precisions_by_their_other_names(name, usual):
    found = []
    for spelled in (name, usual):
        document = training_input("a")
        for section in ("descriptor", "fitting_net"):
            document["model"][section]["precision"] = spelled
        document["training"]["numb_steps"] = 1
        quiet(document, output_dir=spelled)
        found.append(read_checkpoint(f"{spelled}/model.ckpt-1.pt"))
    assert found[0].model_params["descriptor"]["precision"] == name
    dtypes = {tensor.dtype for tensor in found[0].tensors.values()}
    assert dtypes == {torch.float64, getattr(torch, usual)}
    for key, tensor in found[1].tensors.items():
        assert torch.equal(tensor, found[0].tensors[key]), key


FLAT = {
    "type": "dpa2",
    "repinit_rcut": 6.0, "repinit_rcut_smth": 0.5, "repinit_nsel": 120,
    "repformer_rcut": 4.0, "repformer_rcut_smth": 3.5, "repformer_nsel": 40,
}  # fmt: skip
FORMER = ("use_sqrt_nnei", "g1_out_conv", "g1_out_mlp")


def fixed_descriptor(descriptor, name="input.json"):
    document = with_section("model", {"descriptor": copy.deepcopy(descriptor)})
    fixed = fix_text(json.dumps(document, indent=2), name)
    return json.loads(fixed.text)["model"]["descriptor"], fixed.report


@pytest.mark.parametrize(("added", "expected"), [
    case("deepmd-kit 3.0.0a0 input | the flat layout, which lacks keys of today | what was done "
         "then is written out: the same network", {}, [False] * 3),
    case("an input between two versions | the flat layout with one of the later keys | the key "
         "stays as it is", {"repformer_g1_out_mlp": True}, [False, False, True]),
])  # fmt: skip
def test_the_flat_layout_stays_the_network_it_was(added, expected):
    descriptor, report = fixed_descriptor(FLAT | added)
    assert [descriptor["repformer"].get(key) for key in FORMER] == expected
    model = parse_model({**training_input()["model"], "descriptor": descriptor})
    assert [getattr(model.descriptor.repformer, key) for key in FORMER] == expected
    assert not [item for item in report.diagnostics if item.code == "ZOO102"]


@situation("""a present input with an old key | one flat key beside the sections of today | the key
    moves; nothing else is added""")
def test_a_stray_flat_key_adds_nothing():
    today = training_input()["model"]["descriptor"]
    del today["repformer"]["nlayers"]
    descriptor, _ = fixed_descriptor({**today, "repformer_nlayers": 2})
    assert descriptor["repformer"]["nlayers"] == 2
    assert not set(FORMER) & set(descriptor["repformer"])


@situation("""deepmd-kit 3.0.0a0 input | the flat layout with batch normalisation, which is gone |
    no fix is offered: it would be another network""")
def test_batch_normalisation_has_no_fix():
    descriptor, report = fixed_descriptor({**FLAT, "repformer_do_bn_mode": "component"})
    assert descriptor["repformer_do_bn_mode"] == "component"
    assert not report.ok


@situation("""deepmd-kit 3.0.0a0 | the flat layout with that version's weights | the fixed input
    gives that version's descriptor, to rounding""")
def test_the_fixed_flat_layout_computes_what_it_did():
    """The numbers are of 3.0.0a0's own descriptor with random weights, under today's names."""
    recorded = dict(np.load(Path(__file__).parent / "flat_layout.npz"))
    coord, types, expected = (recorded.pop(key) for key in ("coord", "types", "descriptor"))
    sizes = {
        "repinit_rcut": 4.0, "repinit_rcut_smth": 0.5, "repinit_nsel": 30, "tebd_dim": 5,
        "repinit_neuron": [4, 8], "repinit_axis_neuron": 2,
        "repformer_rcut": 3.0, "repformer_rcut_smth": 0.5, "repformer_nsel": 12,
        "repformer_nlayers": 2, "repformer_g1_dim": 8, "repformer_g2_dim": 4,
        "repformer_axis_dim": 2, "repformer_attn1_hidden": 3, "repformer_attn1_nhead": 2,
        "repformer_attn2_hidden": 3, "repformer_attn2_nhead": 2,
    }  # fmt: skip
    descriptor, _ = fixed_descriptor({"type": "dpa2", **sizes})
    section = {**training_input()["model"], "descriptor": descriptor}
    model = build_model(parse_model(section))
    prefix = "atomic_model.descriptor."
    state = to_deepmd_state(model)
    for name, values in recorded.items():
        for alias in (name, name.replace(".networks", "._networks")):
            if prefix + alias in state:
                state[prefix + alias] = torch.from_numpy(values)
    load_deepmd_state(model, state)
    found = model.describe(model.graph(coord[None], None, types[None]))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@situation("""a hybrid of se_atten and se_uni, before 3.0 | batch normalisation in se_uni | no fix
    is offered, not even an unsafe one""")
def test_a_hybrid_with_batch_normalisation_is_left_alone():
    first = {"type": "se_atten", "sel": 30, "rcut": 4.0, "rcut_smth": 0.5, "attn_layer": 0}
    second = {"type": "se_uni", "sel": 12, "rcut": 3.0, "rcut_smth": 0.5}
    for mode, changes in (("no", True), ("uniform", False)):
        blocks = [first, second | {"do_bn_mode": mode}]
        document = with_section("model", {"descriptor": {"type": "hybrid", "list": blocks}})
        text = json.dumps(document, indent=2)
        assert (fix_text(text, unsafe=True).text != text) is changes
