"""What is right passes without a word, and what passes can be put together."""

import json
import random

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import dpa2
from cli.main import app
from cli.preflight import with_data
from dpa2.training.assembly import assemble
from dpa2.training.run import refuse_unsupported
from schemas.check.input_file import check_text
from schemas.input.schedule import build_schedule
from tests.containers import write_npy
from tests.schemas.random_inputs import mutated, valid_input

VALID = 300
MUTATED = 120
STARTED = (24, 30, 41, 57, 63, 88, 101, 118)
"""Seeds of inputs of which each way to start is tried: of one task and of several, with means."""


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


@pytest.mark.slow
def test_what_passes_can_be_put_together(data):
    """Inputs with a changed value are refused, or their first step has a finite loss."""
    torch.set_num_threads(1)
    passed = 0
    for seed in range(MUTATED):
        rng = random.Random(10_000 + seed)
        document = mutated(rng, valid_input(rng))
        report = check_text(json.dumps(document), "input.json")
        if report.config is not None and "min_pair_dist" in json.dumps(document):
            report = with_data(report)
        if report.config is None:
            continue
        passed += 1
        for item in assemble(report.config, torch.device("cpu"), lambda _: None).values():
            batch = item.builder.build(item.sampler.next())
            prediction = batch.predict(item.model, create_graph=False)
            loss = item.loss(prediction, batch.labels, batch.mask, 1e-3)
            assert torch.isfinite(loss.total)
        refuse_unsupported(report.config)
        build_schedule(report.config.learning_rate, report.config.training.numb_steps or 1)
    assert passed > MUTATED / 4


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
