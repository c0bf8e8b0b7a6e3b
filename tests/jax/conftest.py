import pytest

from dpa2.formats.conversion import convert
from tests.golden_cases import GOLDEN


@pytest.fixture(scope="session")
def hlo_file(tmp_path_factory):
    """Return a `.hlo` file of a model with frame and atomic parameters."""
    path = tmp_path_factory.mktemp("hlo") / "model.hlo"
    messages = []
    convert(GOLDEN / "fparam_aparam" / "model.pt", path, report=messages.append)
    assert messages
    return path
