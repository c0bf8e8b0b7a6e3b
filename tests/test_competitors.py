"""The busy processes of benchmarks end with the benchmark, however that ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = """
import time
from competitors import competitors

with competitors(2) as started:
    print(*(process.pid for process in started), flush=True)
    {then}
"""


def runs(pid: int) -> bool:
    """Tell whether a process computes; one that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("then", ["pass", "raise KeyboardInterrupt", "time.sleep(600)"])
def test_competitors_end_with_the_benchmark(then):
    process = subprocess.Popen(
        [sys.executable, "-c", BENCHMARK.format(then=then)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "benchmarks")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        pids = [int(word) for word in process.stdout.readline().split()]
        if "sleep" in then:
            assert all(runs(pid) for pid in pids)
            process.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in pids)
