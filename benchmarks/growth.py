"""Time and memory of one evaluation as the system grows.

python benchmarks/growth.py --copies 1 2 4 8

Water with the published medium DPA-2 in float64, repeated along all edges; energy, forces and
virial, neighbour search included. Every size is a process of its own, so that peaks are its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from workload import model_section, water_frame


def main() -> int:
    """Measure all sizes, or in a process of its own one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 4], help="along every edge")
    parser.add_argument("--model", default="medium", help="small or medium")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.model, options.copies[0], options.threads)))
        return 0
    rows = [measured_elsewhere(options, copies) for copies in options.copies]
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{options.model} DPA-2, water, float64, {options.threads} threads")
    print(f"{'atoms':>8s}{'seconds':>10s}{'ms/atom':>10s}{'peak MB':>10s}{'kB/atom':>10s}")
    for row in rows:
        atoms, added = row["atoms"], row["peak_mb"] - row["before_mb"]
        print(
            f"{atoms:8d}{row['seconds']:10.2f}{1e3 * row['seconds'] / atoms:10.2f}"
            f"{row['peak_mb']:10.0f}{1e3 * added / atoms:10.0f}"
        )
    return 0


def measured_elsewhere(options: argparse.Namespace, copies: int) -> dict[str, Any]:
    """Return the row of one size, measured by another process."""
    command = [sys.executable, __file__, "--here", "--copies", str(copies)]
    command += ["--model", options.model, "--threads", str(options.threads)]
    env = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    print(f"{copies} copies along every edge", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def measure(size: str, copies: int, threads: int) -> dict[str, Any]:
    """Evaluate once; a smaller system warms up."""
    import torch

    from dpa2.model.build import build_model
    from schemas.input.model import parse_model

    torch.set_num_threads(threads)
    model = build_model(parse_model(model_section(size))).requires_grad_(False)
    coord, box, types = water_frame()
    model(model.graph(coord[None], box[None], types[None]))
    before = peak_mb()
    steps = np.stack(np.meshgrid(*[range(copies)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = (coord[None] + (steps @ box)[:, None]).reshape(1, -1, 3)
    types = np.tile(types, len(steps))[None]
    started = time.perf_counter()
    prediction = model(model.graph(coord, box[None] * copies, types))
    seconds = time.perf_counter() - started
    assert bool(torch.isfinite(prediction.force).all())
    return {
        "atoms": types.size,
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
