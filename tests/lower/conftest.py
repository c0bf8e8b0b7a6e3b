import functools
import warnings
from typing import Any

import pytest
import torch

from dpa2.formats.conversion import freeze
from dpa2.lower.ghost_exchange import declare_border_operator
from dpa2.lower.periodic_images import all_pairs, extend
from tests.golden_cases import GOLDEN, golden_tensors


@pytest.fixture(scope="session")
def load_frozen():
    """Return a function from a frozen file to its module."""

    def load_module(path) -> Any:
        declare_border_operator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path))

    return load_module


@pytest.fixture(scope="session")
def frozen(tmp_path_factory, load_frozen):
    """Return a function from a golden case to its frozen module."""
    folder = tmp_path_factory.mktemp("frozen")

    @functools.cache
    def module(case: str) -> Any:
        return load_frozen(freeze(GOLDEN / case / "model.pt", folder / case).path)

    return module


@pytest.fixture
def extended():
    """Atoms, images and neighbours of the case `small`: the arguments of the lower interface."""
    inputs = golden_tensors("small")
    system = extend(inputs["coord"], inputs["atype"], inputs["box"].view(-1, 3, 3), 6.0)
    return system, all_pairs(system, inputs["atype"].shape[1], 6.0, 100)
