"""Worker threads leave the number of threads that callers compute with alone."""

import threading

import pytest
import torch

from dpa2.model.workers import alone, for_each, single_threaded


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def seen_by_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.usefixtures("two_threads")
def test_workers_have_one_thread_each_and_others_keep_theirs():
    seen = []
    for_each(lambda _: seen.append((torch.get_num_threads(), seen_by_a_new_thread())), 6, 3)
    assert seen == [(1, 2)] * 6
    assert alone(torch.get_num_threads, 3) == 1
    assert torch.get_num_threads() == seen_by_a_new_thread() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_pool_is_made_once_for_callers_at_the_same_time():
    threads = set()
    callers = [
        threading.Thread(
            target=for_each, args=(lambda _: threads.add(threading.get_ident()), 40, 5)
        )
        for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(threads) <= 5


def test_the_first_exception_of_a_worker_is_raised():
    with pytest.raises(MemoryError, match="block 3"):
        for_each(fail, 8, 2)


def fail(index):
    if index >= 3:
        raise MemoryError(f"block {index}")


def test_a_single_thread_is_one_of_its_own():
    with single_threaded(1, "batches") as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
