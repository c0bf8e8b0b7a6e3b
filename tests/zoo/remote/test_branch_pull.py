"""One branch is fetched, not the file; what is written is what `zoo extract` writes."""

import struct
from pathlib import Path

import pytest
import torch

from benchmarks.many_branches import write_many_branches
from schemas.base.errors import CheckpointError, TransferError, WriteError
from schemas.checkpoint.archive import LocalFile, locate
from schemas.checkpoint.header import read_header
from tests.zoo.transfer.faulty_server import Fault, FaultyServer, Reply, Seen
from zoo.branches import summarize
from zoo.checkpoint_writer import extract_branch, write_branch
from zoo.remote_branch import branch_cost, fetch_branch, remote_header
from zoo.transfer.pieces import RangeFile
from zoo.transfer.remote import ChangedError, NoRangeError, Remote, RetryPolicy

GOLDEN = Path(__file__).parents[2] / "golden"
HASTY = RetryPolicy(attempts=3, first_wait=0.001, stall=5.0)
ALLOWANCE = 512 * 1024


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """24 branches with the optimiser's state; its pickle has a megabyte."""
    path = tmp_path_factory.mktemp("many") / "many.pt"
    write_many_branches(path, 24, large=False)
    return path


@pytest.fixture
def few():
    """Three branches; its pickle is small enough to be read whole."""
    return GOLDEN / "multitask" / "model.pt"


@pytest.fixture
def pull(tmp_path):
    """Pulls a branch; it is what `zoo extract` writes of the file that is served."""

    def run(place, branch, like=None):
        places = place if isinstance(place, list) else [place]
        remotes = [
            one if isinstance(one, Remote) else Remote(one.url, f"place {number}")
            for number, one in enumerate(places)
        ]
        found = fetch_branch(remotes, branch, tmp_path / "pulled.pt", policy=HASTY)
        if like is not None:
            extract_branch(like, branch, tmp_path / "extracted.pt")
            assert_same_checkpoint(found.path, tmp_path / "extracted.pt")
            (tmp_path / "extracted.pt").unlink()
        return found

    return run


def assert_same_checkpoint(one, other):
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    assert list(first) == list(second)
    assert first["optimizer"] == second["optimizer"]
    left, right = first["model"], second["model"]
    assert list(left) == list(right)
    assert left.pop("_extra_state") == right.pop("_extra_state")
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert tensor.stride() == right[name].stride()
        assert torch.equal(tensor, right[name])


@pytest.mark.parametrize("branch", ["branch_00", "branch_01", "alias-12", "branch_23"])
def test_a_pulled_branch_is_the_extracted_one_and_costs_little(many, branch, server, pull):
    page = server.serve("/many.pt", many)
    found = pull(page, branch, like=many)
    assert found.branch == branch.replace("alias-", "branch_")
    assert not found.whole_file
    assert found.received == server.sent("/many.pt")
    assert found.received <= found.tensor_bytes + ALLOWANCE


@pytest.mark.parametrize("branch", ["branch_00", "alias-12", "branch_23"])
def test_what_a_branch_costs_is_known_before_its_numbers_are_fetched(many, branch, server, pull):
    page = server.serve("/many.pt", many)
    cost = branch_cost([Remote(page.url, "here")], branch)
    assert server.sent("/many.pt") <= ALLOWANCE
    found = pull(page, branch)
    assert (cost.branch, cost.full_size) == (found.branch, found.whole_size)
    assert cost.num_bytes == found.received > found.tensor_bytes


def test_averages_are_not_taken_for_the_weights(server, tmp_path, pull):
    write_many_branches(tmp_path / "many.pt", 10, large=False, average=True)
    content = torch.load(tmp_path / "many.pt", weights_only=True)
    for tensor in content["ema"]["model"].values():
        tensor.zero_()
    torch.save(content, tmp_path / "many.pt")
    pull(server.serve("/many.pt", tmp_path / "many.pt"), "branch_09", like=tmp_path / "many.pt")


