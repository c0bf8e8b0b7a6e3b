"""Learning rates against numbers computed by deepmd-kit (data/make_reference.py)."""

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from schemas.base.errors import ConfigError
from schemas.input.optimization import LearningRate
from schemas.input.schedule import build_schedule

CASES = json.loads((Path(__file__).parent / "data" / "schedule.json").read_text())


def parse(config):
    return TypeAdapter(LearningRate).validate_python(config)


@pytest.mark.parametrize("case", CASES)
def test_values_equal_those_of_deepmd_kit(case):
    schedule = build_schedule(parse(case["config"]), case["num_steps"])
    values = [schedule.value(step) for step in case["steps"]]
    assert values == pytest.approx(case["values"], rel=1e-15, abs=0)


def test_every_schedule_of_the_schema_is_compared():
    known = {
        get_args(kind)[0].model_fields["type"].annotation
        for kind in get_args(get_args(LearningRate)[0])
    }
    assert {name for kind in known for name in get_args(kind)} == {
        c["config"]["type"] for c in CASES
    }


def test_a_warm_up_longer_than_the_training_is_refused():
    config = parse({"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "warmup_steps": 20})
    with pytest.raises(ConfigError, match="warm-up takes 20 steps"):
        build_schedule(config, 20)


def test_a_training_without_steps_has_a_schedule():
    config = parse({"type": "cosine", "start_lr": 1e-3, "stop_lr": 1e-5})
    assert build_schedule(config, 0).value(0) == 1e-3
