"""Inputs whose data are elsewhere."""

import json
from pathlib import Path

import pytest

from cli.input_check import with_data
from schemas.check.input_file import check_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "water" / "input.json"


@pytest.fixture
def example():
    return json.loads(EXAMPLE.read_text())


def faults(config, folder):
    path = folder / "input.json"
    path.write_text(json.dumps(config))
    report = check_file(path)
    return [(d.severity, d.code) for d in report.diagnostics], report


def test_data_that_are_all_elsewhere_are_one_warning(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, report = faults(example, tmp_path)
    assert found == [("warning", "ZOO401")]
    assert report.config is not None
    assert "none of the 2 paths of data exists" in report.diagnostics[0].message


def test_a_missing_path_beside_others_is_an_error(example, tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLE.parents[2])
    example["training"]["validation_data"]["systems"] = ["examples/water/gfn3/test"]
    found, _ = faults(example, tmp_path)
    assert ("error", "ZOO401") in found


def test_the_other_faults_are_still_errors(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example["learning_rate"]["stop_lr"] = 1.0
    found, report = faults(example, tmp_path)
    assert {severity for severity, code in found if code != "ZOO401"} == {"error"}
    assert report.config is None


def test_a_path_that_no_file_system_can_hold_is_absent(example, tmp_path, monkeypatch, make_system):
    monkeypatch.chdir(tmp_path)
    example["training"]["training_data"]["systems"] = ["x" * 5000]
    found, report = faults(example, tmp_path)
    assert [code for _, code in found] == ["ZOO401"]
    make_system(tmp_path / "a")
    example["training"]["training_data"]["systems"].append("a")
    _, report = faults(example, tmp_path)
    found = {(item.severity, item.code) for item in with_data(report).diagnostics}
    assert found >= {("error", "ZOO401"), ("error", "ZOO431")}
