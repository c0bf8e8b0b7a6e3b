"""All figures of speed and memory: ours, deepmd-kit 3.2.0 and the limits of this machine.

    python benchmarks/speed.py                        # all parts, the short way: minutes
    python benchmarks/speed.py --only infer,train --full --json figures.json
    python benchmarks/speed.py --only gpu --device cuda

Within a table all take turns, every one in a process of its own with the same number of threads.
In each turn one repetition warms up and the next is timed; ratios are medians over the turns.
deepmd-kit's fastest mode is the one that counts.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from contest import remarks, table
from parts import PARTS, Options
from rich.console import Console
from water_box import PEER, Peer
from workload import CACHE


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--only", metavar="PARTS", help=f"of {','.join(PARTS)}\n(default: all but gpu)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="compiled modes, which take ten minutes to prepare, and the longest runs",
    )
    parser.add_argument("--turns", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--modes", help="of deepmd-kit, instead: eager,torchscript,pt-expt")
    parser.add_argument(
        "--deepmd",
        type=Path,
        default=CACHE / PEER,
        help="environment with deepmd-kit 3.2.0\n(default: %(default)s, by make interop)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    return parser.parse_args()


def main() -> int:
    """Run the parts that were asked for; prints tables as they are made."""
    given = arguments()
    chosen = given.only.split(",") if given.only else [name for name in PARTS if name != "gpu"]
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        print(f"no part {', '.join(unknown)}: choose of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    peer = Peer(given.deepmd) if (given.deepmd / "bin" / "python").exists() else None
    if peer is None:
        print(f"no deepmd-kit in {given.deepmd} (make interop): ours alone", file=sys.stderr)
    modes = tuple(given.modes.split(",")) if given.modes else ()
    options = Options(given.full, given.turns, given.threads, given.device, peer, modes)
    document: dict[str, Any] = {
        "machine": platform.platform(),
        "load_before": os.getloadavg(),
        "threads": given.threads,
        "device": given.device,
        "contests": [],
    }
    for name in chosen:
        for contest in PARTS[name](options):
            result = contest.measure()
            show(result)
            document["contests"].append(result)
            if given.json:
                given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def show(result: dict[str, Any]) -> None:
    """Print a table and what follows from it."""
    console = Console(width=110)
    console.print(table(result))
    for remark in remarks(result):
        console.print(remark, highlight=False)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
