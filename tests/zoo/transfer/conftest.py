"""Downloads into a folder of the test."""

import pytest

from schemas.base.errors import TransferError
from tests.zoo.transfer.watcher import BREAK, DATA, GONE, HALF, SHA256, SHORT
from zoo.transfer.download import download
from zoo.transfer.remote import Remote


@pytest.fixture
def fetch(tmp_path):
    def run(*pages, sha256=SHA256, size=None, name="model.pt", **options):
        remotes = [
            one if isinstance(one, Remote) else Remote(getattr(one, "url", one), f"mirror {number}")
            for number, one in enumerate(pages)
        ]
        options = {"policy": SHORT} | options
        return download(remotes, tmp_path / name, sha256=sha256, size=size, **options)

    return run


@pytest.fixture
def names(tmp_path):
    return lambda: sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture
def left_half(server, fetch, tmp_path):
    """Leaves half of the file behind; returns its page and the partial file."""

    def leave(sha256=SHA256):
        page = server.serve("/model.pt", DATA, faults=[BREAK, GONE])
        with pytest.raises(TransferError, match="404"):
            fetch(page, sha256=sha256)
        (part,) = tmp_path.glob(".model.pt.*.part")
        assert part.stat().st_size == HALF
        return page, part

    return leave
