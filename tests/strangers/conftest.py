"""What the tests of this folder share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """Let torch compute in one thread, so that sums are in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
