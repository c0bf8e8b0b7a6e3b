"""Downloads from servers that fail at random: the right bytes, or a clear error and no file.

    python -m tests.zoo.transfer.random_faults --count 300

Every case is made from its number alone. One to three mirrors serve the file, each with faults of
its own: truncation, flipped bits, stalls, resets, 5xx, 429 with Retry-After, redirects to another
host, no Range, wrong Content-Length, another version between two parts, web pages and Git LFS
pointers; alone and combined. The hash is known in two of three cases. Bits are flipped only where
it is: without one, and without TLS, nothing could tell. Likewise a Content-Length that is too short
needs a hash, a size, or a server that can be asked for what lies beyond.
"""

# ruff: noqa: T201 - a program with a report
import argparse
import collections
import hashlib
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.base.errors import ZooError
from tests.zoo.transfer.faulty_server import Fault, FaultyServer, http_date
from tests.zoo.transfer.watcher import SHORT, content
from zoo.transfer.download import download
from zoo.transfer.remote import Remote

_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"
_PATIENCE = replace(SHORT, stall=0.15)


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        kinds: Names of the faults that were prepared.
        arrived: The file is in place with the right bytes; False: a clear error and no file.
        problem: What must never happen; None: nothing.
    """

    kinds: tuple[str, ...]
    arrived: bool
    problem: str | None


def run_case(number: int, folder: Path, servers: tuple[FaultyServer, FaultyServer]) -> Outcome:
    """Run one case in a folder of its own."""
    rng = random.Random(number)
    data = content(rng.choice([3_000, 70_000, 400_000, 2_500_000]), number)
    newer = content(len(data) + rng.choice([0, 1, -1000]), -number)
    known = rng.random() < 2 / 3
    sized = rng.random() < 0.5
    may_change = not known and not sized and rng.random() < 0.3
    kinds: list[str] = []
    versions = [data]
    remotes = []
    for mirror in range(rng.choice([1, 1, 2, 3])):
        server = servers[rng.randrange(2)]
        path = f"/{number}/{mirror}/model.pt"
        etag = rng.choice(["auto", "auto", "auto", None])
        ranges = rng.random() < 0.85
        faults = []
        for _ in range(rng.choice([1, 1, 2, 3, 4] if mirror == 0 else [0, 1, 2])):
            fault = Fault()
            for _ in range(rng.choice([1, 1, 1, 2])):
                kind = rng.choice(_KINDS)
                if kind == "flip" and not known:
                    kind = "truncation"
                if kind == "too short" and not (known or sized or (etag and ranges)):
                    kind = "too long"
                if kind == "new version" and not (known or (may_change and etag)):
                    kind = "reset"
                if kind == "new version" and not known:
                    versions.append(newer)
                kinds.append(kind)
                fault = _with(fault, kind, rng, data, newer, servers, path)
            faults.append(fault)
        page = server.serve(
            path,
            data,
            faults=faults,
            etag=etag,
            last_modified=http_date(1.7e9) if etag is None and known else None,
            ranges=ranges,
        )
        servers[1 - servers.index(server)].serve(f"/elsewhere{path}", data)
        remotes.append(Remote(page.url, f"mirror {mirror}"))
    target = folder / f"{number}" / "model.pt"
    target.parent.mkdir()
    try:
        found = download(
            remotes,
            target,
            sha256=hashlib.sha256(data).hexdigest() if known else None,
            size=len(data) if sized else None,
            policy=_PATIENCE,
        )
    except ZooError as error:
        problem = None if error.message and error.hint else f"an error without words: {error!r}"
        if target.exists():
            problem = "an error, and yet a file in place"
        return Outcome(tuple(kinds), arrived=False, problem=problem)
    there = target.read_bytes()
    problem = None
    if there not in versions:
        problem = "A WRONG FILE IN PLACE"
    elif found.sha256 != hashlib.sha256(there).hexdigest() or found.size != len(there):
        problem = "a wrong report of the file"
    elif [path.name for path in target.parent.iterdir()] != ["model.pt"]:
        problem = "something was left beside the file"
    return Outcome(tuple(kinds), arrived=True, problem=problem)


_KINDS = (
    "truncation",
    "flip",
    "stall",
    "reset",
    "5xx",
    "429",
    "redirect",
    "no Range",
    "too long",
    "too short",
    "new version",
    "web page",
    "LFS pointer",
)


def _with(
    fault: Fault,
    kind: str,
    rng: random.Random,
    data: bytes,
    newer: bytes,
    servers: tuple[FaultyServer, FaultyServer],
    path: str,
) -> Fault:
    place = rng.randrange(len(data))
    match kind:
        case "truncation":
            return replace(fault, truncate_after=place)
        case "flip":
            return replace(fault, flip_at=place)
        case "stall":
            return replace(fault, stall_after=place)
        case "reset":
            return replace(fault, reset_after=place)
        case "5xx":
            return replace(fault, status=rng.choice([500, 502, 503, 504]))
        case "429":
            return replace(fault, status=429, retry_after=rng.choice(["0", "0", "900"]))
        case "redirect":
            other = next(s for s in servers if path not in s.pages)
            return replace(fault, redirect=f"{other.url}/elsewhere{path}")
        case "no Range":
            return replace(fault, no_range=True)
        case "too long":
            return replace(fault, length_delta=rng.randrange(1, 2000))
        case "too short":
            return replace(fault, length_delta=-rng.randrange(1, min(2000, len(data))))
        case "new version":
            return replace(fault, content=newer, ignore_if_range=rng.random() < 0.3)
        case "web page":
            return replace(fault, body=b"<!DOCTYPE html><title>Sign in</title>")
    return replace(fault, body=_LFS, content_type="text/plain")


def run_cases(numbers: range, folder: Path) -> list[Outcome]:
    """Run many cases against one pair of servers: 127.0.0.1 and localhost are two hosts."""
    with FaultyServer() as one, FaultyServer(host="localhost") as other:
        return [run_case(number, folder, (one, other)) for number in numbers]


def main() -> int:
    """Run the cases, print what came of them, and fail if anything forbidden happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    numbers = range(chosen.first, chosen.first + chosen.count)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_cases(numbers, Path(folder))
    kinds = collections.Counter(kind for outcome in outcomes for kind in outcome.kinds)
    faulty = sum(bool(outcome.kinds) for outcome in outcomes)
    arrived = sum(outcome.arrived for outcome in outcomes)
    problems = [(n, o.problem) for n, o in zip(numbers, outcomes, strict=True) if o.problem]
    print(f"{len(outcomes)} downloads, {faulty} of them with faults: {dict(kinds)}")
    print(f"{arrived} right files, {len(outcomes) - arrived} clear errors without a file")
    for number, problem in problems:
        print(f"case {number}: {problem}")
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
