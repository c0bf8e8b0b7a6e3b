"""A folder that holds a run already, or another one at work: nothing is lost unasked."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training import run_folder
from dpa2.training.start import read_input
from schemas.base.errors import DataError, TrainingError
from tests.commands import outcome
from tests.strangers.runs import quiet
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import write_system

ROOT = Path(__file__).parents[2]


def state(folder="."):
    """Everything in a folder, by name: what links lead to and what files hold."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(Path(folder).iterdir())
        if not path.is_dir() or path.is_symlink()
    }


LEFT = {
    "lcurve.out": {},
    "out.json": {},
    "model.ckpt-1000000.pt": {},
    "model.ckpt.pt": {},
    "checkpoint": {},
    "errors.txt": {"training.disp_file": "errors.txt"},
    "deep/er-7.pt": {"training.save_ckpt": "deep/er"},
    "kept/model.ckpt-7.pt": {"training.save_dir": "kept"},
    "model_ema.ckpt-3.pt": {"training.enable_ema": True},
    "log/events.out.tfevents.1.x": {"training.tensorboard": True},
    "val.log": {"validating.full_validation": True},
    "best.ckpt-9.t-1.pt": {"validating.full_validation": True},
}


@situation("""a folder of an earlier run | one of the files that the new run would write, replace or
    rotate away is there | refused; --restart, --output-dir and --force are named; nothing is
    touched""")
@pytest.mark.parametrize("name", LEFT)
def test_a_used_folder_is_refused(config, name):
    config["training"]["validation_data"] = {"systems": ["a"]}
    overrides = [f"{key}={json.dumps(value)}" for key, value in LEFT[name].items()]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(b"old")
    before = state()
    with pytest.raises(TrainingError, match="holds files of a run") as raised:
        quiet(config, overrides=overrides)
    assert Path(name).name in raised.value.message
    for word in ("--restart", "--output-dir", "--force"):
        assert word in raised.value.hint
    assert state() == before


@situation("""a folder with other people's files | files that a run does not write are there: data,
    notes, models of other names | the run starts and leaves them alone""")
def test_other_files_do_not_make_a_folder_used(config):
    others = ["notes.txt", "model.ckpt-best.pt", "other.ckpt-10.pt", "val.log", "model.pth"]
    for name in others:
        Path(name).write_bytes(b"old")
    quiet(config)
    assert all(Path(name).read_bytes() == b"old" for name in others)


@situation("""a folder of an earlier run | a dead link has the name of the link to the newest
    checkpoint | counts as a file of a run""")
def test_a_dead_link_counts(config):
    Path("model.ckpt.pt").symlink_to("gone.pt")
    with pytest.raises(TrainingError, match=r"model\.ckpt\.pt"):
        quiet(config)


@situation("""a finished run of 60 steps | started again by mistake, or with --init-model, or as a
    fine-tuning | refused by every way to start; the checkpoint is as it was""")
@pytest.mark.parametrize(
    "words",
    [
        ["train", "input.json"],
        ["train", "input.json", "--init-model", "model.ckpt.pt"],
        ["train", "input.json", "--finetune", "model.ckpt.pt"],
        ["finetune", "input.json", "--model", "model.ckpt.pt"],
    ],
)
def test_every_way_to_start_is_refused(config, words):
    quiet(config)
    before = state()
    result = outcome(*words)
    assert isinstance(result.exception, TrainingError)
    assert state() == before


@situation("""a folder of an earlier, longer run | --force | files of the same names are written
    over; rotation deletes this run's checkpoints only""")
def test_force_writes_over_and_rotates_only_its_own(config):
    Path("model.ckpt-1000000.pt").write_bytes(b"precious")
    Path("lcurve.out").write_bytes(b"old")
    result = outcome("train", "input.json", "--force", "-q", "--set", "training.max_ckpt_keep=1")
    assert result.exit_code == 0
    assert Path("model.ckpt-1000000.pt").read_bytes() == b"precious"
    assert not Path("model.ckpt-2.pt").exists()
    assert "rmse" in Path("lcurve.out").read_text()
    assert Path("model.ckpt.pt").readlink() == Path("model.ckpt-4.pt")


@situation("""a folder of an earlier run | --output-dir names a fresh folder | everything goes
    there, data are still found from here, the old files are as they were""")
def test_another_folder_takes_everything(config):
    quiet(config)
    before = state()
    result = outcome("train", "input.json", "--output-dir", "new/one", "-q")
    assert result.exit_code == 0
    assert state() == before
    assert set(state("new/one")) == set(before) - {"input.json"}


