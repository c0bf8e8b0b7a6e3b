"""A run continued, or weights used, with other settings: said, or refused."""

import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.optimizer import Tuning
from schemas.base.errors import CheckpointError, ConfigError, DataError
from tests.cli.conftest import changed
from tests.strangers.runs import diagnostics, quiet, small_input, zoo
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import multitask_input, write_system, write_systems

STEPS = 4


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A folder with a run of two steps of four."""
    folder = tmp_path_factory.mktemp("run")
    write_system(folder / "a", 6, 5, seed=1)
    document = small_input(
        str(folder / "a"), steps=STEPS, loss={"start_pref_v": 0, "limit_pref_v": 0}
    )
    document["learning_rate"]["stop_lr"] = 1e-5
    quiet(document, output_dir=folder)
    (folder / f"model.ckpt-{STEPS}.pt").unlink()
    return folder, document


@pytest.fixture
def run(run_folder, monkeypatch, tmp_path):
    """The input of that run and its checkpoint after two steps, in a fresh folder."""
    monkeypatch.chdir(tmp_path)
    folder, document = run_folder
    return document, str(folder / "model.ckpt-2.pt")


def with_another(document, folder, num_atoms=6):
    """Return the systems of an input, and one more."""
    write_system(folder / "b", num_atoms, 3, seed=2)
    return [*document["training"]["training_data"]["systems"], str(folder / "b")]


def findings(document, *words):
    """Return severity, code and path of what validate says, without notes of other rules."""
    items = diagnostics(document, "--no-data", *words)
    return [(item["severity"], item["code"], ".".join(map(str, item["path"]))) for item in items]


def because_of(document, checkpoint, changes):
    """Return what is found at a restart only with the changes."""
    known = findings(document, "--restart", checkpoint)
    found = findings(changed(document, changes), "--restart", checkpoint)
    return [item for item in found if item not in known]


REFUSED = {
    "model.atom_exclude_types": [0],
    "model.pair_exclude_types": [[0, 1]],
    "model.descriptor.exclude_types": [[0, 1]],
    "model.descriptor.env_protection": 0.1,
    "model.descriptor.precision": "float32",
    "model.fitting_net.precision": "float32",
    "model.fitting_net.atom_ener": [1.0, 2.0],
}
UNFIT = {
    "model.descriptor.repinit.rcut": 3.4,
    "model.descriptor.repinit.rcut_smth": 1.1,
    "model.descriptor.repinit.nsel": 39,
    "model.descriptor.repformer.activation_function": "relu",
    "model.descriptor.repformer.use_sqrt_nnei": False,
    "model.descriptor.smooth": False,
    "model.fitting_net.neuron": [8, 9],
}


@situation("""--restart | a key is other that makes another function of the same weights | refused
    by validate and train at the key; diff shows it""")
@pytest.mark.parametrize("path", REFUSED)
def test_another_function_is_refused(run, path):
    document, checkpoint = run
    other = changed(document, {path: REFUSED[path]})
    errors = [item for item in findings(other, "--restart", checkpoint) if item[0] == "error"]
    assert errors == [("error", "ZOO602", path)]
    assert zoo(other, "train", "--restart", checkpoint).exit_code == 1
    with pytest.raises(ConfigError, match="another function of the same weights"):
        quiet(other, restart=checkpoint)
    shown = zoo(other, "diff", checkpoint)
    assert shown.exit_code == 1
    assert f"! {path.rpartition('.')[2]}:" in shown.stdout


@situation("""--restart, --init-model | the weights fit by their shapes and mean something else: a
    cutoff, an activation function | refused by validate and train""")
@pytest.mark.parametrize("path", UNFIT)
@pytest.mark.parametrize("option", ["restart", "init_model"])
def test_another_meaning_of_weights_is_refused(run, path, option):
    document, checkpoint = run
    other = changed(document, {path: UNFIT[path]})
    written = "--" + option.replace("_", "-")
    assert ("error", "ZOO602", written) in findings(other, written, checkpoint)
    with pytest.raises(CheckpointError, match="does not fit"):
        quiet(other, **{option: checkpoint})


@situation("""--init-model | a key is other that makes another function of the same weights | a
    warning: a new run may begin with another function""")
@pytest.mark.parametrize("path", REFUSED)
def test_a_new_run_with_another_function_is_warned_of(run, path):
    document, checkpoint = run
    other = changed(document, {path: REFUSED[path]})
    assert ("warning", "ZOO602", path) in findings(other, "--init-model", checkpoint)
    assert ("warning", "ZOO602", path) in findings(other, "--finetune", checkpoint)


SAID = {
    "loss.start_pref_e": 1,
    "loss.loss_func": "mae",
    "training.training_data.batch_size": 1,
    "training.training_data.auto_prob": "prob_uniform",
    "training.gradient_max_norm": 1.0,
    "training.enable_ema": True,
    "training.change_bias_after_training": True,
    "optimizer.type": "AdamW",
    "optimizer.weight_decay": 0.1,
    "model.descriptor.trainable": False,
}
NOTED = {
    "training.seed": 2,
    "training.stat_file": "stat.h5",
    "model.descriptor.seed": 2,
    "model.data_stat_nbatch": 3,
    "model.descriptor.repinit.set_davg_zero": True,
}
QUIET = {"training.disp_freq": 2, "training.save_freq": 1, "training.disp_file": "l.out"}


@pytest.mark.parametrize(("severity", "changes"), [
    case("--restart | a key is other that sends the training another way: loss, batch size, "
         "optimiser, data | a warning with both values", "warning", SAID),
    case("--restart | a key is other at which only the beginning of a run looks: seeds, statistics "
         "| a note that a restart does not look at it", "note", NOTED),
    case("--restart | a key is other that computes nothing: how often to show and to save, names "
         "of files | nothing is said", None, QUIET),
])  # fmt: skip
def test_what_other_settings_do_is_said(run, severity, changes):
    document, checkpoint = run
    for path, value in changes.items():
        found = because_of(document, checkpoint, {path: value})
        assert ((severity, "ZOO632", path) in found) == (severity is not None), path
        assert {item[0] for item in found} <= {"warning", severity}, path
        assert severity is not None or not found, path


@situation("""--restart | systems were added to the data, or frames to a system | refused by train,
    and by validate where it reads the data""")
def test_other_data_are_refused(run, tmp_path):
    document, checkpoint = run
    systems = with_another(document, tmp_path, 8)
    other = changed(document, {"training.training_data.systems": systems})
    items = diagnostics(other, "--restart", checkpoint)
    errors = [(x["code"], x["message"]) for x in items if x["severity"] == "error"]
    said = f"{checkpoint} was trained with 1 systems of 5 frames; here are 2 of 8"
    assert errors == [("ZOO637", said)]
    with pytest.raises(DataError, match="2 of 8"):
        quiet(other, restart=checkpoint)


@situation("""--restart, --finetune | nsel is auto, and comes out other than in the checkpoint |
    refused by validate, which reads the data: the weights go with one number""")
@pytest.mark.parametrize("option", ["--restart", "--finetune", "--init-model"])
def test_automatic_selections_are_those_of_the_checkpoint(run, option):
    document, checkpoint = run
    number = document["model"]["descriptor"]["repinit"]["nsel"]
    other = changed(document, {"model.descriptor.repinit.nsel": "auto:40"})
    items = diagnostics(other, option, checkpoint)
    (found,) = [item for item in items if item["code"] == "ZOO606"]
    assert found["severity"] == "error"
    assert found["hint"] == f"write {number}"


@situation("""--restart | the same systems in another order, or with other numbers of frames of the
    same sum | refused in words that tell the difference""")
def test_systems_in_another_order(run, tmp_path):
    document, _ = run
    systems = with_another(document, tmp_path)
    both = changed(document, {"training.training_data.systems": systems})
    started = quiet(changed(both, {"training.numb_steps": 1}), output_dir="one")
    turned = changed(both, {"training.training_data.systems": systems[::-1]})
    with pytest.raises(DataError, match="2 systems of 8 frames in another order"):
        quiet(turned, restart=started.checkpoint)
    document = changed(turned, {"training.training_data.systems": systems[::-1]})
    items = diagnostics(document, "--restart", str(started.checkpoint))
    (message,) = (item["message"] for item in items if item["code"] == "ZOO637")
    assert message.endswith("was trained with 2 systems of 8 frames in another order")


@situation("""--restart | validation data were taken away from or added to those of the run |
    refused, and called validation data""")
def test_other_validation_data(run, tmp_path):
    document, _ = run
    systems = with_another(document, tmp_path)
    validation = "training.validation_data"
    one = changed(document, {"training.numb_steps": 1, validation: {"systems": systems[:1]}})
    started = quiet(one, output_dir="one")
    other = changed(document, {validation: {"systems": systems}})
    with pytest.raises(DataError, match="other validation data"):
        quiet(other, restart=started.checkpoint)


@situation("""--restart | full validation is switched on, `preset_out_bias` is new | nothing is said
    to change the training that does not""")
def test_what_does_not_change_the_training_is_not_said_to(run):
    document, checkpoint = run
    (system,) = document["training"]["training_data"]["systems"]
    validating = changed(
        document,
        {
            "training.validation_data": {"systems": [system]},
            "validating": {"full_validation": True, "validation_freq": 1},
        },
    )
    found = findings(validating, "--restart", checkpoint)
    assert [item for item in found if "validating" in item[2]] == []
    preset = changed(document, {"model.preset_out_bias": {"energy": [1.0, 2.0]}})
    assert ("note", "ZOO632", "model.preset_out_bias") in findings(preset, "--restart", checkpoint)
    used = changed(preset, {"training.change_bias_after_training": True})
    assert ("warning", "ZOO632", "model.preset_out_bias") in findings(used, "--restart", checkpoint)


@situation("""--restart | the checkpoint holds weights only: a running mean, an extracted branch |
    refused by validate as by train""")
def test_weights_alone_cannot_be_continued(run, tmp_path):
    document, checkpoint = run
    content = torch.load(checkpoint, weights_only=True)
    content.pop("optimizer")
    torch.save(content, tmp_path / "weights.pt")
    found = findings(document, "--restart", "weights.pt")
    assert [item for item in found if item[0] == "error"] == [("error", "ZOO550", "--restart")]
    assert ("error", "ZOO550", "--restart") not in findings(document, "--restart", checkpoint)
    with pytest.raises(CheckpointError, match="weights only"):
        quiet(document, restart="weights.pt")


@situation("""--restart | more steps, and a schedule that depends on their number | a warning: the
    rate jumps, from what to what, and why""")
def test_a_jump_of_the_rate_is_said(run):
    document, checkpoint = run
    other = changed(document, {"training.numb_steps": 40})
    words = ("--restart", checkpoint)
    assert ("warning", "ZOO633", "training.numb_steps") in findings(other, *words)
    result = zoo(other, "train", *words, "--set", "training.numb_steps=40")
    assert "the learning rate jumps from 0.000316 to 0.000891" in result.stderr
    assert "numb_steps was 4 and is 40" in result.stderr


@situation("""--restart | more steps, and a schedule that does not depend on their number | nothing
    is said: the run is longer""")
def test_more_steps_of_the_same_schedule(run, tmp_path):
    document, _ = run
    fixed = changed(document, {"learning_rate.decay_rate": 0.5})
    quiet(fixed, output_dir="fixed")
    longer = changed(fixed, {"training.numb_steps": 40})
    checkpoint = str(tmp_path / "fixed" / "model.ckpt-4.pt")
    assert because_of(fixed, checkpoint, {"training.numb_steps": 40}) == []
    assert "training" in zoo(longer, "diff", checkpoint).stdout


@situation("""deepmd-kit | its checkpoint, which notes the model and the rate, is restarted with
    more steps | the jump of the rate is said; the model is compared""")
def test_a_checkpoint_without_settings(run, tmp_path):
    document, checkpoint = run
    content = torch.load(checkpoint, weights_only=True)
    del content["dpa_zoo"]
    torch.save(content, tmp_path / "dp.pt")
    other = changed(document, {"training.numb_steps": 40, "loss.start_pref_e": 1})
    found = findings(other, "--restart", "dp.pt")
    assert ("warning", "ZOO633", "learning_rate") in found
    assert not [item for item in found if item[1] == "ZOO632"]
    assert zoo(document, "diff", "dp.pt").stdout == "no difference\n"


@situation("""--restart of a multi-task run | the loss of one branch, the probabilities of branches,
    or what they share are other | said at the branch; other sharing is refused""")
def test_branches_are_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_systems(tmp_path)
    document = multitask_input("descriptor")
    document["training"]["numb_steps"] = 2
    quiet(document, output_dir="run")
    checkpoint = str(tmp_path / "run" / "model.ckpt-1.pt")
    changes = {
        "loss_dict.second.start_pref_f": 10,
        "training.model_prob.first": 1.0,
        "training.data_dict.first.training_data.batch_size": 1,
    }
    found = findings(changed(document, changes), "--restart", checkpoint)
    for path in changes:
        assert ("warning", "ZOO632", path) in found
    levels = {"model.model_dict.first.descriptor": "surroundings:1"}
    found = findings(changed(document, levels), "--restart", checkpoint)
    assert ("error", "ZOO636", "--restart") in found


@situation("""Python | dpa2.train(init_model=..., use_pretrain_script=True) | the model is the
    checkpoint's, as with deepmd-kit""")
def test_the_pretrain_script_of_init_model(run):
    document, checkpoint = run
    other = changed(document, {"model": {"type_map": ["O", "H"], "descriptor": {}}})
    other["model"]["fitting_net"] = {}
    result = quiet(other, init_model=checkpoint, use_pretrain_script=True)
    ours, theirs = (read_checkpoint(file).model_params for file in (result.checkpoint, checkpoint))
    assert ours["descriptor"] == theirs["descriptor"]
    assert ours["fitting_net"] == theirs["fitting_net"]


@situation("""Python | an argument that the way to start does not look at: bias_mode with restart,
    ... | refused by its name, not dropped""")
@pytest.mark.parametrize(
    ("start", "name", "value"),
    [
        ("restart", "use_pretrain_script", True),
        (None, "use_pretrain_script", True),
        ("restart", "branch", "water"),
        ("init_model", "bias_mode", "set"),
        ("init_model", "tuning", Tuning(True)),
        (None, "branch", "water"),
    ],
)
def test_arguments_are_not_dropped(run, start, name, value):
    document, checkpoint = run
    options = {name: value} | ({} if start is None else {start: checkpoint})
    with pytest.raises(ValueError, match=f"{name} has no effect"):
        quiet(document, **options)