def test_the_header_of_many_branches_costs_little(many, server):
    page = server.serve("/many.pt", many)
    header = remote_header([Remote(page.url, "here")])
    assert server.sent("/many.pt") <= ALLOWANCE
    assert header.model_params == read_header(many).model_params
    assert not header.complete
    summaries = summarize(header)
    assert [branch.name for branch in summaries] == [f"branch_{i:02d}" for i in range(24)]
    assert {branch.num_parameters for branch in summaries} == {None}


def test_the_header_of_a_small_file_is_complete(server):
    path = GOLDEN / "multitask" / "model.pt"
    page = server.serve("/m.pt", path)
    header, local = remote_header([Remote(page.url, "here")]), read_header(path)
    assert header.complete
    assert (header.tensors, header.model_params) == (local.tensors, local.model_params)


def test_a_server_that_sends_no_parts_sends_the_whole_file(many, server, tmp_path, pull):
    page = server.serve("/many.pt", many, ranges=False)
    found = pull(page, "alias-7", like=many)
    assert found.whole_file
    assert list(tmp_path.iterdir()) == [tmp_path / "pulled.pt"]
    with pytest.raises(NoRangeError), RangeFile([Remote(page.url, "here")]):
        pass


@pytest.mark.parametrize(
    ("position", "fault"),
    [
        (0, Fault(status=503)),
        (1, Fault(truncate_after=100)),
        (4, Fault(reset_after=300)),
        (7, Fault(status=429, retry_after="0")),
    ],
)
def test_failures_that_pass_cost_nothing_but_time(fault, position, few, server, pull):
    faults = [*[Fault()] * position, fault]
    page = server.serve("/few.pt", few, faults=faults)
    pull(page, "scan", like=few)


def test_another_place_goes_on_where_one_fails(few, server, pull):
    broken = server.serve("/broken.pt", few, faults=[*[Fault()] * 3, *[Fault(status=503)] * 90])
    whole = server.serve("/whole.pt", few)
    pull([broken, whole], "scan", like=few)


class Hub:
    """Redirects to a signed address at another host; each signature is good for `uses` requests."""

    def __init__(self, hub: FaultyServer, storage: FaultyServer, path: Path, uses: int) -> None:
        self.hub, self.storage, self.path, self.uses = hub, storage, path, uses
        url = hub.answer("/resolve/m.pt", self._redirect)
        self.remote = Remote(url, "hub", headers={"Authorization": "secret"})

    def _redirect(self, _: Seen) -> Reply:
        name = f"/m.pt?signature={len(self.storage.pages)}"
        faults = [*[Fault()] * self.uses, *[Fault(status=403)] * 99]
        page = self.storage.serve(name, self.path, faults=faults, etag='"same"')
        return Reply(302, headers={"Location": page.url})

    @property
    def num_asked(self) -> int:
        return len(self.hub.seen("/resolve/m.pt"))


@pytest.fixture
def redirecting(server, many):
    with FaultyServer(host="localhost") as storage:
        yield lambda uses: Hub(server, storage, many, uses)


@pytest.mark.parametrize("uses", [999, 7])
def test_a_hub_that_redirects_is_asked_once_and_again_when_its_address_expires(
    redirecting, uses, many, pull
):
    hub = redirecting(uses)
    pull(hub.remote, "branch_23", like=many)
    assert len(hub.storage.requests) > 7
    assert hub.num_asked == 1 if uses == 999 else hub.num_asked > 1
    assert {seen.headers.get("authorization") for seen in hub.hub.requests} == {"secret"}
    assert not any("authorization" in seen.headers for seen in hub.storage.requests)


def test_addresses_that_are_good_only_once_are_soon_not_kept(redirecting, pull):
    hub = redirecting(1)
    pull(hub.remote, "branch_23")
    refused = [seen for seen in hub.storage.requests if seen.status == 403]
    assert 1 <= len(refused) <= 4  # connections at a time
    assert len(hub.storage.requests) == hub.num_asked + len(refused)