@situation("an interrupted run | --restart in its folder | goes on with its files as ever")
def test_a_restart_goes_on_in_its_folder(config):
    quiet(config, overrides=["training.numb_steps=2"])
    result = quiet(config, restart="model.ckpt.pt")
    assert result.steps_done == 4
    steps = [line.split()[0] for line in Path("lcurve.out").read_text().splitlines()]
    assert steps[2:] == ["1", "2", "3", "4"]


@situation("""a finished run | --restart from one of its earlier checkpoints | refused: the later
    checkpoints would be written over; --force does it""")
def test_a_restart_does_not_write_over_later_states(config):
    quiet(config)
    before = state()
    with pytest.raises(TrainingError, match=r"model\.ckpt-4\.pt: of later steps") as raised:
        quiet(config, restart="model.ckpt-2.pt")
    assert "--restart model.ckpt-4.pt" in raised.value.hint
    assert state() == before
    assert quiet(config, restart="model.ckpt-2.pt", force=True).steps_done == 4


@situation("""two runs | --restart from a checkpoint of another folder in a folder that is used |
    refused: the files here are of another run""")
def test_a_restart_from_elsewhere_does_not_write_over_this_run(config):
    quiet(config, output_dir="other", overrides=["training.numb_steps=2"])
    quiet(config)
    before = state()
    with pytest.raises(TrainingError, match="holds files of a run"):
        quiet(config, restart="other/model.ckpt-2.pt")
    assert state() == before
    assert quiet(config, restart="other/model.ckpt-2.pt", output_dir="third").steps_done == 4


def held(config, folder=".", overrides=()):
    """Hold the folders of a run, as its process does."""
    return run_folder.RunFolder(read_input(config, overrides)[0], Path(folder), "out.json").held(
        print
    )


@pytest.mark.parametrize(("first", "options", "folder", "words"), [
    case("a batch system | the same job twice at once in one folder | the second is refused by the "
         "name of the process at work; the first is not disturbed", ".", [], ".",
         "process {pid} on"),
    case("a batch system | runs in two folders that name one folder for their checkpoints | the "
         "second is refused", "one", ["training.save_dir=../shared"], "two",
         "trains in .*shared"),
    case("two runs at once | with --force, save_ckpt leads from another folder into that of a run "
         "at work | the second is refused", "one", ["training.save_ckpt=../one/model.ckpt"],
         "two", "trains in .*one"),
])  # fmt: skip
def test_two_runs_at_once(config, first, options, folder, words):
    words = words.format(pid=os.getpid())  # not in the table: workers of the suite differ in it
    with held(config, first, options), pytest.raises(TrainingError, match=words):
        quiet(config, overrides=options, output_dir=folder, force=True)
    assert not list(Path().rglob("lcurve.out"))
    assert quiet(config).steps_done == 4  # the lock has gone with its holder
    assert not list(Path().glob(".*"))


HOLD = """
import os, sys
from pathlib import Path
from schemas.base.writing import Marker
marker = Marker(Path(".zoo-train.lock"))
assert marker.take()
os.kill(os.getpid(), 9)
"""


@situation("a killed run | the lock of a process that was killed is left | taken over at once")
def test_the_lock_of_a_killed_run_is_taken_over(config):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", HOLD], env=environment, check=False)
    assert killed.returncode == -9
    assert Path(".zoo-train.lock").exists()
    assert quiet(config).steps_done == 4
    assert not Path(".zoo-train.lock").exists()


@situation("""a file system shared by machines, without locks | the lock of a run on another
    machine: alive, or dead | alive: refused; dead: taken over after its silence""")
def test_a_lock_of_another_machine(config, monkeypatch):
    marker = Path(".zoo-train.lock")
    marker.write_text("1234\nnode17\n")
    ended = threading.Event()

    def live():
        while not ended.wait(0.05):
            os.utime(marker)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(TrainingError, match="process 1234 on node17 trains in"):
            quiet(config)
    finally:
        ended.set()
        thread.join()
    monkeypatch.setattr(run_folder, "SILENCE", 0.3)
    assert quiet(config).steps_done == 4


@situation("""torchrun, mpirun, srun | several processes are started to share the work | refused:
    not supported yet; nothing is written""")
@pytest.mark.parametrize(
    "name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]
)
def test_several_processes_are_refused(config, monkeypatch, name):
    monkeypatch.setenv(name, "4")
    with pytest.raises(TrainingError, match="has started 4 processes"):
        quiet(config)
    assert {path.name for path in Path().iterdir()} == {"a", "input.json"}


@situation("""torchrun, Slurm | one process only: --nproc-per-node 1, or the script of a batch job
    that has several tasks | trains""")
@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_one_process_trains(config, monkeypatch, name):
    monkeypatch.setenv(name, "4" if name == "SLURM_NTASKS" else "1")
    assert quiet(config).steps_done == 4


