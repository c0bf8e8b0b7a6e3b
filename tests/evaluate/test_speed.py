import json

import pytest

from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import Timing, measure, num_evaluations
from tests.commands import outcome


def test_rates_follow_from_the_median():
    timing = Timing(num_atoms=200, seconds=[0.3, 0.1, 0.2])
    assert timing.median == 0.2
    assert timing.microseconds_per_atom == pytest.approx(1000)
    assert timing.nanoseconds_per_day == pytest.approx(86400 / 0.2 * 0.5e-15 * 1e9)


def test_models_take_turns(water, system):
    order = []

    class Watched:
        def __init__(self, name):
            self.name = name
            self.dim_fparam = self.dim_aparam = 0

        def predict(self, *arguments, **options):
            order.append(self.name)
            return water.predict(*arguments, **options)

    models = {name: Watched(name) for name in "ab"}
    (opened,) = open_systems([str(system)], water.type_map)
    frames = {name: opened.frames([0]) for name in models}
    ticks = []
    found = measure(models, frames, 3, ticks.append)
    assert order == list("aabb" + "ab" * 3)
    assert sum(ticks) == num_evaluations(2, 3) == len(order)
    assert [len(item.seconds) for item in found.values()] == [3, 3]


def test_the_command_compares_two_models(water_model, system):
    words = ["speed", f"one={water_model}", f"two={water_model}", "-s", str(system), "-r", "2"]
    result = outcome(*words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["models"]
    assert [item["name"] for item in found] == ["one", "two"]
    assert all(len(item["seconds"]) == 2 for item in found)
    shown = outcome(*words).stdout
    assert "µs/atom" in shown
    assert "two" in shown


def test_two_models_of_one_name_are_refused(water_model, system):
    words = ["speed", f"a={water_model}", f"a={water_model}", "-s", str(system)]
    result = outcome(*words)
    assert result.exit_code == 2
    assert "NAME=MODEL" in result.output
