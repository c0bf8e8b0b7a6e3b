"""`torch.compile` with a real C++ compiler; minutes, so not in the fast suite."""

from pathlib import Path

import numpy as np
import pytest

from dpa2.evaluate.potential import load

pytestmark = pytest.mark.interop

CASE = Path(__file__).parents[1] / "golden" / "one_layer"


# The compiler's own parts warn of each other.
@pytest.mark.filterwarnings("default")
def test_a_compiled_model_gives_the_same_numbers():
    with np.load(CASE / "expected.npz") as archive:
        frames = dict(archive)
    potential = load(CASE / "model.pt")
    potential.compile()
    for scale in (1.0, 1.02):
        found = potential.predict(
            scale * frames["coord"], scale * frames["box"], frames["atype"], atomic=False
        )
        expected = load(CASE / "model.pt").predict(
            scale * frames["coord"], scale * frames["box"], frames["atype"], atomic=False
        )
        np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.force, expected.force, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.virial, expected.virial, rtol=0, atol=1e-12)