def test_a_hub_that_refuses_for_good_is_not_asked_for_ever(redirecting, pull):
    hub = redirecting(0)
    with pytest.raises(TransferError, match="403"):
        pull(hub.remote, "branch_23")
    assert hub.num_asked == 1


def test_storage_that_fails_is_looked_for_again_at_the_hub(redirecting):
    hub = redirecting(999)
    with RangeFile([hub.remote], policy=HASTY) as source:
        hub.storage.pages["/m.pt?signature=0"].faults = [Fault(status=503)] * 9
        assert source.read_at(100_000, 20) == hub.path.read_bytes()[100_000:100_020]
    assert hub.num_asked == 2


@pytest.mark.parametrize("position", [1, 12])
def test_a_file_that_changes_meanwhile_is_not_mixed_with_the_old_one(
    position, many, server, tmp_path, pull
):
    other = many.read_bytes()[:-1] + b"\x01"
    faults = [*[Fault()] * position, Fault(content=other)]
    page = server.serve("/many.pt", many.read_bytes(), faults=faults)
    with pytest.raises(ChangedError, match="changed while it was read"):
        pull(page, "branch_20")
    assert not list(tmp_path.iterdir())


def test_numbers_that_arrive_damaged_leave_nothing_behind(many, server, tmp_path, pull):
    content = bytearray(many.read_bytes())
    header = read_header(many)
    entry = header.tensors[
        "model.branch_20.atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix"
    ]
    with LocalFile(many) as file:
        content[locate(file, header.storages[entry.storage]) + entry.offset + 3] ^= 4
    page = server.serve("/many.pt", bytes(content))
    with pytest.raises(CheckpointError, match="CRC-32"):
        pull(page, "branch_20")
    assert not list(tmp_path.iterdir())
    pull(page, "branch_19")


def test_a_wrong_branch_is_named_before_anything_large_is_fetched(many, server, pull):
    page = server.serve("/many.pt", many)
    with pytest.raises(CheckpointError, match="no branch `branch_99`"):
        pull(page, "branch_99")
    with pytest.raises(CheckpointError, match="24 branches and none was chosen"):
        pull(page, None)


def test_what_is_not_there_or_no_checkpoint_is_said(server, tmp_path, pull):
    with pytest.raises(TransferError, match="404"):
        pull(Remote(f"{server.url}/none.pt", "here"), None)
    page = server.serve("/page.pt", b"<!DOCTYPE html><html>log in</html>")
    with pytest.raises(CheckpointError, match="web page"):
        pull(page, None)
    with pytest.raises(WriteError, match="not a folder"):
        fetch_branch([Remote(page.url, "here")], None, tmp_path / "none" / "x.pt")


def test_a_file_in_another_order_is_read_whole(server, tmp_path, pull):
    """A pickle that does not begin with the model section, with keys in another order."""
    content = torch.load(GOLDEN / "multitask" / "model.pt", weights_only=True)
    model = content["model"]
    names = sorted(model, reverse=True)
    content["model"] = type(model)((name, model[name]) for name in names)
    path = tmp_path / "sorted.pt"
    torch.save({"note": "x" * 200_000, **content}, path)
    page = server.serve("/sorted.pt", path)
    pull(page, "metal", like=path)


def test_numbers_begin_at_multiples_of_64_bytes(tmp_path):
    with LocalFile(GOLDEN / "small" / "model.pt") as file:
        write_branch(file, read_header(file), "Default", tmp_path / "ours.pt")
    header = read_header(tmp_path / "ours.pt")
    with LocalFile(tmp_path / "ours.pt") as file:
        assert {locate(file, entry) % 64 for entry in header.storages.values()} == {0}
        assert struct.unpack("<4s", file.read_at(0, 4)) == (b"PK\x03\x04",)
