"""Worker threads leave the number of threads that callers compute with alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dpa2.model.workers import for_each, leading, single_threaded


class Owner:
    """Calls functions on a worker."""

    device = torch.device("cpu")

    @leading
    def call(self, function, *args):
        """Return what `function` returns."""
        return function(*args)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def seen_by_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def test_workers_have_one_thread_each_and_others_keep_theirs(threads):
    threads(2)
    seen = []
    Owner().call(
        for_each, lambda _: seen.append((torch.get_num_threads(), seen_by_a_new_thread())), 6, {}
    )
    assert seen == [(1, 2)] * 6
    assert torch.get_num_threads() == seen_by_a_new_thread() == 2


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_as_many_share_the_work_as_the_caller_has_threads(threads, workers):
    threads(workers)
    meet = threading.Barrier(workers)
    taken = []

    def take(index):
        taken.append(index)
        meet.wait(timeout=20)

    Owner().call(for_each, take, 2 * workers, {})
    assert sorted(taken) == list(range(2 * workers))


def test_threads_take_again_what_they_took(threads):
    threads(2)
    owners = {0: 1, 1: 1, 2: threading.get_ident(), 3: threading.get_ident()}
    taken = []
    for_each(taken.append, 5, owners)
    assert taken == [4, 3, 2, 1, 0]
    assert set(owners.values()) == {threading.get_ident()}
    owners[1] = owners[4] = 1
    taken.clear()
    for_each(taken.append, 5, owners)
    assert taken == [3, 2, 0, 4, 1]


def test_a_led_method_may_call_another(threads):
    threads(3)
    owner, taken = Owner(), []
    owner.call(owner.call, for_each, taken.append, 4, {})
    assert sorted(taken) == [0, 1, 2, 3]


def test_callers_at_the_same_time_do_not_wait_for_each_other(threads):
    """More of them than workers: those of which no worker is free do all their work themselves."""
    threads(2)

    def evaluate(_):
        torch.set_num_threads(2)
        taken = []
        Owner().call(for_each, taken.append, 40, {})
        return sorted(taken) == list(range(40))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(evaluate, range(60)))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_exception_of_a_worker_is_raised(threads, workers):
    threads(workers)
    with pytest.raises(MemoryError, match="block"):
        Owner().call(for_each, fail, 8, {})


def fail(index):
    if index < 5:
        raise MemoryError(f"block {index}")


def test_a_single_thread_is_one_of_its_own():
    with single_threaded(1, "batches") as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
