"""How many bytes of a large multi-task checkpoint go over the wire when one branch is pulled.

python benchmarks/branch_pull.py --branches 28

Makes a training checkpoint (random weights, DPA-2 medium's widths, Adam's state) in a temporary
folder, serves it with Range on this machine, reads its header, pulls three branches, and compares
each with the same branch of the full file: every tensor, and energies and forces of ten frames.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.many_branches import ELEMENTS, write_many_branches
from dpa2.evaluate.potential import load
from tests.zoo.transfer.faulty_server import FaultyServer
from zoo.checkpoint_writer import extract_branch
from zoo.remote_branch import fetch_branch, remote_header
from zoo.transfer.remote import Remote

ALLOWANCE = 512 * 1024


def main() -> None:
    """Measure and print one JSON document; exit 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branches", type=int, default=28)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FaultyServer() as server:
        full = Path(folder) / "full.pt"
        write_many_branches(full, options.branches, large=True)
        page = server.serve("/full.pt", full)
        remotes = [Remote(page.url, "here")]
        sent = partial(server.sent, "/full.pt")
        remote_header(remotes)
        result = {"file": full.stat().st_size, "branches": options.branches, "header": sent()}
        pulls = {}
        for number in (0, options.branches // 2, options.branches - 1):
            before, requests = sent(), len(server.seen("/full.pt"))
            name = f"branch_{number:02d}"
            pulled = fetch_branch(remotes, name, Path(folder) / "pulled.pt")
            extract_branch(full, name, Path(folder) / "extracted.pt")
            pulls[name] = {
                "sent": sent() - before,
                "tensors": pulled.tensor_bytes,
                "beyond_tensors": sent() - before - pulled.tensor_bytes,
                "requests": len(server.seen("/full.pt")) - requests,
                "same_tensors": same_tensors(pulled.path, Path(folder) / "extracted.pt"),
                "same_predictions": same_predictions(pulled.path, full, name),
            }
        result["pulls"] = pulls
    print(json.dumps(result, indent=2))
    kept = result["header"] <= ALLOWANCE and all(
        pull["beyond_tensors"] <= ALLOWANCE and pull["same_tensors"] and pull["same_predictions"]
        for pull in pulls.values()
    )
    sys.exit(0 if kept else 1)


def same_tensors(one: Path, other: Path) -> bool:
    """Tell whether two checkpoints have the same tensors and the same model section."""
    first, second = (torch.load(path, weights_only=True)["model"] for path in (one, other))
    extra = first.pop("_extra_state") == second.pop("_extra_state")
    equal = all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    return extra and list(first) == [name for name in second if name != "_extra_state"] and equal


def same_predictions(pulled: Path, full: Path, branch: str) -> bool:
    """Tell whether energies and forces of ten random clusters are the very same numbers."""
    alone, together = load(pulled), load(full, branch)
    generator = np.random.default_rng(1)
    for _ in range(10):
        coord = generator.uniform(0.0, 8.0, (1, 24, 3))
        types = generator.integers(0, len(ELEMENTS), 24)
        one, other = (p.predict(coord, None, types) for p in (alone, together))
        if not np.array_equal(one.energy, other.energy):
            return False
        if not np.array_equal(one.force, other.force):
            return False
    return True


if __name__ == "__main__":
    main()
