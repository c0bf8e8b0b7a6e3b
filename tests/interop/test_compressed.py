"""Compressed models travel both ways between deepmd-kit 3.2.0 and us."""

import numpy as np
import pytest

from dpa2.formats.checkpoint import read
from dpa2.formats.compressed import is_compressed
from dpa2.formats.compression import Tabulation
from dpa2.formats.conversion import freeze
from dpa2.formats.table import format_of
from tests.interop.lammps import assert_ours, run_lammps, water_box
from tests.interop.test_models import assert_agree, our_prediction

pytestmark = pytest.mark.interop

CASES = ["davg_strip", "strip_one_side", "davg_strip_not_smooth"]
SHORTEST = 0.8


@pytest.fixture
def frozen(golden, tmp_path):
    """Return a function from a case to a frozen file of it that knows a shortest distance."""

    def made(name):
        portable = read(golden / name / "model.pt", None)
        portable.model.min_nbor_dist.fill_(SHORTEST)
        path = tmp_path / "frozen.pth"
        format_of(path).write(portable, path)
        return path

    return made


@pytest.mark.parametrize("name", CASES)
def test_we_evaluate_what_dp_compresses_as_deepmd_does(name, frozen, golden, deepmd, tmp_path):
    theirs, structure = tmp_path / "theirs.pth", golden / name / "expected.npz"
    command = ("compress", "-i", frozen(name), "-o", theirs, "-s", "0.1")
    deepmd.call("dp", "--pt", *command, cwd=tmp_path)
    assert is_compressed(format_of(theirs).read(theirs, None).model)
    found = deepmd.run("evaluate_with_deepmd.py", theirs, structure)
    assert_agree(found, our_prediction(theirs, structure))


@pytest.mark.parametrize("name", CASES)
def test_deepmd_evaluates_what_we_compress_as_we_do(name, golden, deepmd, tmp_path):
    model, structure = golden / name / "model.pt", golden / name / "expected.npz"
    # so coarse that the table's numbers are not the network's
    coarse = freeze(model, tmp_path / "coarse.pth", tabulation=Tabulation(0.1, 2, 3.0)).path
    ours = our_prediction(coarse, structure)
    assert_agree(deepmd.run("evaluate_with_deepmd.py", coarse, structure), ours)
    network = our_prediction(model, structure)
    assert np.abs(ours["force"] - network["force"]).max() > 1e-3
    # and as fine as usual, where they are
    fine = freeze(model, tmp_path / "fine.pth", tabulation=Tabulation(shortest=SHORTEST)).path
    assert_agree(deepmd.run("evaluate_with_deepmd.py", fine, structure), network)


@pytest.mark.parametrize("processes", [1, 2])
def test_lammps_runs_what_we_compress(processes, golden, deepmd, tmp_path):
    checkpoint = golden / "davg_strip" / "model.pt"
    model = freeze(
        checkpoint, tmp_path / "model.pth", tabulation=Tabulation(shortest=SHORTEST)
    ).path
    (frame,) = run_lammps(deepmd, water_box((2, 1, 1)), model, tmp_path, processes=processes)
    assert_ours(frame, checkpoint)
