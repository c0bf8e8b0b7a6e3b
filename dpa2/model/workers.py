"""Worker threads that take blocks of atoms side by side, each with one intra-operator thread.

Parallelism over blocks meets once a layer; inside of operators it would meet at the end of each of
thousands of small ones, which a second busy process on the machine makes wait.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

_pools: dict[int, ThreadPoolExecutor] = {}
_making = Lock()


def num_workers(device: torch.device) -> int:
    """Return how many blocks run side by side on `device`: 1 on a GPU.

    On a CPU it is the number of torch's intra-operator threads in the calling thread, so that
    `OMP_NUM_THREADS` and `torch.set_num_threads` say it.
    """
    return torch.get_num_threads() if device.type == "cpu" else 1


def for_each(function: Callable[[int], None], count: int, workers: int) -> None:
    """Call `function` with 0 .. count - 1, on `workers` threads at a time.

    Raises:
        Exception: The first one that a call raised.
    """
    workers = min(workers, count)
    if workers <= 1:
        for index in range(count):
            function(index)
        return
    # Results are fetched so that an exception of any call ends here.
    for _ in _pool(workers).map(function, range(count)):
        pass


def alone(function: Callable[[], T], workers: int) -> T:
    """Return what `function` returns, called on one of `workers` threads.

    On the calling thread its operators could use more threads, which then wait busily for others,
    for a while, on the cores that the workers need.
    """
    return function() if workers <= 1 else _pool(workers).submit(function).result()


def _pool(workers: int) -> ThreadPoolExecutor:
    with _making:
        if workers not in _pools:
            _pools[workers] = single_threaded(workers, "blocks")
        return _pools[workers]


def single_threaded(count: int, name: str) -> ThreadPoolExecutor:
    """Return `count` threads whose torch operators use no further threads.

    With intra-operator threads of their own, more threads compute than there are cores, and all
    sleep between operators: training steps took twice the time.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    num_threads = torch.get_num_threads()
    barrier = Barrier(count)

    def use_one_thread() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes its number for good when first asked
        barrier.wait()

    for started in [pool.submit(use_one_thread) for _ in range(count)]:
        started.result()
    torch.set_num_threads(num_threads)  # the default of threads still to come, which that changed
    return pool


# Threads do not survive a fork: the child makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)
