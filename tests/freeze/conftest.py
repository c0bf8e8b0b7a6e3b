import functools
from typing import Any

import pytest

from dpa2.formats.conversion import freeze
from tests.freeze.golden_cases import GOLDEN, load_module


@pytest.fixture(scope="session")
def frozen(tmp_path_factory):
    """Return a function from a golden case to its frozen module."""
    folder = tmp_path_factory.mktemp("frozen")

    @functools.cache
    def module(case: str) -> Any:
        return load_module(freeze(GOLDEN / case / "model.pt", folder / case).path)

    return module
