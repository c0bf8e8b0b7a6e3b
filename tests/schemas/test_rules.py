"""Each rule finds its fault, at the right place, and nothing else."""

import json

import pytest

from schemas.check.rule import (
    RULES,
    run_rules,  # noqa: F401 - registers the rules
)

REPINIT = "model.descriptor.repinit"
REPFORMER = "model.descriptor.repformer"
TRAINING_DATA = "training.training_data"
REMOVE = "<remove>"

TABLE = """
error ZOO201: @repinit.rcut_smth = 6.0
error ZOO202: @repformer.rcut_smth = 4.5
error ZOO203: @repinit.three_body_rcut_smth = 4
error ZOO204 @repformer.rcut: @repformer.rcut = 6.0; @repformer.nsel = 50
error ZOO205 @repformer.nsel: @repformer.nsel = 100; @repformer.rcut = 5.0
error ZOO206: @repinit.three_body_rcut = 7.0
error ZOO207 @repinit.three_body_sel: @repinit.three_body_sel = 101; @repinit.three_body_rcut = 5
error ZOO208 @repinit.three_body_sel: @repinit.three_body_rcut = 3.5; @repinit.three_body_sel = 41
warning ZOO209 @repinit.three_body_sel: @repinit.nsel = "auto"; \
    @repinit.three_body_sel = "auto:1.2"; @repformer.nsel = "auto"
warning ZOO210: @repinit.rcut = 20.0
warning ZOO213 @repinit.rcut: @repinit.rcut = 0.6; @repinit.three_body_rcut = 0.5; \
    @repformer.rcut = 0.4; @repinit.three_body_rcut_smth = 0.1; @repformer.rcut_smth = 0.1; \
    @repinit.rcut_smth = 0.1
note ZOO307 learning_rate.stop_lr: learning_rate.decay_rate = 0.98
warning ZOO333: training.disp_freq = 20000
warning ZOO334 validating.validation_freq: \
    validating = {"full_validation": true, "validation_freq": 20000}
error ZOO416: @data.batch_size = "filter:2"
warning ZOO412 @data.batch_size.1: @data.batch_size = [1, 100]
warning ZOO211: @repinit.use_three_body = false
warning ZOO212 @repinit.three_body_rcut: no @repinit.three_body_rcut; \
    no @repinit.three_body_rcut_smth; no @repinit.three_body_sel
error ZOO221: @repinit.axis_neuron = 33
error ZOO222: @repformer.axis_neuron = 9
error ZOO223 @repformer.update_g1_has_conv: @repformer.update_g1_has_grrg = false; \
    @repformer.update_g1_has_drrd = false
warning ZOO224: @repformer.attn2_hidden = 33
warning ZOO225: @repformer.attn1_hidden = 999
warning ZOO226: model.descriptor.precision = "bfloat16"
warning ZOO227 model.descriptor.trainable: model.descriptor.trainable = false; \
    @fitting.trainable = [true, true, false]
error ZOO228: @fitting.default_fparam = [1.0]
error ZOO229: @fitting.atom_ener = [1.0]
warning ZOO229: @fitting.atom_ener = [1.0, null]
warning ZOO230: @fitting.dim_case_embd = 2
error ZOO231: model.preset_out_bias.energy = [null]
error ZOO241 model.type_map.2: model.type_map = ["O", "H", "O"]
warning ZOO242 model.type_map.2: model.type_map = ["O", "H", "Xx"]
error ZOO243 model.type_map.2: model.type_map = ["O", "H", "Xx"]; \
    model.descriptor.use_econf_tebd = true
error ZOO244 model.descriptor.exclude_types.0: model.descriptor.exclude_types = [[0, 5]]
error ZOO244 model.pair_exclude_types.1: model.pair_exclude_types = [[0, 1], [-1, 0]]
error ZOO244 model.atom_exclude_types.0: model.atom_exclude_types = [2]
error ZOO301: learning_rate.stop_lr = 0.01
error ZOO301 learning_rate.stop_lr_ratio: learning_rate.stop_lr = null; \
    learning_rate.stop_lr_ratio = 2
error ZOO302: learning_rate.stop_lr_ratio = 0.1
error ZOO303 learning_rate.warmup_ratio: learning_rate.warmup_ratio = 0.1; \
    learning_rate.warmup_steps = 5
error ZOO304: learning_rate.warmup_steps = 10000
warning ZOO305: learning_rate.decay_steps = 10000
warning ZOO306: learning_rate.stop_lr = 0
error ZOO306 learning_rate.stop_lr: \
    learning_rate = {"type": "wsd", "start_lr": 0.001, "stop_lr": 0.0}
warning ZOO311 loss.limit_pref_ae: loss.start_pref_ae = 1
error ZOO312 loss: loss.start_pref_e = 0; loss.start_pref_f = 0; loss.limit_pref_e = 0; \
    loss.limit_pref_f = 0
error ZOO313 loss.relative_f: loss.use_huber = true; loss.relative_f = 1.0
error ZOO313 loss.start_pref_h: loss.use_huber = true; loss.start_pref_h = 1
error ZOO314: loss.f_use_norm = true
error ZOO315 loss.numb_generalized_coord: loss.start_pref_gf = 1; loss.limit_pref_gf = 1
error ZOO321: no training.numb_steps
error ZOO321: training.numb_epoch = 3
warning ZOO322: training.numb_steps = 0
warning ZOO323: training.save_freq = 20000
warning ZOO324: training.gradient_max_norm = 0
warning ZOO325: training.seed = -1
warning ZOO326: training.save_ckpt = "no/such/model"
error ZOO328 training.enable_ema: training.enable_ema = true; training.zero_stage = 2
error ZOO329: training.stat_file_mode = "read"
warning ZOO330: no training.validation_data
error ZOO331 validating.validation_metric: validating.full_validation = true; \
    validating.validation_metric = "V:MAE"
error ZOO332: optimizer.type = "LKF"
error ZOO341: training.profiling = true
error ZOO341: training.enable_profiler = true
error ZOO341 loss.start_pref_h: loss.start_pref_h = 1; loss.limit_pref_h = 1
error ZOO345: training.zero_stage = 1
error ZOO342: @fitting.trainable = [true]
note ZOO343: @data.batch_size = "mixed:4"
warning ZOO344: @fitting.precision = "single"
error ZOO231 model.preset_out_bias.enery: model.preset_out_bias = {"enery": [1, 2]}
warning ZOO111: training.acc_freq = 2
warning ZOO111: @fitting.rcond = 0.001
error ZOO113: model.spin = {"use_spin": [true, false]}
error ZOO113: model.type_embedding = {}
error ZOO401 @data.systems.1: @data.systems = ["data/a", "data/nowhere"]
error ZOO401 @data.systems.0: @data.systems = ["data/*"]
error ZOO402 @data.systems.0: @data.systems = ["data/a/set.000"]
warning ZOO405 @data.systems.1: @data.systems = ["data/a", "./data/a"]
warning ZOO406: training.validation_data.systems = "data/a"
error ZOO411: @data.batch_size = [1]
warning ZOO412: @data.batch_size = 100
error ZOO413: @data.batch_size = "mix:64"
error ZOO414: @data.auto_prob = "prob_sys_size;0:9:1.0"
error ZOO415: @data.sys_probs = [0.5, 0.7]
error ZOO415 @data.sys_probs.0: @data.sys_probs = [-0.5, 1.0]
warning ZOO421 loss.start_pref_v: loss.start_pref_v = 1; loss.limit_pref_v = 1
warning ZOO422 loss.start_pref_f: loss.start_pref_f = 0; loss.limit_pref_f = 0
warning ZOO422 loss.start_pref_e: loss.start_pref_e = 0; loss.limit_pref_e = 0
error ZOO380: model.atom_exclude_types = [0, 1]
warning ZOO381: model.descriptor.exclude_types = [[0, 0], [0, 1], [1, 1]]
error ZOO423: @fitting.numb_fparam = 2
error ZOO210: @repinit.rcut = 1000.0
error ZOO242 model.type_map.2: model.type_map = ["O", "H", " "]
error ZOO245: @fitting.neuron = [1000000000]
warning ZOO351: @repformer.nlayers = 0
error ZOO352: loss.start_pref_e = 1e+39
warning ZOO353: training.seed = 1099511627776
warning ZOO353: model.descriptor.seed = [1, 2]
error ZOO354: training.disp_file = "no/such/lcurve.out"
error ZOO355 training.disp_file: training.stat_file = "./lcurve.out"
warning ZOO356 loss.start_pref_e: loss.start_pref_e = 1; loss.limit_pref_e = 0.02
warning ZOO357 loss.start_pref_e: loss.start_pref_e = 1000000.0; loss.limit_pref_e = 1000000.0
warning ZOO358: learning_rate.stop_lr = 0.001
warning ZOO359: learning_rate.warmup_steps = 6000
warning ZOO360 training.max_ckpt_keep: training.max_ckpt_keep = 2; training.ckpt_keep_ratio = 0.5
warning ZOO362: training.gradient_max_norm = null
warning ZOO111: training.ema_decay = 0.9
warning ZOO424 @data.sys_probs.1: @data.sys_probs = [1.0, 0.0]
error ZOO425: @data.auto_prob = "prob_sys_size;0:2:0.5;1:2:0.5"
"""
"""A case a line: severity and code, the path at fault (if it is not the key that is changed), and
what is changed: keys and their JSON, or `no` and a key to remove."""
SECTIONS = {
    "@repinit": REPINIT,
    "@repformer": REPFORMER,
    "@fitting": "model.fitting_net",
    "@data": TRAINING_DATA,
}


