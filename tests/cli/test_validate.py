"""`zoo validate` on the command line: formats, exit codes, what goes where."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.commands import outcome

BAD = '{\n  "model": {"nsell": 120}\n}'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text(BAD)
    return partial(outcome, "validate")


def test_the_full_format_shows_the_line_and_marks_the_fault(run):
    result = run("bad.json")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    start = lines.index("bad.json:2:13  error  ZOO102  unknown key `nsell`")
    assert lines[start + 1] == '   2 |   "model": {"nsell": 120}'
    assert lines[start + 2].startswith("     |             ^^^^^^^ ")
    assert lines[-1].startswith("bad.json: 7 errors")


def test_the_concise_format_has_a_line_for_each_fault(run):
    lines = run("bad.json", "--format", "concise").stdout.splitlines()
    assert len(lines) == 8


def test_the_github_format_annotates(run):
    lines = run("bad.json", "--format", "github").stdout.splitlines()
    start = "::error file=bad.json,line=2,col=13,endLine=2,endColumn=20,title=ZOO102::"
    assert any(line.startswith(start) for line in lines)


def test_json_is_the_only_thing_on_stdout(run):
    result = run("bad.json", "--json")
    document = json.loads(result.stdout)
    (file,) = document["files"]
    assert file["file"] == "bad.json"
    faults = {tuple(item["path"]): item for item in file["diagnostics"]}
    fault = faults["model", "nsell"]
    assert set(fault) == {"code", "severity", "message", "path", "span", "hint", "fix"}
    assert fault["span"] == {"line": 2, "col": 13, "end_line": 2, "end_col": 20}
    assert result.exit_code == 1


def test_standard_input_is_read(run):
    result = run("-", "--format", "concise", stdin=BAD)
    assert "<stdin>:2:13  error  ZOO102" in result.stdout


def test_a_missing_file_is_no_verdict_and_others_are_checked(run):
    result = run("nowhere.json", "bad.json", "--json")
    assert result.exit_code == 2
    first, second = json.loads(result.stdout)["files"]
    assert [item["code"] for item in first["diagnostics"]] == ["ZOO010"]
    assert len(second["diagnostics"]) == 7


def test_warnings_fail_only_when_strict(run, tmp_path):
    system = tmp_path / "a" / "set.000"
    system.mkdir(parents=True)
    (tmp_path / "a" / "type.raw").write_text("0")
    document = {
        "model": {
            "type_map": ["O"],
            "descriptor": {
                "type": "dpa2",
                "repinit": {"rcut": 6, "rcut_smth": 1, "nsel": 9},
                "repformer": {"rcut": 4, "rcut_smth": 1, "nsel": 4},
            },
            "fitting_net": {},
        },
        "learning_rate": {"start_lr": 0.001},
        "loss": {},
        "training": {"training_data": {"systems": "file.h5#/a"}, "numb_steps": 1000000},
    }
    Path("file.h5").touch()
    Path("good.json").write_text(json.dumps(document))
    assert run("good.json", "--no-data").exit_code == 0
    assert run("good.json", "--no-data", "--strict").exit_code == 1
    assert run("good.json", "--no-data", "--set", "training.numb_steps=-1").exit_code == 1


def test_checking_needs_neither_torch_nor_numpy():
    code = (
        "import sys, schemas.check.input_file, cli.render, cli.validate;"
        "schemas.check.input_file.check_text('{}');"
        "sys.exit(bool({'torch', 'numpy', 'h5py'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
