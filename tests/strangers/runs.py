"""Small runs of training: their input, and what starts them."""

import json
from pathlib import Path

import dpa2
from tests.commands import outcome
from tests.train.multitask_cases import MODEL


def small_input(*systems, steps=4, batch_size=2, model=None, loss=None):
    """Return the input of a run of a few steps on systems in this folder."""
    return {
        "model": {**MODEL, **(model or {})},
        "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 1},
        "loss": loss or {},
        "training": {
            "training_data": {"systems": list(systems), "batch_size": batch_size},
            "numb_steps": steps,
            "save_freq": 2,
            "disp_freq": 1,
            "seed": 1,
        },
    }


def quiet(document, **options):
    """Train on the processor without a progress bar."""
    return dpa2.train(document, device="cpu", progress=False, **options)


def zoo(document, command, *words):
    """Return what becomes of `zoo COMMAND input.json WORDS` on a document."""
    Path("input.json").write_text(json.dumps(document))
    return outcome(command, "input.json", *words)


def diagnostics(document, *words):
    """Return what `zoo validate --json WORDS` finds in a document."""
    result = zoo(document, "validate", "--json", *words)
    found = json.loads(result.stdout)["files"][0]["diagnostics"]
    assert result.exit_code == any(item["severity"] == "error" for item in found)
    return found
