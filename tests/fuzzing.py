"""What the fuzzers share: broken bytes, limits of time and memory, the count of what happened."""

import argparse
import collections
import contextlib
import random
import re
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

LIMIT_SECONDS = 10
LIMIT_MEGABYTES = 500


def peak() -> int:
    """Return the largest memory that this process has taken, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search("VmHWM:[^0-9]+([0-9]+)", status)
    assert found
    return 1024 * int(found[1])


def broken_bytes(rng: random.Random, content: bytes, junk: bytes) -> bytes:
    """Return a content with one to eight places changed, and sometimes its end cut off.

    Args:
        rng: Of everything random.
        content: Of a good file.
        junk: Bytes that are put in as often as any other.
    """
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(changed) + 1)
        new = bytes(rng.choice([rng.randrange(256), *junk]) for _ in range(2))
        changed[at : at + rng.randint(0, 3)] = new[: rng.randint(0, 2)]
    if rng.random() < 0.2 and changed:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


class TooSlowError(BaseException):
    """A file took longer than the limit; nothing catches it on its way."""


class Tally:
    """Counts what happened; remembers the slowest file and the most memory."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest = (0.0, "")
        self.grown = 0.0

    @property
    def errors(self) -> list[str]:
        """What anything fell over."""
        return [outcome for outcome in self.counts if "Error" in outcome]

    def run(self, name: str, shown: str, task: Callable[[], str]) -> None:
        """Count what a task returns, under the limits; print what it falls over.

        Args:
            name: Of the kind of file.
            shown: The content, for a person.
            task: Returns what became of it.
        """
        before, start = peak(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)  # of the processor: load is not a hang
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", ResourceWarning)  # dpdata leaves files open
                outcome = task()
        except (Exception, TooSlowError) as error:  # noqa: BLE001 - this is what is looked for
            outcome = f"{name}: {type(error).__name__}".removesuffix("Error") + "Error"
            print("-" * 40, outcome, shown[:3000], traceback.format_exc()[-2500:], sep="\n")  # noqa: T201
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        grown = (peak() - before) / 2**20
        if grown > LIMIT_MEGABYTES:
            outcome = f"{name}: MemoryError, {grown:.0f} MB"
            print("-" * 40, outcome, shown[:3000], sep="\n")  # noqa: T201
        self.grown = max(self.grown, grown)
        self.slowest = max(self.slowest, (time.process_time() - start, name))
        self.counts[outcome] += 1


def run_fuzzer(description: str | None, fuzz: Callable[..., None], **numbers: int) -> int:
    """Run a fuzzer as its command line says, in a folder of its own, and print what came out.

    Args:
        description: Of the command.
        fuzz: Called with a source of chance, a tally, and one number for each option.
        numbers: Options that say how many files are made, with their defaults.

    Returns:
        1 if anything fell over.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, number in (numbers | {"seed": 1}).items():
        parser.add_argument(f"--{name}", type=int, default=number)
    options = vars(parser.parse_args())
    tally = Tally()

    def too_slow(*_: object) -> None:
        raise TooSlowError

    signal.signal(signal.SIGPROF, too_slow)
    # An accident must end in an exception, not with the machine.
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        fuzz(random.Random(options.pop("seed")), tally, **options)
    for outcome, count in sorted(tally.counts.items()):
        print(f"{count:>7}  {outcome}")  # noqa: T201
    seconds, name = tally.slowest
    print(f"slowest: {seconds:.2f} s ({name}); memory grew by {tally.grown:.0f} MB at most")  # noqa: T201
    return int(bool(tally.errors))
