"""What is right passes without a word, and what passes can be put together."""

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import dpa2
from cli.input_check import with_data
from cli.main import app
from dpa2.training.run import refuse_unsupported
from dpa2.training.task import assemble
from schemas.base.errors import ConfigError
from schemas.check.input_file import check_text
from schemas.explain import entries
from schemas.input.refusals import DEMANDS
from schemas.input.root import Input
from schemas.input.schedule import build_schedule
from tests.containers import write_npy
from tests.fuzz_validate import mutated as fuzzed
from tests.schemas.conftest import changed
from tests.schemas.random_inputs import mutated, valid_input

VALID = 300
MUTATED = 120
FUZZED = 60
SMALL = {"neuron": [4, 4], "nlayers": 1, "g1_dim": 8, "g2_dim": 4, "tebd_dim": 4}
"""Sizes of networks that are quick to build."""
STARTED = (24, 30, 41, 57, 63, 88, 101, 118)
"""Seeds of inputs of which each way to start is tried: of one task and of several, with means."""


def _array(name, change):
    """Return a function that changes an array of a system."""

    def damage(system):
        path = system / "set.000" / f"{name}.npy"
        np.save(path, change(np.load(path)))

    return damage


def _put(place, value):
    def change(array):
        array.reshape(-1)[place] = value
        return array

    return change


DAMAGES = {
    "a column too few": _array("force", lambda array: array[:, 1:]),
    "a frame too few": _array("energy", lambda array: array[1:]),
    "texts for numbers": _array("energy", lambda array: array.astype(str)),
    "NaN in forces": _array("force", _put(7, np.nan)),
    "infinite coordinates": _array("coord", _put(7, np.inf)),
    "an atom on another": _array(
        "coord", lambda array: np.concatenate([array[:, 3:6], array[:, 3:]], 1)
    ),
    "a flat cell": _array("box", _put(8, 0.0)),
    "no coordinates": lambda system: (system / "set.000/coord.npy").unlink(),
    "no cells": lambda system: (system / "set.000/box.npy").unlink(),
    "no energies": lambda system: (system / "set.000/energy.npy").unlink(),
    "no forces": lambda system: (system / "set.000/force.npy").unlink(),
    "no elements": lambda system: (system / "type_map.raw").unlink(),
    "other elements": lambda system: (system / "type_map.raw").write_text("Na Cl"),
    "more elements": lambda system: (system / "type_map.raw").write_text("O H Na"),
    "too few elements": lambda system: (system / "type_map.raw").write_text("O"),
    "negative types": lambda system: (system / "type.raw").write_text("0 1 1 0 1 -1"),
    "types that are words": lambda system: (system / "type.raw").write_text("O H H O H H"),
    "fewer atoms": lambda system: (system / "type.raw").write_text("0 1 1"),
    "no system": lambda system: (system / "type.raw").unlink(),
}


def write_system(folder, frames, seed):
    """Write a system of two water molecules with labels."""
    rng = np.random.default_rng(seed)
    molecule = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    atoms = np.concatenate([molecule, molecule + np.array([3.1, 0.2, 0.4])])
    coord = atoms + rng.normal(0, 0.03, (frames, 6, 3))
    arrays = {
        "coord": coord + 1,
        "force": rng.normal(0, 0.5, (frames, 18)),
        "box": np.tile(np.eye(3).ravel() * 13.0, (frames, 1)),
        "energy": rng.normal(-900, 0.1, frames),
    }
    write_npy(folder, arrays, [0, 1, 1, 0, 1, 1])


@pytest.fixture
def data(tmp_path, monkeypatch):
    for number, name in enumerate("abc"):
        write_system(tmp_path / "data" / name, 4, number)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_valid_inputs_pass_without_a_warning(data):
    for seed in range(VALID):
        document = valid_input(random.Random(seed))
        report = check_text(json.dumps(document), "input.json")
        if seed % 10 == 0:
            report = with_data(report)
        wrong = [item for item in report.diagnostics if item.severity != "note"]
        assert (seed, [(item.code, item.path, item.message) for item in wrong]) == (seed, [])


