"""Kinds of faults, each tried on every key of the schema that can have it."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.check.input_file import check_text
from schemas.input.root import Input
from schemas.input.section import Section, WrittenTo
from schemas.input.view import fields, sections_of

RECORDED = Path(__file__).parent / "multitask_by_deepmd.json"
UNLIMITED = {
    "rcond": "ignored",
    "data_bias_nsample": "ignored",
    "acc_freq": "ignored",
    "max_ckpt_keep": "any number keeps all",
    "ema_ckpt_keep": "any number keeps all",
    "max_best_ckpt": "any number keeps all",
    "tensorboard_freq": "without effect where tensorboard is off",
    "seed": "any number is a seed",
    "bridging_r_inner": "of a part that is refused",
    "bridging_r_outer": "of a part that is refused",
    "lr_adjust": "of optimisers that are refused",
    "lr_adjust_coeff": "of optimisers that are refused",
    "kf_blocksize": "of optimisers that are refused",
}
"""Numbers for which no size is absurd, and why."""
_OPTIONAL_TERMS = ("v", "h", "ae", "pf", "gf")
ZERO_IS_MEANT = {
    "rcut_smth", "three_body_rcut_smth", "env_protection", "update_residual", "numb_fparam",
    "numb_aparam", "dim_case_embd", "rcond", "data_stat_protect", "warmup_steps", "warmup_ratio",
    "warmup_start_factor", "min_pair_dist", "zero_stage", "adam_beta1", "adam_beta2",
    "weight_decay", "momentum", "numb_generalized_coord", "lr_adjust", "lr_adjust_coeff", "seed",
    "smin_alpha", "sw_rmin", "sw_rmax", "bridging_r_inner", "bridging_r_outer", "ema_decay",
    "full_val_start", *(f"{end}_pref_{x}" for end in ("start", "limit") for x in _OPTIONAL_TERMS),
}  # fmt: skip
"""Numbers that are off, none or the least at 0."""
ANY_SIGN = ("seed", "smin_alpha", "sw_rmin", "sw_rmax")
OF_OTHERS = ("kf_", "momentum", "muon", "lr_adjust")


def numeric_keys(section: type[Section] = Input, path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the path of every key that takes a number, and whether it takes fractions."""
    for name, field in section.model_fields.items():
        below = list(sections_of(field.annotation))
        for option in dict.fromkeys(below):
            yield from numeric_keys(option, (*path, name))
        if below or name.startswith(OF_OTHERS):
            continue
        if _takes(section, name, 0.25):
            yield (*path, name), True
        elif any(_takes(section, name, number) for number in (1, 0)):
            yield (*path, name), False


@cache
def _adapter(section: type[Section], name: str) -> TypeAdapter[Any]:
    field = section.model_fields[name]
    return TypeAdapter(field.rebuild_annotation(), config={"strict": True, "allow_inf_nan": False})


def _takes(section: type[Section], name: str, value: Any) -> bool:
    try:
        _adapter(section, name).validate_python(value)
    except ValidationError:
        return False
    return True


KEYS = sorted(dict(numeric_keys()).items())
"""Every numeric key of a single-task input, without those of optimisers that are refused."""
EXCLUSIVE = {
    "numb_epoch": ("training", "numb_steps"),
    "stop_lr_ratio": ("learning_rate", "stop_lr"),
    "warmup_ratio": ("learning_rate", "warmup_steps"),
}


@pytest.fixture
def said_at(water, workspace):
    """What is said about a value: the severities of findings at its key, or below it."""

    def said(path: tuple[str, ...], value: Any) -> list[str]:
        if path[-1] == "decay_phase_ratio":
            water["learning_rate"] = {"type": "wsd", "start_lr": 0.001, "stop_lr": 1e-6}
        section, key = EXCLUSIVE.get(path[-1], ("training", ""))
        water[section].pop(key, None)
        if path[0] == "validating":
            water["validating"] = {"full_validation": True}
        holder = water
        for part in path[:-1]:
            inner = holder.get(part)
            holder[part] = inner if isinstance(inner, dict) else {}
            holder = holder[part]
        holder[path[-1]] = value
        found = check_text(json.dumps(water), "input.json").diagnostics
        return [
            item.severity
            for item in found
            if path[-1] in item.path
            or (item.code == "ZOO245" and item.path == path[: len(item.path)])
            or path[-1] in item.message
        ]

    return said


