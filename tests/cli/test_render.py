"""What a person sees: diagnostics with colours and places, SARIF, the progress of transfers."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from cli.output import Output, TransferBar, TransferLines, transfer_progress
from cli.render import Colors, colors_of, render, sarif
from schemas.check.input_file import check_text

TEXT = '{\n  "loss": {"nope": 1},\n  "loss": {\n    "start_pref_e": "1"}\n}'


class Terminal:
    def __init__(self, *, interactive):
        self.interactive = interactive

    def isatty(self):
        return self.interactive


@pytest.mark.parametrize(
    ("interactive", "environment", "colored"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colors_appear_where_they_can_be_seen(interactive, environment, colored, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert colors_of(Terminal(interactive=interactive)).enabled is colored


def test_colors_change_no_character():
    report = check_text(TEXT)
    painted = "\n".join(render(report, "full", Colors(enabled=True)))
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == "\n".join(render(report, "full"))
    assert painted.count("\x1b[") == 2 * painted.count("\x1b[0m")


def test_the_other_place_is_shown_below():
    lines = list(render(check_text(TEXT), "full"))
    start = next(number for number, line in enumerate(lines) if "ZOO004" in line)
    assert lines[start].startswith("input.json:3:3  error  ZOO004  `loss` appears twice")
    assert lines[start + 1 : start + 5] == [
        '   3 |   "loss": {',
        "     |   ^^^^^^ keep one of them",
        '   2 |   "loss": {"nope": 1},',
        "     |   ------------------- the first one",
    ]


def test_a_long_line_is_cut_around_the_fault():
    text = '{"loss": {"a": "' + "x" * 400 + '", "start_pref_e": "1"}}'
    shown = [line for line in render(check_text(text), "full") if "start_pref_e" in line]
    assert all(len(line) < 130 for line in shown)


def test_sarif_has_the_published_structure():
    log = sarif([check_text(TEXT, "inputs/a b.json")])
    json.dumps(log)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "zoo"
    identifiers = [rule["id"] for rule in driver["rules"]]
    assert len(identifiers) == len(set(identifiers))
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    assert run["columnKind"] == "unicodeCodePoints"
    for result in run["results"]:
        assert identifiers[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "inputs/a%20b.json"
        region = physical["region"]
        assert set(region) == {"startLine", "startColumn", "endLine", "endColumn"}
        assert all(number >= 1 for number in region.values())
        for fix in result.get("fixes", []):
            for change in fix["artifactChanges"]:
                for item in change["replacements"]:
                    assert set(item) == {"deletedRegion", "insertedContent"}
                    assert isinstance(item["insertedContent"]["text"], str)
    twice = next(item for item in run["results"] if item["ruleId"] == "ZOO004")
    (related,) = twice["relatedLocations"]
    assert related["message"]["text"] == "the first one"
    assert related["physicalLocation"]["region"]["startLine"] == 2
    assert any("fixes" in item for item in run["results"])


def test_sarif_and_json_are_the_only_thing_on_stdout(zoo, workspace):
    Path("bad.json").write_bytes(b"\xff\xfe not text")
    Path("torn.json").write_text("{")
    log = json.loads(zoo("validate", "bad.json", "torn.json", "--format", "sarif").stdout)
    assert {item["ruleId"] for item in log["runs"][0]["results"]} == {"ZOO009", "ZOO001"}
    document = json.loads(zoo("validate", "bad.json", "torn.json", "--json").stdout)
    assert [len(file["diagnostics"]) for file in document["files"]] == [1, 1]


def test_the_fix_of_a_diagnostic_is_data(zoo, workspace):
    Path("bad.json").write_text('{"loss": {},}')
    document = json.loads(zoo("validate", "bad.json", "--json").stdout)
    fixes = [item["fix"] for item in document["files"][0]["diagnostics"] if item["fix"]]
    span = {"line": 1, "col": 12, "end_line": 1, "end_col": 13}
    assert fixes == [
        {"title": "remove the comma", "safe": True, "edits": [{"span": span, "replacement": ""}]}
    ]


def test_many_places_of_one_fault_are_one_line():
    text = "{" + ", ".join(f"'key{number}': 1" for number in range(20)) + "}"
    lines = list(render(check_text(text), "full"))
    line, unknown = [line for line in lines if "also at" in line]  # quotes, then keys
    assert unknown.strip().startswith("= also at 1:46, ")
    assert line.strip() == (
        "= also at 1:13, 1:24, 1:35, 1:46, 1:57, 1:68, 1:79, 1:90, 1:101, 1:112 and 9 more places"
    )


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Make stderr a terminal; within the test, for pytest sets stderr when the test begins."""
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return stream


def transfer(out: Output) -> None:
    with transfer_progress(out) as progress:
        progress.say("waiting for [process 1]")
        progress.start("model.pt", None, 0)
        progress.start("model.pt", 4_000_000, 1_000_000)
        progress.advance(2_000_000)
        progress.advance(1_000_000)
        progress.finish()


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    transfer(Output())
    shown = terminal.getvalue()
    assert "model.pt" in shown
    assert "4.0/4.0 MB" in shown
    assert re.search(r"\d+:\d\d:\d\d", shown)
    assert "waiting for [process 1]" in shown


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    transfer(Output())
    assert re.search(r"\x1b\[[\d;]*3\d", terminal.getvalue())
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    transfer(Output())
    assert not re.search(r"\x1b\[[\d;]*3\d", terminal.getvalue())


@pytest.mark.parametrize("out", [Output(quiet=True), Output(json_mode=True)])
def test_quiet_and_json_show_nothing(monkeypatch: pytest.MonkeyPatch, out: Output) -> None:
    terminal = open_terminal(monkeypatch)
    transfer(out)
    assert terminal.getvalue() == ""


def test_without_a_terminal_there_are_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    transfer(Output())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "waiting for [process 1]",
        "model.pt: 4.0 MB, 1.0 MB of it are here",
        "model.pt: complete after 0 s",
    ]


def test_a_long_transfer_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 20.0, 25.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    lines = TransferLines(Output())
    lines.start("model.pt", 3_000_000_000, 0)
    lines.advance(500_000_000)
    lines.advance(500_000_000)
    lines.advance(500_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "model.pt: 3.00 GB",
        "model.pt: 1.00 GB of 3.00 GB (33%), 50.0 MB/s, 40 s left",
    ]


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    for term, kind in (("xterm-256color", TransferBar), ("dumb", TransferLines)):
        monkeypatch.setenv("TERM", term)
        with transfer_progress(Output()) as progress:
            assert isinstance(progress, kind)
