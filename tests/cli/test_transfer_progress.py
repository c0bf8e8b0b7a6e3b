"""What a person sees of a transfer."""

import io
import re
import sys

import pytest

from cli.output import Output, TransferBar, TransferLines, transfer_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; within the test, for pytest sets stderr when the test begins."""
    stream = Terminal()
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
