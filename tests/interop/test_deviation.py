"""`zoo deviation` and `dp model-devi` on the same models and data."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from dpa2.formats.conversion import freeze

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return frozen models of the golden water case with three sets of fitting weights."""
    from tests.interop.conftest import GOLDEN

    folder = tmp_path_factory.mktemp("models")
    section, tensors = read_checkpoint(GOLDEN / "small" / "model.pt").branch()
    made = []
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        changed = {
            key: tensor + 0.02 * torch.randn(tensor.shape, generator=random, dtype=tensor.dtype)
            if "fitting_net" in key and tensor.is_floating_point() and tensor.ndim == 2
            else tensor
            for key, tensor in tensors.items()
        }
        checkpoint = folder / f"{seed}.pt"
        state = {"Default": changed}
        write_checkpoint(checkpoint, tensors=state, model_params=section, step=0, learning_rate=0.0)
        made.append(freeze(checkpoint, folder / f"{seed}.pth").path)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([], []),
        (["--atomic", "--frequency", "20"], ["--atomic", "-f", "20"]),
        (["--relative", "1.0", "--atomic"], ["--relative", "1.0", "--atomic"]),
        (["--real-error"], ["--real_error"]),
        (["--real-error", "--relative", "0.5"], ["--real_error", "--relative", "0.5"]),
    ],
)
def test_columns_are_those_of_dp_model_devi(ours, theirs, models, golden, deepmd, tmp_path):
    from tests.evaluate.conftest import write_system

    with np.load(golden / "small" / "expected.npz") as archive:
        system = write_system(tmp_path / "system", dict(archive))
    deepmd.call(
        *("dp", "--pt", "model-devi", "-m", *models, "-s", system, "-o", "theirs.out"),
        *theirs,
        cwd=tmp_path,
    )
    command = [sys.executable, "-m", "cli.main", "deviation", "-s", system, *ours]
    for model in models:
        command += ["-m", model]
    command += ["-o", tmp_path / "ours.out"]
    subprocess.run([str(word) for word in command], check=True)
    ours_table = np.loadtxt(tmp_path / "ours.out", ndmin=2)
    theirs_table = np.loadtxt(tmp_path / "theirs.out", ndmin=2)
    assert (theirs_table[:, 1:] > 0).all()
    # Both files have seven digits.
    np.testing.assert_allclose(ours_table, theirs_table, rtol=2e-6)
    ours_heading = (tmp_path / "ours.out").read_text().splitlines()[1]
    assert ours_heading == (tmp_path / "theirs.out").read_text().splitlines()[1]
