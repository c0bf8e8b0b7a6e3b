"""Nobody reads what is printed any more, or the disk is full: what becomes of the work."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.trainer import Trainer
from schemas.base.errors import WriteError
from schemas.base.terminal import LastingStream, lasting_output
from schemas.base.writing import append_text
from tests.strangers.situations import situation

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
STEPS = 12


@pytest.fixture
def long(config):
    """The input of a run of a few steps more, every one of which prints lines."""
    config["training"]["numb_steps"] = STEPS
    Path("input.json").write_text(json.dumps(config))
    return config


def zoo(*words):
    return [sys.executable, "-m", "cli.main", *words]


def is_complete():
    """Return whether the run in this folder has done all steps and written everything."""
    rows = [row for row in Path("lcurve.out").read_text().splitlines() if row[0] != "#"]
    return len(rows) == STEPS and read_checkpoint("model.ckpt.pt").steps_done == STEPS


@pytest.mark.slow
@situation("""zoo train input.json 2>&1 | head | the reader of the log has gone after the first line
    | the training goes on to its end; exit code 0""")
def test_a_training_outlives_the_reader_of_its_log(long):
    command = zoo("train", "input.json", "--json")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
    )
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0
    assert is_complete()


@situation("""ssh | the terminal is closed (SIGHUP, then EIO) while the bar is shown | the training
    goes on to its end; exit code 0""")
def test_a_training_outlives_its_terminal(long):
    master, slave = os.openpty()
    # The first terminal that the head of a session opens is the one that controls it.
    shell = ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(slave)]
    process = subprocess.Popen(
        shell + zoo("train", "input.json"), env=ENVIRONMENT, start_new_session=True
    )
    assert os.read(master, 1)
    os.close(slave)
    os.close(master)
    assert process.wait() == 0
    assert is_complete()


OPENED = """
import sys
from cli.output import open_missing_streams
open_missing_streams()
print("lost", file=sys.stderr)
with open("file", "w") as file:
    sys.exit(file.fileno() < 3)
"""


@situation("""a starter of daemons | stdin, stdout and stderr are closed from the start | no file is
    opened in the place of a stream, where messages would go into it""")
def test_streams_that_are_closed_from_the_start(tmp_path):
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", OPENED]
    assert subprocess.run(shell, env=ENVIRONMENT, check=False, cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == ""


class Failing:
    """A stream that cannot be written."""

    closed = False

    def __init__(self, error):
        self.error = error

    def write(self, _text):
        raise self.error

    def flush(self):
        raise self.error

    def fileno(self):
        raise OSError(errno.EBADF, "no descriptor")


@situation("""pipes, terminals, log files | a write of the log fails: no reader, hung-up terminal,
    full disk, full pipe, closed file | the line is dropped and the program goes on""")
@pytest.mark.parametrize(
    "error",
    [
        *(OSError(getattr(errno, name), name) for name in ("EPIPE", "EIO", "ENOSPC", "EBADF")),
        BlockingIOError(errno.EAGAIN, "full pipe"),
        ValueError("I/O operation on closed file."),
    ],
)
def test_what_cannot_be_written_is_dropped(error, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Failing(error))
    with lasting_output():
        sys.stderr.write("line")
        sys.stderr.flush()
    assert LastingStream(None).write("line") == 4


@situation("""a logger of a library | it takes stderr for its own during a training, and closes it
    at the end | stderr stays open; nothing is raised""")
def test_loggers_do_not_close_our_streams(tmp_path):
    with (tmp_path / "log").open("w") as file:
        stream = LastingStream(file)
        stream.close()
        assert not file.closed
        assert not stream.closed
        stream.write("line")
    stream.write("dropped")
    assert stream.closed
    stream.close()
    assert (tmp_path / "log").read_text() == "line"


@situation("a log file on a full disk | there is room again | later lines are written")
def test_a_full_disk_may_have_room_again(monkeypatch):
    lines = []
    stream = Failing(OSError(errno.ENOSPC, "full"))
    monkeypatch.setattr(sys, "stderr", stream)
    with lasting_output():
        sys.stderr.write("lost")
        monkeypatch.setattr(stream, "write", lines.append)
        monkeypatch.setattr(stream, "flush", lambda: None)
        sys.stderr.write("kept")
    assert "".join(lines) == "kept"


@situation("""nohup, or a program that handles SIGHUP itself | a training is started there from
    Python | what they have set stays""")
def test_another_answer_to_a_hangup_stays(monkeypatch):
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGHUP)
        with lasting_output():
            assert signal.getsignal(signal.SIGHUP) is mine
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with lasting_output():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@situation("""a full disk, a quota | a checkpoint cannot be written in the middle of a run | the
    message says why and from which whole checkpoint to go on""")
def test_a_full_disk_at_a_checkpoint(long, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = Trainer.save
    saved = []

    def save(trainer, steps_done):
        if saved:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        saved.append(steps_done)
        write(trainer, steps_done)

    monkeypatch.setattr(Trainer, "save", save)
    try:
        with pytest.raises(WriteError, match=r"model\.ckpt-4\.pt cannot be written") as raised:
            dpa2.train(long, device="cpu", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "--restart model.ckpt.pt" in raised.value.hint
    assert read_checkpoint("model.ckpt.pt").steps_done == 2
    assert not list(Path().glob(".*"))


@situation("""a full disk, a quota | the learning curve cannot be written in the middle of a run |
    the message says why and from which whole checkpoint to go on""")
def test_a_full_disk_at_the_learning_curve(long, monkeypatch):
    def append(stream, text):
        if text.split()[0] == "5":
            stream = Failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            stream.name = "lcurve.out"
        append_text(stream, text)

    monkeypatch.setattr("dpa2.training.display.append_text", append)
    with pytest.raises(WriteError, match=r"lcurve\.out cannot be written: No space") as raised:
        dpa2.train(long, device="cpu", progress=False)
    assert "--restart model.ckpt.pt" in raised.value.hint
    assert read_checkpoint("model.ckpt.pt").steps_done == 4


@situation("""zoo list | head | the reader of a result has gone, or stdout is closed or full | quiet
    for a reader that has gone, a sentence for a full disk, never a traceback""")
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("| true", 1, ""),
        ("2>&1 | true", 1, ""),
        (">&-", 0, ""),
        (">/dev/full", 2, "error: No space left on device\n"),
        ("--json >/dev/full", 2, "error: No space left on device\n"),
    ],
)
def test_other_commands_whose_reader_has_gone(redirection, code, said):
    program = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    shell = ["bash", "-c", program, "bash", *zoo("explain", "model.type_map")]
    ran = subprocess.run(shell, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.stderr == said
    assert ran.returncode in ((0, 1) if code == 1 else (code,))  # 0 if it was read before