def test_the_keys_are_those_of_the_schema():
    names = {path[-1] for path, _ in KEYS}
    assert len(KEYS) > 70
    assert {"nlayers", "nsel", "start_pref_gf", "decay_steps", "batch_size", "numb_btch"} <= names
    assert {"axis_neuron", "max_best_ckpt", "gradient_max_norm", "adam_beta2"} <= names


def absurd_numbers():
    """Yield the path of each key, an absurd number and the severities with which it may be met."""
    said, refused = {"error", "warning"}, {"error"}
    for path, is_real in KEYS:
        name = path[-1]
        if name not in ("bridging_r_inner", "bridging_r_outer"):
            yield path, -1, {"warning"} if name in ANY_SIGN else refused
        if name not in ZERO_IS_MEANT:
            yield path, 0, said
        if name not in UNLIMITED:
            yield path, 1e12 if is_real else 10**12, said
        if is_real:
            yield path, 1e39, refused  # beyond float32
        yield path, 10**30, refused  # beyond 64 bits


@pytest.mark.parametrize(("path", "value", "severities"), list(absurd_numbers()))
def test_absurd_numbers_are_refused_or_said(path, value, severities, said_at):
    assert severities & set(said_at(path, value))


OUTPUTS = [
    ("training.disp_file", "file", {}),
    ("training.stat_file", "statistics", {}),
    ("training.save_ckpt", "prefix", {}),
    ("training.save_dir", "folder", {}),
    ("training.profiling_file", "file", {"training.profiling": True}),
    ("training.tensorboard_log_dir", "new folder", {"training.tensorboard": True}),
    ("validating.full_val_file", "file", {"validating.full_validation": True}),
    ("validating.save_best_dir", "folder", {"validating.full_validation": True}),
]


def test_the_outputs_are_those_of_the_schema(check):
    config = check().config
    marked = {
        ".".join(map(str, field.path)): mark.kind
        for field in fields(config)
        for mark in field.marks
        if isinstance(mark, WrittenTo)
    }
    assert marked == {path: kind for path, kind, _ in OUTPUTS}


@pytest.mark.parametrize(("path", "kind", "more"), OUTPUTS)
@pytest.mark.parametrize("place", ["missing", "below a file", "wrong kind", "empty", "right"])
def test_outputs_go_where_they_can(path, kind, more, place, faults, workspace):
    (workspace / "text").write_text("not HDF5")
    (workspace / "folder").mkdir()
    value = {
        "missing": "no/such/place",
        "below a file": "text/place",
        "wrong kind": "folder" if kind == "file" else "text",
        "empty": "",
        "right": "folder" if kind == "folder" else "folder/place",
    }[place]
    found = {
        severity
        for severity, code, where in faults({**more, path: value})
        if where == path and code not in ("ZOO327", "ZOO111")
    }
    expected = {"error"}
    if place == "right" or (place == "wrong kind" and kind == "prefix"):
        expected = set()
    elif place == "missing" and kind != "file":
        expected = {"warning"}
    assert found == expected


NAMES = [
    ("RANDOM", "error"), ("", "error"), (".", "error"), ("..", "error"), ("a/b", "error"),
    ("a\\b", "error"), ("a.b", "error"), ("a\nb", "error"), ("a\tb", "error"),
    ("\x1b[31m", "error"), ("w" * 300, "error"), ("水" * 90, "error"), ("training", "error"),
    ("train", "error"), ("type", "error"), ("values", "error"), ("state_dict", "error"),
    ("Default", "warning"), ("layers", "warning"), ("descriptor", "warning"), ("7", "warning"),
    ("水", "warning"), ("a b", "warning"), ("a ", "warning"), ("-a", "warning"), ("a:b", "warning"),
    ("a#b", "warning"), ("$a", "warning"), ("WATER", "warning"), ("test", None),
    ("H2O_PBE-D3", None), ("a+U", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "severity"), NAMES)
def test_names_of_branches(name, severity, workspace):
    document = json.loads(RECORDED.read_text())["input"]
    names = ["water", name]
    for holder, key in (
        (document["model"], "model_dict"),
        (document, "loss_dict"),
        (document["training"], "data_dict"),
    ):
        holder[key] = dict.fromkeys(names, holder[key]["pbe"])
    del document["training"]["model_prob"]
    found = check_text(json.dumps(document), "input.json").diagnostics
    worst = [item.severity for item in found if item.severity != "note"]
    assert set(worst) == ({severity} if severity else set())
    assert all(item.path[:2] == ("model", "model_dict") for item in found)
