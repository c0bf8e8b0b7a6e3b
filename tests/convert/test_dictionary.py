"""deepmd-kit's portable dictionary: what it wrote is read, what we write it would have written."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dpa2.formats.dictionary import from_dictionary, to_dictionary
from dpa2.formats.dictionary_files import read_hdf5, read_yaml
from dpa2.formats.weights import to_deepmd_state
from dpa2.model.build import build_model
from schemas.base.errors import ConversionError
from schemas.input.model import parse_model
from tests.golden_cases import load_case

HERE = Path(__file__).parent
THEIRS = ["every_update_res_residual.dp", "strip_two_side.dp", "fparam_aparam.yaml"]
# Together they have every option of the network.
CASES = [
    "activations_silu_sigmoid_linear",
    "activations_customsilu_relu6_relu",
    "aparam_as_mask",
    "bfloat16",
    "case_embedding",
    "davg_all_columns",
    "default_fparam",
    "econf_bias_no_output_tebd",
    "env_protection",
    "exclude_types",
    "float32",
    "float32_fitting",
    "h2_without_pair_attention",
    "large",
    "layer_norm_frozen",
    "linear_fitting",
    "no_layers",
    "no_shape_transform",
    "pair_and_atom_exclude",
    "res_incr_conv_inside_lin1",
    "resnet_dt_strip",
    "strip_one_side",
    "tebd_added_to_repinit",
    "triclinic_five_elements",
    "two_body_only",
    "vacuum_subtraction",
]


def read_theirs(name):
    path = HERE / "data" / name
    return read_hdf5(path) if path.suffix == ".dp" else read_yaml(path)


def open_case(name):
    case = load_case(name)
    return case.model, case.section


def assert_same_state(found, expected):
    found, expected = to_deepmd_state(found), to_deepmd_state(expected)
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


def differences(mine, theirs, where=""):
    """Yield the paths where two dictionaries differ."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in mine.keys() | theirs.keys():
            if key not in mine or key not in theirs:
                yield f"{where}.{key}"
            else:
                yield from differences(mine[key], theirs[key], f"{where}.{key}")
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for index, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            yield from differences(a, b, f"{where}.{index}")
    elif isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape or not (mine == theirs).all():
            yield where
    elif type(mine) is not type(theirs) or mine != theirs:
        yield where


@pytest.fixture
def dictionary():
    """Return a dictionary of our own, to be spoiled."""
    model, section = open_case("every_update_res_residual")
    return copy.deepcopy(to_dictionary(model, section))


@pytest.mark.parametrize("name", THEIRS)
def test_deepmd_and_we_write_the_same_dictionary_of_a_model(name):
    theirs = read_theirs(name)
    mine = to_dictionary(*open_case(Path(name).stem))
    assert list(differences(mine["model"], theirs["model"])) == []
    assert mine["model_def_script"] == theirs["model_def_script"]
    assert mine["@variables"] == theirs["@variables"]


@pytest.mark.parametrize("name", THEIRS)
def test_a_model_of_deepmd_is_read_to_the_bit(name):
    model, section, notes = from_dictionary(read_theirs(name))
    expected, expected_section = open_case(Path(name).stem)
    assert_same_state(model, expected)
    assert section == expected_section
    assert notes == []


@pytest.mark.parametrize("name", CASES)
def test_every_option_survives_the_dictionary(name):
    model, section = open_case(name)
    tree = to_dictionary(model, section)
    back, same_section, notes = from_dictionary(tree)
    assert_same_state(back, model)
    assert same_section == section
    assert notes == []
    del tree["model_def_script"]  # the rest alone describes the model
    back, _, notes = from_dictionary(tree)
    assert_same_state(back, model)
    assert "seeds" in notes[0]


def test_the_dictionary_is_made_of_plain_values_and_arrays(dictionary):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.tolist() if isinstance(value, np.ndarray) else value

    assert json.loads(json.dumps(plain(dictionary))) == plain(dictionary)


def test_the_shortest_distance_is_kept_where_it_is_known():
    model, section = open_case("medium")
    assert to_dictionary(model, section)["@variables"] == {}
    model.min_nbor_dist.fill_(0.875)
    tree = to_dictionary(model, section)
    assert tree["@variables"]["min_nbor_dist"] == 0.875
    assert float(from_dictionary(tree)[0].min_nbor_dist) == 0.875


def test_default_precision_is_written_as_what_it_is():
    model, section = open_case("medium")
    section["descriptor"]["precision"] = "default"
    model = build_model(parse_model(section))
    tree = to_dictionary(model, section)
    assert tree["model"]["descriptor"]["precision"] == "float64"
    _, back, notes = from_dictionary(tree)
    assert back["descriptor"]["precision"] == "default"
    assert notes == []


