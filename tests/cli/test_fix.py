"""`zoo validate --fix`: what is repaired, what is left alone, how the file is written."""

import json
import stat
from pathlib import Path

import pytest
import yaml

from schemas.check.input_file import check_text, fix_text

OLD = """{
    // an input of long ago
    "model": {
        "type_map": ["O", 'H',],
        "descriptor": {
            "type": "dpa2",
            "repinit_rcut": 6.0,
            "repinit_rcut_smth": "0.5",
            "repinit_nsel": 120,

            "tebd_dim": 8,
            "repformer_rcut": 4.0,
            "repformer_rcut_smth": 0.5,
            "repformer_nsel": 40,
            "repformer_axis_dim": 4,
            "repformer_do_bn_mode": "no"
        },
        "fiting_net": {"neuron": [1, 2], "resnet_dt": True}
    },
    "learning_rate": {"start_lr": 1.e-3}
    "loss": {},
    "training": {
        "systems": ["data/water"],
        "batch_size": "auto",
        "set_prefix": "set",
        "stop_batch": 100000, # steps
        "warmup_steps": 5,
        "opt_type": "AdamW",
        "adam_beta1": .9,
        "load_ckpt": "x"
    }
}
"""
NEW = """{
    "_comment": "an input of long ago",
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa2",
            "repinit": {
                "rcut": 6.0,
                "rcut_smth": 0.5,
                "nsel": 120,
                "tebd_dim": 8
            },
            "repformer": {
                "rcut": 4.0,
                "rcut_smth": 0.5,
                "nsel": 40,
                "axis_neuron": 4,
                "use_sqrt_nnei": false,
                "g1_out_conv": false,
                "g1_out_mlp": false
            }
        },
        "fitting_net": {"neuron": [1, 2], "resnet_dt": true}
    },
    "learning_rate": {"start_lr": 0.001, "warmup_steps": 5},
    "loss": {},
    "training": {
        "numb_steps": 100000, "_comment": "steps",
        "training_data": {
            "systems": ["data/water"],
            "batch_size": "auto"
        }
    },
    "optimizer": {
        "type": "AdamW",
        "adam_beta1": 0.9
    }
}
"""


def test_an_input_of_long_ago_becomes_one_of_today(workspace):
    fixed = fix_text(OLD)
    assert fixed.text == NEW
    assert fixed.report.ok


def test_fixing_twice_is_fixing_once(workspace):
    assert fix_text(NEW).text == NEW


@pytest.mark.parametrize(
    ("written", "fixed"),
    [
        ('{"loss": {},}', '{"loss": {}}'),
        ("{'loss': {}}", '{"loss": {}}'),
        ("{\u201closs\u201d: {}}", '{"loss": {}}'),
        ("{loss: {}}", '{"loss": {}}'),
        ('{"loss" {}}', '{"loss": {}}'),
        ('{"loss": {} "x": 1}', '{"loss": {}, "x": 1}'),
        ('{"loss": {},, "x": 1}', '{"loss": {}, "x": 1}'),
        ('\ufeff{"loss": {}}', '{"loss": {}}'),
        ('{"loss": {"use_huber": TRUE}}', '{"loss": {"use_huber": true}}'),
        ('{"loss": {"start_pref_e": +.5}}', '{"loss": {"start_pref_e": 0.5}}'),
        ('{"loss": {"start_pref_e": 007}}', '{"loss": {"start_pref_e": 7}}'),
        ('{"loss": {"x": "a\\d"}}', '{"loss": {"x": "a\\\\d"}}'),
        ('{"loss": {"x": "a\tb"}}', '{"loss": {"x": "a\\tb"}}'),
        ('{"loss": {} /* c */}', '{"loss": {} , "_comment": "c"}'),
        ('{// c\n"loss": {}}', '{"_comment": "c",\n"loss": {}}'),
        ('{"x": [1, // one\n 2]}', '{"x": [1,\n 2]}'),
        ('{"loss": {}} # end\n', '{"loss": {}}\n'),
    ],
)
def test_a_fault_of_the_text_is_repaired(written, fixed):
    text = fix_text(written).text
    assert text.replace(" ", "") == fixed.replace(" ", "")
    assert "ZOO001" not in {item.code for item in check_text(text).diagnostics}


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"model.Type_Map": ["H"], "model.type_map": "<remove>"}, "model.type_map", ["H"]),
        ({"model.descriptor.type": "DPA2"}, "model.descriptor.type", "dpa2"),
        ({"model.descriptor.precision": "fp64"}, "model.descriptor.precision", "float64"),
        ({"training.numb_steps": "10000"}, "training.numb_steps", 10000),
        ({"training.numb_steps": 1e6}, "training.numb_steps", 1000000),
        ({"loss.use_huber": "false"}, "loss.use_huber", False),
        ({"training.start_lr": 0.01, "learning_rate.start_lr": "<remove>"},
         "learning_rate.start_lr", 0.01),
        ({"training.stop_batch": 10000}, "training.numb_steps", 10000),
    ],
)  # fmt: skip
def test_a_fault_of_a_key_or_value_is_repaired(changes, path, value, example, workspace):
    fixed = fix_text(example("single-task", changes))
    assert not [item for item in fixed.report.diagnostics if item.code < "ZOO2"]
    document = json.loads(fixed.text)
    for part in path.split("."):
        document = document[part]
    assert document == value


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate.stop_lr": 0.1},
        {"optimizer": {"type": "AdamX"}},  # Adam or AdamW
        {"loss.pref": 1},
        {"training.stop_batch": 7},  # numb_steps says otherwise
        {"model.descriptor.repinit.activation_function": "silux"},
    ],
)
def test_what_is_not_sure_is_left_alone(changes, example, workspace):
    text = example("single-task", changes)
    assert fix_text(text).text == text


