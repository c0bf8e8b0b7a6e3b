"""What `schemas.input.differences` says of keys of the model, measured on weights."""

import copy

import numpy as np
import pytest
import torch

from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from schemas.base.errors import CheckpointError
from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.differences import effect_of_key
from schemas.input.model import EnergyFitting, Model, parse_model

SECTIONS = {
    (): Model,
    ("descriptor",): Descriptor,
    ("descriptor", "repinit"): Repinit,
    ("descriptor", "repformer"): Repformer,
    ("fitting_net",): EnergyFitting,
}
OTHERS = {
    ("data_stat_nbatch",): 3,
    ("data_stat_protect",): 0.5,
    ("data_bias_nsample",): 3,
    ("srtab_add_bias",): False,
    ("model_branch_alias",): ["water"],
    ("info",): {"author": "someone"},
    ("finetune_head",): "water",
    ("type_embedding",): {"neuron": [8]},
    ("preset_out_bias",): {"energy": [1.0, None]},
    ("pair_exclude_types",): [[0, 1]],
    ("atom_exclude_types",): [0],
    ("descriptor", "precision"): "float32",
    ("descriptor", "exclude_types"): [[0, 1]],
    ("descriptor", "env_protection"): 0.1,
    ("descriptor", "trainable"): False,
    ("descriptor", "seed"): 99,
    ("descriptor", "repinit", "set_davg_zero"): True,
    ("descriptor", "repformer", "set_davg_zero"): True,
    ("descriptor", "repformer", "trainable_ln"): False,
    ("descriptor", "repformer", "update_residual"): 0.5,
    ("descriptor", "repformer", "update_residual_init"): "const",
    ("fitting_net", "precision"): "float32",
    ("fitting_net", "default_fparam"): [1.0, 2.0],
    ("fitting_net", "atom_ener"): [1.0, None],
    ("fitting_net", "trainable"): False,
    ("fitting_net", "seed"): 99,
    ("fitting_net", "rcond"): 0.1,
    ("fitting_net", "layer_name"): ["a", "b"],
}
NOT_OURS = {"use_srtab", "smin_alpha", "sw_rmin", "sw_rmax", "modifier", "compress", "spin"}
NOT_OURS |= {"bridging_method", "bridging_r_inner", "bridging_r_outer"}
"""This engine refuses models that have them."""


def energies(section, tensors=None):
    """Return atomic energies of a molecule, eV, and the tensors of the model."""
    model = build_model(parse_model(section))
    if tensors is not None:
        load_deepmd_state(model, tensors)
    coord = np.random.default_rng(3).normal(0, 0.8, (1, 6, 3))
    graph = model.graph(coord, None, np.array([[0, 1, 1, 0, 1, 1]]))
    fparam = None
    if model.fitting.num_fparam and not model.fitting.has_default_fparam:
        fparam = torch.zeros(1, model.fitting.num_fparam)
    return model(graph, fparam, None).atom_energy, to_deepmd_state(model)


@pytest.mark.parametrize("path", OTHERS, ids=".".join)
def test_the_function_changes_as_said(path, model_section):
    effect = effect_of_key(SECTIONS[path[:-1]], path[-1])
    section = copy.deepcopy(model_section)
    section["fitting_net"]["numb_fparam"] = 2 * ("default_fparam" in path)
    before, tensors = energies(section)
    *parents, name = path
    inside = section
    for key in parents:
        inside = inside[key]
    assert inside.get(name) != OTHERS[path]
    inside[name] = OTHERS[path]
    if name == "default_fparam":  # a tensor of its own
        with pytest.raises(CheckpointError):
            energies(section, tensors)
        return
    after, _ = energies(section, tensors)
    assert torch.equal(before, after) == (effect != "function")


def test_every_key_but_those_of_the_weights_is_measured():
    measured = {
        (*place, name)
        for place, section in SECTIONS.items()
        for name in section.model_fields
        if effect_of_key(section, name) != "weights" and name not in {*NOT_OURS, "type"}
    }
    assert measured == set(OTHERS)
