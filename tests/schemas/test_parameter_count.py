from pathlib import Path

import pytest

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import build_model
from schemas.input.model import parse_model
from schemas.input.weights import parameter_counts

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz")))
def test_parameters_counted_from_the_configuration_are_those_of_the_network(name):
    section, _ = read_checkpoint(GOLDEN / name / "model.pt").branch()
    config = parse_model(section)
    real = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert sum(parameter_counts(config).values()) == real
