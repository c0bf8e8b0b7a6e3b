"""Compressed models travel both ways between deepmd-kit 3.2.0 and us."""

import pytest

from dpa2.formats.checkpoint import read
from dpa2.formats.compressed import is_compressed
from dpa2.formats.table import format_of
from tests.interop.test_models import assert_agree, our_prediction

pytestmark = pytest.mark.interop

CASES = ["davg_strip", "strip_one_side", "davg_strip_not_smooth"]


@pytest.fixture
def frozen(golden, tmp_path):
    """Return a function from a case to a frozen file of it that knows a shortest distance."""

    def freeze(name):
        portable = read(golden / name / "model.pt", None)
        portable.model.min_nbor_dist.fill_(0.9)
        path = tmp_path / "frozen.pth"
        format_of(path).write(portable, path)
        return path

    return freeze


@pytest.mark.parametrize("name", CASES)
def test_we_evaluate_what_dp_compresses_as_deepmd_does(name, frozen, golden, deepmd, tmp_path):
    theirs = tmp_path / "theirs.pth"
    deepmd.call(
        "dp", "--pt", "compress", "-i", frozen(name), "-o", theirs, "-s", "0.1", cwd=tmp_path
    )
    assert is_compressed(format_of(theirs).read(theirs, None).model)
    structure = golden / name / "expected.npz"
    assert_agree(
        deepmd.run("evaluate_with_deepmd.py", theirs, structure), our_prediction(theirs, structure)
    )
