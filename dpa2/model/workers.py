"""Worker threads that take blocks of atoms side by side, each with one intra-operator thread.

Parallelism over blocks meets once a layer; inside of operators it would meet at the end of each of
thousands of small ones, which a second busy process on the machine makes wait.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import wraps
from threading import Barrier, Lock, get_ident, local
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
Owner = TypeVar("Owner", bound="OnDevice")

_pools: dict[int, ThreadPoolExecutor] = {}
_making = Lock()
_thread = local()


def num_workers(device: torch.device) -> int:
    """Return how many blocks can run side by side on `device`: 1 on a GPU.

    On a CPU it is the number of torch's intra-operator threads in the calling thread, so that
    `OMP_NUM_THREADS` and `torch.set_num_threads` say it.
    """
    return torch.get_num_threads() if device.type == "cpu" else 1


class OnDevice(Protocol):
    """What has a device, such as a model."""

    @property
    def device(self) -> torch.device:
        """Where it lives."""


def leading(
    method: Callable[Concatenate[Owner, P], T],
) -> Callable[Concatenate[Owner, P], T]:
    """Make a method run on a worker that shares with others what it gives to `for_each`.

    Operators of the calling thread itself would use more threads, which then wait busily for
    others, for a while, on the cores that the workers need.
    """

    @wraps(method)
    def called(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> T:
        workers = num_workers(self.device)
        if workers <= 1:
            return method(self, *args, **kwargs)

        def lead() -> T:
            _thread.workers = workers
            try:
                return method(self, *args, **kwargs)
            finally:
                _thread.workers = 1

        return _pool(workers).submit(lead).result()

    return called


def for_each(function: Callable[[int], None], count: int, owners: dict[int, int]) -> None:
    """Call `function` with count - 1 .. 0, on all workers side by side if the caller leads them.

    Args:
        function: What to call.
        count: How often.
        owners: The thread that took each number last. It takes it again if no other is free
            earlier, and is noted here.

    Raises:
        Exception: One that a call raised.
    """
    left = set(range(count))
    taking = Lock()

    def take() -> None:
        me = get_ident()
        while True:
            with taking:
                if not left:
                    return
                index = max(left, key=lambda index: (owners.get(index, me) == me, index))
                left.remove(index)
                owners[index] = me
            function(index)

    workers = min(getattr(_thread, "workers", 1), count)
    others = [_pool(_thread.workers).submit(take) for _ in range(workers - 1)]
    try:
        take()
    finally:
        # Those that have not begun, because others lead on their threads, have nothing to do.
        started = [other for other in others if not other.cancel()]
        wait(started)
    for other in started:
        other.result()


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
