"""Empty slots in closed form are what they are one by one, where slots have own statistics."""

import numpy as np
import pytest

from tests.golden_cases import CASES, load_case

SHIFTED = [name for name in CASES if name.startswith("davg")]
BLOCKS = {
    "repinit": "num_repinit",
    "repinit_three_body": "num_three_body",
    "repformers": "num_repformer",
}


def tell_slots_apart(case, name):
    """Make the mean of the last slot another number by rounding only."""
    block = case.model.descriptor.blocks()[name]
    mean = block.mean.expand(-1, block.nsel, -1).clone()
    mean[:, -1] *= 1 + 1e-15
    assert not mean[:, -1].equal(mean[:, 0])
    block.set_values(mean, block.stddev.expand(-1, block.nsel, -1))
    assert block.per_slot()
    case.model.statistics_changed()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", SHIFTED)
def test_slot_by_slot_gives_the_numbers_of_the_closed_form(name, block):
    case = load_case(name)
    tell_slots_apart(case, block)
    found = case.predict()
    for quantity in ("energy", "force", "virial", "atom_energy"):
        ours = getattr(found, quantity).detach().numpy()
        expected = case.expected(quantity)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9, err_msg=quantity)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_statistics_of_an_empty_slot_count(block):
    case = load_case("davg_all_columns")
    statistics = case.model.descriptor.blocks()[block]
    mean = statistics.mean.expand(-1, statistics.nsel, -1).clone()
    mean[:, -1] += 0.3
    statistics.set_values(mean, statistics.stddev.expand(-1, statistics.nsel, -1))
    case.model.statistics_changed()
    graph = case.graph()
    assert all((getattr(part, BLOCKS[block]) < statistics.nsel).all() for part in graph.blocks)
    change = np.abs(case.predict(graph).energy.detach().numpy() - case.expected("energy")).max()
    # In the repformer, the weight of an empty slot is 0 whatever its row holds.
    assert change > 1e-6 if block != "repformers" else change < 1e-10
