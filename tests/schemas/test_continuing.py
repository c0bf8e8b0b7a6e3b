"""Every key of the schema has an effect on a run that is continued."""

from typing import get_args

import pytest

from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.differences import EXCEPTIONS, Effect, effect_of
from schemas.input.model import EnergyFitting, Model
from schemas.input.optimization import (
    Adam,
    AdaMuon,
    AdamW,
    CosineDecay,
    EnergyLoss,
    ExponentialDecay,
    HybridMuon,
    KalmanFilter,
    StableDecay,
)
from schemas.input.root import Input, MultiTaskInput, MultiTaskTraining
from schemas.input.training import TaskData, Training, TrainingData, Validating, ValidationData

PLACES = {
    (): (Input, MultiTaskInput),
    ("model",): (Model,),
    ("model", "descriptor"): (Descriptor,),
    ("model", "descriptor", "repinit"): (Repinit,),
    ("model", "descriptor", "repformer"): (Repformer,),
    ("model", "fitting_net"): (EnergyFitting,),
    ("model", "model_dict", "water"): (Model,),
    ("model", "model_dict", "water", "descriptor", "repinit"): (Repinit,),
    ("learning_rate",): (ExponentialDecay, CosineDecay, StableDecay),
    ("loss",): (EnergyLoss,),
    ("loss_dict", "water"): (EnergyLoss,),
    ("optimizer",): (Adam, AdamW, KalmanFilter, AdaMuon, HybridMuon),
    ("validating",): (Validating,),
    ("training",): (Training, MultiTaskTraining),
    ("training", "training_data"): (TrainingData,),
    ("training", "validation_data"): (ValidationData,),
    ("training", "data_dict", "water"): (TaskData,),
    ("training", "data_dict", "water", "training_data"): (TrainingData,),
}
KEYS = [
    (*place, name)
    for place, sections in PLACES.items()
    for section in sections
    for name in section.model_fields
]
SAID = {
    "model.atom_exclude_types": "function",
    "model.descriptor.precision": "function",
    "model.descriptor.repinit.rcut": "weights",
    "model.descriptor.repformer.activation_function": "weights",
    "model.info.observed_type": "none",
    "learning_rate.stop_lr": "rate",
    "training.numb_steps": "rate",
    "training.seed": "begun",
    "training.disp_freq": "none",
    "training.model_prob.water": "course",
    "training.data_dict.water.stat_file": "begun",
    "training.data_dict.water.training_data.batch_size": "course",
    "training.training_data.systems": "course",
    "loss_dict.water.start_pref_f": "course",
    "optimizer.adam_beta1": "course",
    "validating.validation_metric": "course",
}


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_key_has_an_effect(path):
    assert effect_of(path) in get_args(Effect)


@pytest.mark.parametrize(("path", "effect"), SAID.items())
def test_effects(path, effect):
    assert effect_of(tuple(path.split("."))) == effect


def test_exceptions_are_keys_of_their_sections_and_named_once():
    for section, effects in EXCEPTIONS.items():
        names = [name for group in effects.values() for name in group]
        assert len(names) == len(set(names))
        assert set(names) <= set(section.model_fields), section
