from pathlib import Path

import pytest

from dpa2.formats.checkpoint import read_checkpoint
from dpa2.model.build import build_model
from schemas.input.model import parse_model

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def checkpoint():
    """Return (a fresh model of a golden case, deepmd-kit's state dictionary for it)."""

    def load(name):
        section, state = read_checkpoint(GOLDEN / name / "model.pt").branch()
        return build_model(parse_model(section)), state

    return load
