"""Throughput of a download with its SHA-256 against plain copies through the same server.

    python benchmarks/transfers.py [--size MIB] [--rounds N] [--folder DIR]

The server runs in a process of its own. Rounds are interleaved: a copy by urllib and
`shutil.copyfileobj`, a copy by httpx2's stream, ours; the first round warms up and does not count.
Ours also hashes the file, syncs it to the disk, and renames it.
"""

import argparse
import hashlib
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.zoo.transfer.faulty_server import FaultyServer
from zoo.transfer.download import download
from zoo.transfer.remote import Remote

_PIECE = 1 << 20


def _serve(file: Path, pipe: Connection) -> None:
    with FaultyServer() as server:
        pipe.send(server.serve("/model.pt", file).url)
        pipe.recv()


def _urllib(url: str, target: Path, _: str) -> None:
    with urllib.request.urlopen(url) as reply, target.open("wb") as stream:  # noqa: S310
        shutil.copyfileobj(reply, stream)


def _httpx2(url: str, target: Path, _: str) -> None:
    with httpx2.stream("GET", url) as reply, target.open("wb") as stream:
        for piece in reply.iter_raw():
            stream.write(piece)


def _ours(url: str, target: Path, sha256: str) -> None:
    download([Remote(url, "server")], target, sha256=sha256, size=None)


_WAYS: dict[str, Callable[[str, Path, str], None]] = {
    "urllib, copyfileobj": _urllib,
    "httpx2, stream": _httpx2,
    "ours, with sha256": _ours,
}


def main() -> int:
    """Measure, print a table, and fail below 0.7 of the faster plain copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where files are written")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        file = folder / "served.pt"
        digest = hashlib.sha256()
        with file.open("wb") as stream:
            for _ in range(chosen.size):
                piece = os.urandom(_PIECE)
                digest.update(piece)
                stream.write(piece)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=_serve, args=(file, theirs))
        server.start()
        times = _measure(ours.recv(), folder, digest.hexdigest(), chosen.rounds)
        ours.send("stop")
        server.join()
    for way, seconds in times.items():
        rates = ", ".join(f"{chosen.size / one:.0f}" for one in seconds)
        print(f"{way:22s} MiB/s in each round: {rates}")
    mine = times.pop("ours, with sha256")
    ratios = []
    for way, seconds in times.items():
        middle = statistics.median(seconds) / statistics.median(mine)
        # On a machine that others use, the best round of each is the least disturbed one.
        ratios.append(min(seconds) / min(mine))
        print(f"ours / ({way}): {ratios[-1]:.2f} by the best rounds, {middle:.2f} by medians")
    return 0 if min(ratios) >= 0.7 else 1


def _measure(url: str, folder: Path, sha256: str, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    for turn in range(rounds + 1):
        for way, fetch in _WAYS.items():
            target = folder / "copy.pt"
            target.unlink(missing_ok=True)
            begin = time.perf_counter()
            fetch(url, target, sha256)
            if turn:
                times[way].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    sys.exit(main())