def cases():
    """Yield severity, code, path and changes of each line of the table."""
    table = TABLE.strip()
    for short, path in SECTIONS.items():
        table = table.replace(short, path)
    for line in table.splitlines():
        head, _, rest = line.partition(": ")
        changes = {}
        for item in rest.split("; "):
            key, _, value = item.strip().partition(" = ")
            changes[key.removeprefix("no ")] = json.loads(value) if value else REMOVE
        severity, code, *path = head.split()
        yield severity, code, *(path or list(changes)[:1]), changes


CASES = list(cases())
CONSEQUENCES = {
    "ZOO226": {"ZOO344"},
    "ZOO328": {"ZOO345"},
    "ZOO245": {"ZOO351"},
    "ZOO352": {"ZOO351", "ZOO356"},
    "ZOO206": {"ZOO208"},
    "ZOO243": {"ZOO242"},
    "ZOO313": {"ZOO421", "ZOO341"},
    "ZOO315": {"ZOO421"},
    "ZOO341": {"ZOO421"},
}
"""Rules that a case breaks too, necessarily."""


@pytest.mark.parametrize(("severity", "code", "path", "changes"), CASES)
def test_a_rule_finds_its_fault_and_nothing_else(severity, code, path, changes, faults, removed):
    changes = {key: removed if value == REMOVE else value for key, value in changes.items()}
    found = faults(changes)
    assert (severity, code, path) in found
    others = {other for _, other, _ in found} - {code}
    assert others <= CONSEQUENCES.get(code, set())


