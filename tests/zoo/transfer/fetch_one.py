"""A process that fetches one file and prints what came of it as JSON, for tests of several.

python -m tests.zoo.transfer.fetch_one URL TARGET SHA256|- [wait]

With `wait` it says when it is ready, and begins when it is sent a line.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.zoo.transfer.watcher import SHORT, Watcher
from zoo.transfer.download import download
from zoo.transfer.remote import Remote

if __name__ == "__main__":
    url, target, sha256, *wait = sys.argv[1:]
    watcher = Watcher()
    if wait:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
    found = download(
        [Remote(url, "server")],
        Path(target),
        sha256=None if sha256 == "-" else sha256,
        size=None,
        progress=watcher,
        policy=replace(SHORT, stall=20.0),
    )
    json.dump(
        {"sha256": found.sha256, "received": found.received, "said": watcher.said}, sys.stdout
    )
