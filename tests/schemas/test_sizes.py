"""Sizes of models: the presets, and parameters and memory told from the configuration alone."""

import json
from pathlib import Path

import pytest

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import build_model
from schemas.check.input_file import check_text
from schemas.input.model import Model, parse_model
from schemas.input.new_input import FITTING_NET, SIZES, descriptor
from schemas.input.weights import Neighbors, memory_estimate, parameter_counts

GOLDEN = Path(__file__).parents[1] / "golden"
EXAMPLES = Path(__file__).parents[2] / "examples" / "water"
FILES = {"small": "input.json", "medium": "input_medium.json", "large": "input_large.json"}
WATER = Neighbors(82.0, 25.6, 25.6)


def section(preset, *neighbors, **changes):
    network = {**descriptor(preset, *neighbors), **changes}
    return {"type_map": ["O", "H"], "descriptor": network, "fitting_net": FITTING_NET}


@pytest.mark.parametrize("preset", SIZES)
def test_a_preset_has_the_network_of_the_example_of_its_name(preset):
    model = json.loads((EXAMPLES / FILES[preset]).read_text())["model"]
    assert descriptor(preset, 120, 48) == model["descriptor"]
    assert model["fitting_net"] == {"precision": "float64", **FITTING_NET}


@pytest.mark.parametrize("preset", SIZES)
@pytest.mark.parametrize("neighbors", [(0, 0), (4, 4), (8, 12), (400, 120)])
def test_a_preset_is_valid_whatever_the_numbers_of_neighbors(preset, neighbors):
    report = check_text(json.dumps({"model": section(preset, *neighbors)}))
    wrong = [item for item in report.diagnostics if item.path[:1] == ("model",)]
    assert [item.message for item in wrong if item.severity == "error"] == []


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz")))
def test_parameters_counted_from_the_configuration_are_those_of_the_network(name):
    stored, _ = read_checkpoint(GOLDEN / name / "model.pt").branch()
    config = parse_model(stored)
    real = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert sum(parameter_counts(config).values()) == real


def test_a_million_layers_are_counted_at_once():
    def repformer(layers):
        config = section("small", 120, 48)
        config["descriptor"]["repformer"]["nlayers"] = layers
        return parameter_counts(Model.model_validate(config))["repformer"]

    a_layer = repformer(3) - repformer(2)
    assert repformer(10**6) == repformer(2) + (10**6 - 2) * a_layer
    assert repformer(2) > repformer(1) > repformer(0) > 0


def estimate(preset="small", parameters=1000, atoms=192, **changes):
    model = Model.model_validate(section(preset, 120, 48, **changes))
    return memory_estimate(model, parameters, atoms, WATER)


def test_the_estimate_of_memory_meets_measured_peaks_of_two_steps():
    # Of 192 atoms of water, two steps of the small and the medium preset on a CPU, in bytes.
    assert estimate("small", 622_219).total == pytest.approx(762_486_784, rel=0.2)
    assert estimate("medium", 1_017_000).total == pytest.approx(1_284_194_304, rel=0.2)


def test_memory_grows_with_precision_and_activations_with_atoms():
    double, single, twice = estimate(), estimate(precision="float32"), estimate(atoms=384)
    assert 2 * single.activations == pytest.approx(double.activations, abs=2)
    assert 2 * single.parameters == double.parameters
    assert twice.activations == pytest.approx(2 * double.activations, abs=2)
    assert twice.parameters == double.parameters