def test_the_unchanged_input_is_silent(faults):
    assert faults({}) == []


def test_every_rule_has_a_case():
    elsewhere = {"ZOO327", "ZOO403", "ZOO404", "ZOO634", "ZOO635"}
    of_one_task = {rule.code for rule in RULES if rule.scope in ("input", "single-task")}
    assert of_one_task == {case[1] for case in CASES} | elsewhere


def test_codes_are_distinct():
    codes = [rule.code for rule in RULES]
    assert len(codes) == len(set(codes))


def test_a_missing_tensorboard_is_an_error(faults, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert faults({"training.tensorboard": True}) == [("error", "ZOO327", "training.tensorboard")]


def test_an_element_of_the_data_that_the_model_lacks_is_an_error(faults, workspace, make_system):
    make_system(workspace / "data" / "salt", names="O H Na")
    found = faults({f"{TRAINING_DATA}.systems": ["data/a", "data/salt"]})
    assert found == [("error", "ZOO404", f"{TRAINING_DATA}.systems.1")]


def test_a_misspelt_element_is_an_error_where_the_data_have_it(faults):
    found = faults({"model.type_map": ["O", "hydrogen"]})
    assert ("error", "ZOO242", "model.type_map.1") in found


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda system: (system / "type_map.raw").write_text(""), "empty"),
        (lambda system: (system / "type.raw").write_text("0 1 7"), "index 7"),
        (lambda system: (system / "type.raw").write_text("O H H"), "type index"),
        (lambda system: (system / "set.000" / "box.npy").unlink(), "nopbc"),
        (lambda system: (system / "set.000" / "coord.npy").unlink(), "coord.npy"),
        (lambda system: (system / "set.000" / "force.npy").write_text("<html>"), "not an array"),
    ],
)
def test_a_system_that_is_not_whole_is_an_error(check, workspace, spoil, words):
    spoil(workspace / "data" / "a")
    report = check()
    assert [item.code for item in report.diagnostics] == ["ZOO403"]
    assert words in report.diagnostics[0].message
    assert report.diagnostics[0].path == ("training", "training_data", "systems", 0)


def test_one_fault_does_not_hide_another(faults):
    found = faults(
        {
            f"{REPINIT}.nsell": 3,
            f"{REPINIT}.axis_neuron": "4",
            f"{REPFORMER}.rcut_smth": 9.0,
            "learning_rate.type": "cosin",
            "loss.f_use_norm": True,
            "training.numb_steps": -1,
        }
    )
    assert {code for _, code, _ in found} == {
        "ZOO102",
        "ZOO103",
        "ZOO104",
        "ZOO105",
        "ZOO202",
        "ZOO314",
    }
