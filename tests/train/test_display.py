"""The bytes of lcurve.out (texts of deepmd-kit 3.2.0), and progress: a bar, a line, or nothing."""

import math
import sys
from contextlib import closing
from types import ModuleType

import pytest

from dpa2.training.display import (
    BarProgress,
    LearningCurve,
    LineProgress,
    Progress,
    choose_progress,
    format_header,
    format_row,
)

REMARK = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
TRAINED = {"rmse": 26.4, "rmse_e": 0.0695, "rmse_f": 0.834}
VALIDATED = {"rmse": 26.2, "rmse_e": 0.0255, "rmse_f": 0.829}


def test_header_and_row_with_validation():
    header = format_header({"Default": TRAINED}, {"Default": VALIDATED})
    assert header == (
        "# step       rmse_val    rmse_trn    rmse_e_val  rmse_e_trn    rmse_f_val  rmse_f_trn"
        "   lr      \n" + REMARK
    )
    row = format_row(1, 1e-3, {"Default": TRAINED}, {"Default": VALIDATED})
    assert row == (
        "      1      2.62e+01    2.64e+01      2.55e-02    6.95e-02      8.29e-01    8.34e-01"
        "    1.0e-03\n"
    )


def test_header_and_row_without_validation():
    header = format_header({"Default": TRAINED}, {"Default": {}})
    assert header == ("# step       rmse_trn    rmse_e_trn    rmse_f_trn   lr      \n" + REMARK)
    row = format_row(6, 1e-4, {"Default": {**TRAINED, "rmse_e": math.nan}}, {"Default": {}})
    assert row == "      6      2.64e+01           nan      8.34e-01    1.0e-04\n"


def test_branches_of_a_multi_task_run_have_columns_of_their_own():
    header = format_header({"A": {"rmse": 1.0}, "B": {"rmse": 1.0}}, {"B": {"rmse": 1.0}})
    assert header.startswith("# step     rmse_trn_A    rmse_val_B  rmse_trn_B   lr")


def test_rows_after_the_checkpoint_vanish_when_a_run_is_resumed(tmp_path):
    path = tmp_path / "lcurve.out"
    none = {"Default": {}}
    with closing(LearningCurve(path)) as curve:
        for step in (1, 10, 20):
            curve.add(step, 1e-3, {"Default": TRAINED}, none)
    undisturbed = path.read_text()
    path.write_text(undisturbed + "     30      1.0")  # a row that a kill cut short
    with closing(LearningCurve(path, resume_after=15)) as curve:
        assert path.read_text() == undisturbed.replace(undisturbed.splitlines(True)[-1], "")
        curve.add(20, 1e-3, {"Default": TRAINED}, none)
    assert path.read_text() == undisturbed


def test_a_resumed_run_without_a_file_begins_one(tmp_path):
    with closing(LearningCurve(tmp_path / "lcurve.out", resume_after=5)) as curve:
        curve.add(10, 1e-3, {"Default": TRAINED}, {"Default": {}})
    assert (tmp_path / "lcurve.out").read_text().startswith("# step")


def test_without_a_terminal_there_are_plain_lines(capsys):
    progress = choose_progress(0, 10)
    assert type(progress) is LineProgress
    progress.line("Batch 1")
    assert capsys.readouterr().err == "Batch 1\n"


def test_no_progress_is_no_progress(capsys):
    with choose_progress(0, 10, shown=False) as progress:
        assert type(progress) is Progress
        progress.line("Batch 1")
        progress.advance(1)
    assert capsys.readouterr().err == ""


def test_the_bar_shows_step_errors_speed_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    with BarProgress(0, 100) as progress:
        progress.advance(10, {"rmse": 0.5})
        progress.advance(50, {"rmse": 0.25})
        progress.line("Batch      50: [not markup]")
        summary = progress._bar.tasks[0].fields["summary"]
    assert summary.startswith("rmse 2.50e-01  ")
    assert "steps/s" in summary
    assert summary.endswith(" left")
    shown = capsys.readouterr().err
    assert "Batch      50: [not markup]" in shown
    assert "\x1b[3" not in shown  # NO_COLOR


def test_the_time_left_follows_from_the_speed():
    progress = LineProgress(0, 100)
    assert progress.remaining(0) is None
    progress._seconds_per_step = 2.0
    assert str(progress.remaining(40)) == "0:02:00"


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to run in a Jupyter kernel; returns what it would display."""
    updates = []

    class Handle:
        def update(self, data, *, raw):
            assert raw
            updates.append(data["text/plain"])

    class ZMQInteractiveShell:
        pass

    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = ZMQInteractiveShell
    display.display = lambda *_args, **_options: Handle()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return updates


def test_a_notebook_has_one_line_that_is_rewritten(notebook, capsys):
    with choose_progress(0, 4) as progress:
        progress.advance(2, {"rmse": 0.5})
        progress.advance(3)
        progress.advance(4)
    assert [text.split("]")[1].split()[0] for text in notebook] == ["2/4", "4/4"]
    assert notebook[0].startswith("[############............] 2/4  rmse 5.00e-01")
    assert capsys.readouterr() == ("", "")
