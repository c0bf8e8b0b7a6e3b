"""Whatever formats a model goes through, it arrives with every bit."""

import pytest

from tests.convert.round_trips import walk


@pytest.mark.parametrize("seed", range(6))
def test_weights_and_section_survive_a_random_chain_of_formats(seed, tmp_path):
    walk(seed, tmp_path, num_frozen=1 if seed % 3 == 0 else 0)
