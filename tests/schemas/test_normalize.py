"""Normalised inputs equal deepmd-kit's, key for key and value for value."""

import json
from pathlib import Path

import pytest

from schemas.base.errors import ConfigError
from schemas.check.input_file import check_text
from schemas.input.model import parse_model
from schemas.input.root import normalized

GOLDEN = json.loads((Path(__file__).parent / "normalized_by_deepmd.json").read_text())
CASES = {case["name"]: case for case in GOLDEN["cases"]}


@pytest.mark.parametrize("name", CASES)
def test_the_normalised_input_is_that_of_deepmd(name, with_changes, monkeypatch):
    monkeypatch.setattr("schemas.check.task.run_rules", lambda *_: [])
    document = with_changes(CASES[name]["changes"])
    report = check_text(json.dumps(document))
    assert report.config is not None, report.diagnostics
    assert normalized(report.config) == CASES[name]["normalized"]


@pytest.mark.parametrize("name", CASES)
def test_a_normalised_model_reads_as_itself(name):
    section = CASES[name]["normalized"]["model"]
    assert normalized(parse_model(section)) == section


def test_a_checkpoint_may_have_nulls_and_keys_of_deepmd(water):
    section = {**water["model"], "spin": None, "hessian_mode": True, "info": {"observed_type": []}}
    assert parse_model(section).info == {"observed_type": []}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.descriptor.type": "dpa3"}, "dpa3"),
        ({"model.fitting_net.type": "dos"}, "dos"),
        ({"model.descriptor.repinit.rcut": "<remove>"}, "descriptor.repinit.rcut"),
        ({"model.model_dict": {"a": {}}}, "several branches"),
    ],
)
def test_another_model_is_refused_with_a_reason(changes, words, with_changes):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_model(with_changes(changes)["model"])
    assert caught.value.hint