def test_a_hybrid_of_the_first_days_becomes_dpa2_only_if_asked(example, workspace):
    se_atten = {"type": "se_atten", "sel": 120, "rcut": 9.0, "rcut_smth": 8.0, "attn_layer": 0}
    se_uni = {"type": "se_uni", "sel": 40, "rcut": 4.0, "rcut_smth": 3.5, "axis_dim": 4}
    hybrid = {"type": "hybrid", "hybrid_mode": "sequential", "list": [se_atten, se_uni]}
    text = example("single-task", {"model.descriptor": hybrid})
    assert fix_text(text).text == text
    fixed = fix_text(text, unsafe=True)
    assert fixed.report.ok
    descriptor = json.loads(fixed.text)["model"]["descriptor"]
    assert descriptor["repinit"] == {"nsel": 120, "rcut": 9.0, "rcut_smth": 8.0}
    assert descriptor["repformer"]["axis_neuron"] == 4
    assert descriptor["repformer"]["use_sqrt_nnei"] is False


def test_duplicate_keys_are_removed_only_if_asked():
    text = '{"loss": {"start_pref_e": 1}, "loss": {"start_pref_f": 2}}'
    assert fix_text(text).text == text
    assert fix_text(text, unsafe=True).text == '{"loss": {"start_pref_f": 2}}'


def test_yaml_keeps_its_comments(example, workspace):
    document = json.loads(example("single-task", {"training.numb_steps": "<remove>"}))
    document["training"].update({"stop_batch": 10000, "numb_test": 5})
    document["learning_rate"]["start_lr"] = "1e-3"
    text = "# of long ago\n" + yaml.safe_dump(document).replace(" 1e-3", " 1e-3  # high")
    fixed = fix_text(text, "input.yaml")
    assert "start_lr: 0.001  # high" in fixed.text
    assert fixed.text.startswith("# of long ago\n")
    assert "numb_test" not in fixed.text
    assert "numb_steps: 10000" in fixed.text
    assert fixed.report.ok


def test_the_file_is_replaced_and_keeps_mode_link_and_line_ends(zoo, workspace):
    real = workspace / "real.json"
    real.write_bytes(OLD.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    Path("input.json").symlink_to(real)
    result = zoo("validate", "input.json", "--fix", "--no-data")
    assert result.exit_code == 0
    assert real.read_bytes() == NEW.replace("\n", "\r\n").encode()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert Path("input.json").is_symlink()
    assert [path.name for path in workspace.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_cannot_be_improved_is_not_touched(zoo, workspace):
    Path("bad.json").write_text('{"loss": {"start_pref_e": }')
    before = Path("bad.json").stat()
    assert zoo("validate", "bad.json", "--fix").exit_code == 1
    after = Path("bad.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_diff_shows_the_change_and_writes_nothing(zoo, workspace):
    Path("old.json").write_text('{\n  "loss": {},\n}\n')
    result = zoo("validate", "old.json", "--diff")
    assert '-  "loss": {},' in result.stdout.splitlines()
    assert '+  "loss": {}' in result.stdout.splitlines()
    assert Path("old.json").read_text() == '{\n  "loss": {},\n}\n'
    document = json.loads(zoo("validate", "old.json", "--diff", "--json").stdout)
    assert document["files"][0]["diff"].startswith("--- old.json")
