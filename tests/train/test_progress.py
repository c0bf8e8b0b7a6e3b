"""Progress: a bar on a terminal, a line in a notebook, nothing when it is not wanted."""

import sys
from types import ModuleType

import pytest

from dpa2.training.display import BarProgress, LineProgress, Progress, choose_progress


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
