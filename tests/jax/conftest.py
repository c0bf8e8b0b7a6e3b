import pytest

from dpa2.jax.export import write_hlo
from tests.jax.systems import section_of
from tests.model.conftest import load_case


@pytest.fixture(scope="session")
def hlo_file(tmp_path_factory):
    """Return a `.hlo` file of a model with frame and atomic parameters."""
    path = tmp_path_factory.mktemp("hlo") / "model.hlo"
    messages = []
    write_hlo(load_case("fparam_aparam").model, section_of("fparam_aparam"), path, messages.append)
    assert messages
    return path
