"""deepmd-kit's state dictionaries in and out: nothing lost, nothing invented, nothing silent."""

import numpy as np
import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.formats.weights import deepmd_parameters, load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from schemas.base.errors import CheckpointError
from schemas.input.model import parse_model
from tests.golden_cases import CASES, GOLDEN

REPINIT = "atomic_model.descriptor.repinit."
MATRIX = REPINIT + "filter_layers.networks.0.layers.0.matrix"
MEAN = REPINIT + "mean"
TRAINED = GOLDEN / "training"


@pytest.fixture
def checkpoint():
    """Return (a fresh model of a golden case, deepmd-kit's state dictionary for it)."""

    def load(name):
        section, state = read_checkpoint(GOLDEN / name / "model.pt").branch()
        return build_model(parse_model(section)), state

    return load


def bits(tensor):
    return (
        tuple(tensor.shape),
        tensor.dtype,
        tensor.contiguous().view(-1).view(torch.uint8).tolist(),
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_is_written_back_bit_by_bit(checkpoint, name):
    model, state = checkpoint(name)
    load_deepmd_state(model, state)
    written = to_deepmd_state(model)
    assert set(written) == set(state)
    assert [key for key in state if bits(written[key]) != bits(state[key])] == []


def test_both_names_of_a_weight_share_its_storage(checkpoint):
    written = to_deepmd_state(checkpoint("medium")[0])
    twins = [key for key in written if "._networks." in key]
    assert len(twins) > 10
    for key in twins:
        assert (
            written[key].data_ptr() == written[key.replace("._networks.", ".networks.")].data_ptr()
        )


def without(state, key):
    del state[key]


def misshapen(state, key):
    state[key] = state[key][:, :-1] if key != MATRIX else state[key].T


def surplus(state, key):
    state[key] = torch.ones(4, 4, dtype=torch.float64)


LAYERS = "atomic_model.descriptor.repformers.layers."
SPOILT = [
    (without, MATRIX, "lacks"),
    (without, MEAN, "lacks"),
    (without, "atomic_model.out_bias", "lacks"),
    (without, LAYERS + "1.g1_residual.0", "lacks"),
    (without, "atomic_model.descriptor.g1_shape_tranform.matrix", "lacks"),
    (without, "atomic_model.fitting_net.filter_layers.networks.0.layers.1.idt", "lacks"),
    (misshapen, MATRIX, "shape"),
    (misshapen, MEAN, "shape"),
    (misshapen, "atomic_model.out_std", "shape"),
    (surplus, LAYERS + "7.linear1.matrix", "that this model does not"),
]


@pytest.mark.parametrize(("spoil", "key", "words"), SPOILT)
def test_a_tensor_that_does_not_fit_is_named(checkpoint, spoil, key, words):
    model, state = checkpoint("medium")
    shapes = [str(tuple(state[key].shape))] if spoil is misshapen else []
    spoil(state, key)
    shapes += [str(tuple(state[key].shape))] if shapes else []
    with pytest.raises(CheckpointError, match=words) as raised:
        load_deepmd_state(model, state)
    assert all(part in raised.value.message for part in (key, *shapes))


def test_an_empty_surplus_tensor_is_a_placeholder_of_another_version(checkpoint):
    model, state = checkpoint("medium")
    state["atomic_model.descriptor.repinit.compress_extra.0"] = torch.zeros(0)
    load_deepmd_state(model, state)


@pytest.mark.parametrize(
    "key", ["type_embd_data", "compress_data.0", "compress_info.0", "compress_data.1"]
)
def test_a_compressed_model_is_refused_with_advice(checkpoint, key):
    model, state = checkpoint("strip_two_side")
    surplus(state, REPINIT + key)
    with pytest.raises(CheckpointError, match="compressed") as raised:
        load_deepmd_state(model, state)
    assert "uncompressed" in raised.value.hint


def parameter_names(state):
    """Return deepmd-kit's parameters: all that is neither a buffer nor a second name."""
    buffers = {
        *("min_nbor_dist", "out_bias", "out_std", "mean", "stddev", "type_embd_data"),
        *("bias_atom_e", "case_embd", "default_fparam_tensor"),
        *("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"),
    }
    return [k for k in state if "._networks." not in k and k.rsplit(".", 1)[-1] not in buffers]


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_numbered_as_in_a_file_of_deepmd_kit(checkpoint, name):
    model, state = checkpoint(name)
    listed = deepmd_parameters(model)
    assert [key for _, key, _ in listed] == parameter_names(state)
    for _, key, parameter in listed:
        if parameter is None:
            assert state[key].numel() == 0
        else:
            assert tuple(parameter.shape) == tuple(state[key].shape)


def test_every_parameter_of_the_model_has_a_number(checkpoint):
    model, _ = checkpoint("every_update_res_residual")
    numbered = [parameter for _, _, parameter in deepmd_parameters(model) if parameter is not None]
    assert len({id(p) for p in numbered}) == len(numbered)
    assert {id(p) for p in numbered} == {id(p) for p in model.parameters()}


def test_the_moments_of_deepmd_kits_optimiser_fit_the_parameters_of_their_number():
    checkpoint = read_checkpoint(TRAINED / "adam" / "model.pt")
    section, _ = checkpoint.branch()
    listed = deepmd_parameters(build_model(parse_model(section)))
    moments = checkpoint.optimizer["state"]
    assert len(checkpoint.optimizer["param_groups"][0]["params"]) == len(listed)
    assert set(moments) == {
        n for n, (_, _, parameter) in enumerate(listed) if parameter is not None
    }
    for number, moment in moments.items():
        assert moment["exp_avg"].shape == listed[number][2].shape


def test_statistics_that_repeat_over_slots_are_kept_once(checkpoint):
    model, state = checkpoint("davg_all_columns")
    load_deepmd_state(model, state)
    for name, block in model.descriptor.blocks().items():
        assert not block.per_slot()
        key = f"atomic_model.descriptor.{name}.mean"
        np.testing.assert_array_equal(block.mean[:, 0], state[key][:, 0])
        assert block.mean.abs().max() > 0


@pytest.mark.parametrize("name", ["repinit", "repinit_three_body", "repformers"])
@pytest.mark.parametrize("which", ["mean", "stddev"])
def test_statistics_that_differ_between_slots_are_all_kept(checkpoint, name, which):
    model, state = checkpoint("davg_all_columns")
    key = f"atomic_model.descriptor.{name}.{which}"
    values = state[key].clone()
    values += 0.01 * torch.arange(values.shape[1], dtype=values.dtype)[None, :, None]
    state[key] = values
    load_deepmd_state(model, state)
    written = to_deepmd_state(model)
    assert model.descriptor.blocks()[name].per_slot()
    assert [k for k in state if bits(written[k]) != bits(state[k])] == []


def test_a_refused_file_leaves_statistics_alone(checkpoint):
    model, state = checkpoint("davg_all_columns")
    del state["atomic_model.fitting_net.bias_atom_e"]
    with pytest.raises(CheckpointError):
        load_deepmd_state(model, state)
    assert not model.descriptor.blocks()["repinit"].mean.any()