def agree(document):
    """Return whether an input passes; its run can then be assembled and does its first step.

    So what assembling refuses, the validator has named.
    """
    report = with_data(check_text(json.dumps(document), "input.json"))
    if not report.ok:
        return False
    config = report.config
    refuse_unsupported(config)
    build_schedule(config.learning_rate, config.training.numb_steps or 1)
    for item in assemble(config, torch.device("cpu"), lambda _: None).values():
        batch = item.builder.build(item.sampler.next())
        prediction = batch.predict(item.model, create_graph=False)
        loss = item.loss(prediction, batch.labels, batch.mask, 1e-3)
        assert torch.isfinite(loss.total)
    return True


@pytest.mark.parametrize("code", dict.fromkeys(demand.code for demand in DEMANDS))
def test_what_the_validator_says_of_the_trainer_is_so(code, data):
    """The trainer refuses the example of each demand, also where no rule has seen the input."""
    document = changed({**entries()[code].changes, "training.training_data.systems": ["data/a"]})
    with pytest.raises(ConfigError, match="not supported"):
        refuse_unsupported(Input.model_validate(document))


@pytest.mark.slow
def test_validator_and_trainer_agree(data):
    """Inputs with a changed value are refused, or their first step has a finite loss."""
    torch.set_num_threads(1)
    passed = 0
    for seed in range(MUTATED):
        rng = random.Random(10_000 + seed)
        passed += agree(mutated(rng, valid_input(rng)))
    assert MUTATED / 4 < passed < MUTATED


def test_validator_and_trainer_agree_on_what_fuzzing_makes(data):
    torch.set_num_threads(1)
    rng, outcomes = random.Random(3), []
    for name in ("water", "ice"):
        write_system(Path("data") / name, 4, 7)
    for _ in range(FUZZED):
        text, name = fuzzed(rng, most=1)
        with contextlib.suppress(ValueError, RecursionError):
            outcomes.append(
                agree(small(yaml.safe_load(text) if "yaml" in name else json.loads(text)))
            )
    assert 0 < sum(outcomes) < len(outcomes)


def small(document):
    """Return an input whose networks, where they are right, are small."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in SMALL and isinstance(value, type(SMALL[key])):
                document[key] = SMALL[key]
            small(value)
    elif isinstance(document, list):
        for value in document:
            small(value)
    return document


@pytest.mark.parametrize("damage", DAMAGES)
def test_validator_and_trainer_agree_on_damaged_systems(damage, data):
    torch.set_num_threads(1)
    DAMAGES[damage](Path("data/a"))
    for seed in range(4):
        document = valid_input(random.Random(seed))
        agree(document)


@pytest.mark.parametrize("option", ["--restart", "--finetune", "--init-model"])
def test_what_passes_starts_from_a_checkpoint(option, data, tmp_path):
    """Inputs with a changed value are refused beside a checkpoint, or go on with it for a step."""
    torch.set_num_threads(1)
    passed = 0
    for seed in STARTED:
        rng = random.Random(seed)
        document = _short(valid_input(rng), 1)
        dpa2.train(document, output_dir=f"old{seed}", device="cpu", progress=False)
        for checkpoint in sorted((tmp_path / f"old{seed}").glob("*-1.pt")):
            other = _short(mutated(rng, document) if passed else document, 2)
            (tmp_path / "input.json").write_text(json.dumps(other))
            words = ["validate", "input.json", "--json", option, str(checkpoint)]
            found = json.loads(CliRunner().invoke(app, words).stdout)["files"][0]["diagnostics"]
            if any(item["severity"] == "error" for item in found):
                continue
            passed += 1
            start = {option.lstrip("-").replace("-", "_"): checkpoint}
            folder = f"new{seed}{checkpoint.name}"
            dpa2.train(other, output_dir=folder, device="cpu", progress=False, **start)
    assert passed


def _short(document, steps):
    """Return an input as it is for so few steps."""
    short = json.loads(json.dumps(document))
    short.pop("validating", None)
    short["learning_rate"] = {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 1}
    if isinstance(short.get("training"), dict):
        short["training"] |= {"numb_steps": steps, "save_freq": 1}
    return short