def test_the_model_counts_where_the_input_kept_beside_it_differs(dictionary):
    dictionary["model_def_script"]["descriptor"]["repformer"]["update_style"] = "res_avg"
    dictionary["model_def_script"]["descriptor"]["seed"] = 77
    model, section, notes = from_dictionary(dictionary)
    assert section["descriptor"]["repformer"]["update_style"] == "res_residual"
    assert section["descriptor"]["seed"] == 77
    assert "descriptor.repformer.update_style" in notes[0]
    assert model.config.descriptor.repformer.update_style == "res_residual"


def test_an_input_of_several_branches_beside_the_model_is_not_used(dictionary):
    dictionary["model_def_script"] = {"model_dict": {"a": {}, "b": {}}}
    _, section, notes = from_dictionary(dictionary)
    assert section["descriptor"]["type"] == "dpa2"
    assert "not used" in notes[0]


def test_before_version_3_three_options_were_off():
    model, section = open_case("every_update_res_avg")
    section = copy.deepcopy(section)
    section["descriptor"]["repformer"]["use_sqrt_nnei"] = False
    model = build_model(parse_model(section))
    tree = copy.deepcopy(to_dictionary(model, section))
    names = ("use_sqrt_nnei", "g1_out_conv", "g1_out_mlp")
    tree["model"]["descriptor"]["@version"] = 2
    for part in (
        tree["model"]["descriptor"]["repformer_args"],
        *tree["model"]["descriptor"]["repformers_variable"]["repformer_layers"],
    ):
        for name in names:
            del part[name]
    del tree["model_def_script"]
    back, found, _ = from_dictionary(tree)
    assert [found["descriptor"]["repformer"][name] for name in names] == [False] * 3
    assert_same_state(back, model)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("type", "linear_ener", "type `linear_ener`"),
        ("descriptor.type", "se_e2_a", "type `se_e2_a`"),
        ("fitting.type", "dipole", "type `dipole`"),
        ("descriptor", None, "no `descriptor`"),
        ("descriptor.@version", 5, "descriptor.@version"),
        ("descriptor.repinit_variable.compress", {"x": 1}, "compressed"),
        ("descriptor.repinit_variable.env_mat.use_exp_switch", True, "env_mat.use_exp_switch"),
        ("descriptor.repinit_variable.env_mat.rcut", 9.0, "env_mat.rcut"),
        ("descriptor.repformers_variable.g2_embd.activation_function", "tanh", "g2_embd.activ"),
        ("descriptor.repformers_variable.g2_embd.@variables.w", None, "no values"),
        ("descriptor.repformers_variable.g2_embd.@variables.w", np.ones((2, 2)), "shape"),
        ("descriptor.repformers_variable.g2_embd.@variables.w", "text", "numbers"),
        ("descriptor.repformers_variable.g2_embd.@variables.w", np.ones((1, 4), bool), "bool"),
        ("descriptor.repformers_variable.g2_embd.@class", "Other", "g2_embd.@class"),
        ("descriptor.repformers_variable.repformer_layers", [], "2 entries"),
        ("descriptor.repformers_variable", [1], "a dictionary is expected"),
        ("descriptor.repinit_args", None, "repinit_args is missing"),
        ("descriptor.repinit_args.nsel", "many", "nsel"),
        ("descriptor.use_charge_spin", True, "nothing that this engine knows"),
        ("fitting.spin", {"x": [True]}, "fitting.spin"),
        ("fitting.tot_ener_zero", True, "tot_ener_zero"),
    ],
)
def test_what_is_not_such_a_model_is_refused_with_its_place(dictionary, path, value, said):
    *parents, last = path.split(".")
    place = dictionary["model"]
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(ConversionError) as raised:
        from_dictionary(dictionary)
    assert said in raised.value.message
    assert raised.value.hint


def test_a_missing_part_is_named(dictionary):
    del dictionary["model"]["descriptor"]["repformers_variable"]["repformer_layers"][1]["linear1"]
    with pytest.raises(ConversionError, match=r"repformer_layers\.1\.linear1 is missing"):
        from_dictionary(dictionary)


def test_a_dictionary_without_a_model_is_refused():
    with pytest.raises(ConversionError, match="no `model`"):
        from_dictionary({"software": "other"})


def test_other_spellings_of_the_same_model_are_understood(dictionary):
    descriptor = dictionary["model"]["descriptor"]
    embedding = descriptor["repinit_variable"]["embeddings"]["networks"][0]
    embedding["activation_function"] = "Tanh"
    descriptor["repformers_variable"]["g2_embd"]["activation_function"] = "linear"
    descriptor["repformers_variable"]["g2_embd"]["precision"] = "default"
    descriptor["repformers_variable"]["g2_embd"]["trainable"] = False
    _, _, notes = from_dictionary(dictionary)
    assert notes == []
