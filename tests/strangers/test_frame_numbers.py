"""Frames of files are called by their numbers in the file, whatever is between them."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from schemas.base.errors import DataError
from tests.commands import zoo
from tests.strangers.situations import situation

MODEL = str(Path(__file__).parents[1] / "golden" / "small" / "model.pt")


def frames():
    """Return water and hydrogen in turns, frame 3 with coinciding atoms."""
    found = [molecule(name, cell=[9] * 3, pbc=True) for name in ("H2O", "H2") * 3]
    found[3].positions[1] = found[3].positions[0]
    return found


@situation("""an explored trajectory of several compositions | atoms coincide in frame 3,
    coordinates are NaN in frame 4 | rows of nan beside the numbers that these frames have in the
    file""")
def test_the_rows_of_a_trajectory_have_its_numbers(tmp_path):
    explored = frames()
    explored[4].positions[0] = np.nan
    ase.io.write(tmp_path / "x.traj", explored)
    output = tmp_path / "model_devi.out"
    result = zoo("deviation", "-m", MODEL, "-m", MODEL, "-s", tmp_path / "x.traj", "-o", output)
    assert result.exit_code == 1
    rows = np.loadtxt(output)
    assert rows[:, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert np.flatnonzero(np.isnan(rows[:, 1:]).any(axis=1)).tolist() == [2, 4]
    assert "frame 3: atoms 0 and 1 are at the same place" in output.read_text()


@situation("""ASE .traj in zoo test | a label is NaN in frame 0, atoms coincide in frame 3 | the bad
    frame is frame 3, as in the file""")
def test_frames_before_that_are_left_out_count(tmp_path):
    labelled = frames()
    for number, atoms in enumerate(labelled):
        atoms.calc = SinglePointCalculator(atoms, energy=np.nan if number == 0 else -1.0)
    ase.io.write(tmp_path / "x.traj", labelled)
    result = zoo("test", "-m", MODEL, "-s", tmp_path / "x.traj", "--json")
    assert result.exit_code == 1
    assert [bad["frame"] for bad in json.loads(result.stdout)["bad_frames"]] == [3]
    assert "frame 0 is left out: energy has NaN" in result.stderr


@situation("""zoo predict | one structure of many has an element that the model does not know | a
    row with the reason; the others are evaluated""")
def test_an_unknown_element_costs_its_own_structure_only(tmp_path):
    files = [*frames()[:2], Atoms("Cu", cell=[9] * 3, pbc=True)]
    ase.io.write(tmp_path / "x.xyz", files)
    result = zoo("predict", "-m", MODEL, tmp_path / "x.xyz", "-o", tmp_path / "p.xyz", "--json")
    assert result.exit_code == 1
    listed = json.loads(result.stdout)["structures"]
    assert [item["energy"] is None for item in listed] == [False, False, True]
    assert "does not know Cu" in listed[2]["problem"]
    with pytest.raises(DataError, match="structure 2"):
        zoo("predict", "-m", MODEL, tmp_path / "x.xyz", "-o", tmp_path / "q.xyz", "--strict")
    with pytest.raises(DataError, match="does not know Cu"):
        zoo("predict", "-m", MODEL, f"{tmp_path / 'x.xyz'}@2", "-o", tmp_path / "q.xyz")


@situation("ASE .traj in zoo test | labels in some frames only | tested on these; others said")
def test_frames_without_labels_do_not_end_a_test(tmp_path):
    labelled = [atoms for number, atoms in enumerate(frames()) if number != 3]
    for atoms in labelled[1:]:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    ase.io.write(tmp_path / "x.traj", labelled)
    result = zoo("test", "-m", MODEL, "-s", tmp_path / "x.traj", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["total"]["num_frames"] == 4
    assert "1 frames have no labels" in result.stderr