@situation("""deepmd-kit | a folder that `dp train` has filled | refused for a new run, as one of
    ours""")
def test_a_folder_of_deepmd_kit_is_used(config):
    Path("model.ckpt-1000.pt").write_bytes(b"dp")
    Path("checkpoint").write_text("model.ckpt-1000.pt")
    with pytest.raises(TrainingError, match="checkpoint"):
        quiet(config)
    assert Path("checkpoint").read_text() == "model.ckpt-1000.pt"


@pytest.fixture
def validated(config):
    """The same run with full validation of every step."""
    config["training"]["validation_data"] = {"systems": ["a"]}
    config["validating"] = {"full_validation": True, "validation_freq": 1, "full_val_start": 0}
    return config


@situation("""full validation | --force in a folder with best checkpoints of another run | they stay
    but for their names""")
def test_best_checkpoints_of_another_run_stay(validated):
    Path("best.ckpt-900.t-1.pt").write_bytes(b"old")
    quiet(validated, force=True)
    assert Path("best.ckpt-900.t-1.pt").read_bytes() == b"old"
    best = [path for path in Path().glob("best.ckpt-*.t-1.pt") if "900" not in path.name]
    assert len(best) == 1
    assert read_checkpoint(best[0]).steps_done


@pytest.mark.parametrize(("is_done", "hint"), [
    case("a run that died before its first checkpoint | its curve and its out.json are there, "
         "nothing to continue | refused; it is said that there is no checkpoint, instead of naming "
         "one that is not there", False, "there is no checkpoint to give to --restart"),
    case("a run that was killed between a checkpoint and its link | numbered checkpoints are "
         "there, the link to the newest is not | the newest file is named for --restart", True,
         "--restart model.ckpt-4.pt continues"),
])  # fmt: skip
def test_a_checkpoint_is_named_if_there_is_one(config, is_done, hint):
    if is_done:
        quiet(config)
        Path("model.ckpt.pt").unlink()
    else:
        Path("lcurve.out").write_text("# step\n")
        Path("checkpoint").write_text("model.ckpt-2.pt")
    with pytest.raises(TrainingError) as raised:
        quiet(config)
    assert hint in raised.value.hint


@situation("""save_ckpt with an absolute path | --output-dir names a fresh folder, the checkpoints
    of another run are where save_ckpt leads | their folder is named, and that --output-dir does not
    move them""")
def test_absolute_paths_are_not_moved_by_another_folder(config, tmp_path):
    options = [f"training.save_ckpt={tmp_path / 'kept' / 'model'}"]
    quiet(config, overrides=options, output_dir="one")
    with pytest.raises(TrainingError, match=r"^kept holds files of a run") as raised:
        quiet(config, overrides=options, output_dir="two")
    assert "--output-dir" not in raised.value.hint
    assert "save_ckpt" in raised.value.hint


@situation("""a start that fails | a restart with other data is refused | nothing is left in the
    folder: the corrected command runs there""")
def test_a_start_that_fails_leaves_nothing(config):
    quiet(config, overrides=["training.numb_steps=2"], output_dir="first")
    write_system(Path("b"), 6, 4, seed=2)
    other = ['training.training_data.systems=["a","b"]']
    with pytest.raises(DataError, match="1 systems of 5 frames; here are 2 of 9"):
        quiet(config, restart="first/model.ckpt-2.pt", output_dir="second", overrides=other)
    assert list(Path("second").iterdir()) == []
    assert quiet(config, restart="first/model.ckpt-2.pt", output_dir="second").steps_done == 4


@situation("""full validation | a restart with another validation_metric | errors of other kinds are
    not ranked against each other; the best of before stay""")
def test_best_checkpoints_by_another_metric_stay(validated):
    quiet(validated, overrides=["training.numb_steps=2"])
    (before,) = Path().glob("best.ckpt-*.pt")
    old = before.read_bytes()
    result = quiet(
        validated,
        restart="model.ckpt.pt",
        overrides=["validating.validation_metric=F:RMSE", "validating.max_best_ckpt=2"],
    )
    records = read_checkpoint(result.checkpoint).state["best"]["best.ckpt"]
    assert {int(step) for _, step in records} == {3, 4}
    assert before.read_bytes() == old
    quiet(
        validated,
        restart="model.ckpt.pt",
        overrides=["validating.validation_metric=F:RMSE", "training.numb_steps=5"],
    )
    assert before.read_bytes() == old


@situation("full validation | a file that is called nearly as a best checkpoint is | stays")
def test_files_of_nearly_the_same_name_stay(validated):
    Path("best.ckpt-mine.t-x.pt").write_bytes(b"mine")
    quiet(validated, force=True)
    assert Path("best.ckpt-mine.t-x.pt").read_bytes() == b"mine"
