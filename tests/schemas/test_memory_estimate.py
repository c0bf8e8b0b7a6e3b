import copy

import pytest

from schemas.input.model import Model
from schemas.input.new_input import FITTING_NET, descriptor
from schemas.input.size import Neighbors, memory_estimate

WATER = Neighbors(82.0, 25.6, 25.6)


def model(**changes):
    section = {"type_map": ["O", "H"], "fitting_net": FITTING_NET}
    network = copy.deepcopy(descriptor("small", 120, 48))
    return Model.model_validate({**section, "descriptor": {**network, **changes}})


def test_the_estimate_meets_measured_peaks_of_two_steps():
    # Of 192 atoms of water, two steps of the small and the medium preset on a CPU, in bytes.
    small = memory_estimate(model(), 622_219, 192, WATER)
    assert small.total == pytest.approx(762_486_784, rel=0.2)
    repformer = descriptor("medium", 120, 48)["repformer"]
    medium = memory_estimate(model(repformer=repformer), 1_017_000, 192, WATER)
    assert medium.total == pytest.approx(1_284_194_304, rel=0.2)


def test_single_precision_halves_what_is_computed():
    double = memory_estimate(model(), 1000, 192, WATER)
    single = memory_estimate(model(precision="float32"), 1000, 192, WATER)
    assert 2 * single.activations == pytest.approx(double.activations, abs=2)
    assert 2 * single.parameters == double.parameters


def test_activations_grow_with_atoms_and_parameters_do_not():
    one, two = (memory_estimate(model(), 1000, atoms, WATER) for atoms in (100, 200))
    assert two.activations == pytest.approx(2 * one.activations, abs=2)
    assert two.parameters == one.parameters
