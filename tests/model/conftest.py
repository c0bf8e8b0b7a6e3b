import json
from functools import cache

import pytest

from tests.golden_cases import GOLDEN, load_case


@pytest.fixture(scope="session")
def golden():
    """Load a golden case by name; tests do not change what it returns."""
    return cache(load_case)


@pytest.fixture(scope="session")
def initial_weights():
    return json.loads((GOLDEN / "initial_weights.json").read_text())
