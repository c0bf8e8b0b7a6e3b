from pathlib import Path

import pytest
from ase import Atoms

from dpa2.formats.conversion import freeze
from tests.commands import zoo
from tests.evaluate.conftest import frames, system, water, water_model

__all__ = ["frames", "system", "water", "water_model"]


@pytest.fixture(scope="session")
def frozen_model(water_model, tmp_path_factory) -> Path:
    """Return the same model, frozen."""
    return freeze(water_model, tmp_path_factory.mktemp("frozen") / "model.pth").path


@pytest.fixture
def structure(frames) -> Atoms:
    """Return four water molecules in a small cell, without a calculator."""
    symbols = [("O", "H")[number] for number in frames["atype"]]
    return Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=True)


@pytest.fixture
def atoms(structure, water) -> Atoms:
    """Return the same with the calculator."""
    from dpa2.ase import Calculator

    structure.calc = Calculator(water)
    return structure


@pytest.fixture
def run():
    """Return a function that runs `zoo` with arguments."""
    return zoo
