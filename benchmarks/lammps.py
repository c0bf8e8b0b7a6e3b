"""Speed in LAMMPS: our frozen model against deepmd-kit's, of the same weights, in turns.

    python benchmarks/lammps.py                            # 192 atoms, 1 and 2 threads
    python benchmarks/lammps.py --atoms 1536 --threads 2 --rounds 5

Every run is a process of its own; the first steps, in which TorchScript compiles, are not timed.
Printed are medians over the rounds, and their ratio: of the time that passed, and of the processor
time of all threads, which other work on the machine disturbs less.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from water_box import Peer, find_peer, in_float64, water_box

from dpa2.formats.conversion import freeze
from dpa2.interfaces.lammps import lammps_data, lammps_structure
from zoo.resolve import model_file

REPEATS = {96: (1, 1, 1), 192: (2, 1, 1), 768: (2, 2, 2), 1536: (4, 2, 2)}
WARMUP = 10
SCRIPT = f"""\
units metal
atom_style atomic
atom_modify map yes
newton on
boundary p p p
read_data ${{data}}
pair_style deepmd ${{model}}
pair_coeff * * O H
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
velocity all create 300 1
timestep 0.00025
fix move all nve
thermo 1000000
run {WARMUP}
run ${{steps}}
"""


def main() -> None:
    """Run and print a table and, as the last line, a JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="DPA2_water_tiny", help="checkpoint or registered name")
    parser.add_argument("--branch", help="of a multi-task checkpoint")
    parser.add_argument("--atoms", type=int, nargs="+", choices=sorted(REPEATS), default=[192])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    branch = chosen.branch
    if chosen.model == "DPA2_water_tiny" and branch is None:
        branch = "H2O_GFN2-xTB"
    peer = find_peer()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = in_float64(Path(model_file(chosen.model)), branch, folder / "model.pt")
        models = {
            "ours": freeze(checkpoint, folder / "ours.pth").path,
            "deepmd-kit": freeze_with_deepmd(peer, checkpoint, folder / "theirs.pth"),
        }
        (folder / "in.lammps").write_text(SCRIPT)
        for num_atoms in chosen.atoms:
            data = folder / f"{num_atoms}.data"
            box = water_box(REPEATS[num_atoms])
            data.write_text(lammps_data(lammps_structure(box, ("O", "H"))))
            for threads in chosen.threads:
                times: dict[str, list[tuple[float, float]]] = {key: [] for key in models}
                for _ in range(chosen.rounds):
                    for key, model in models.items():
                        times[key].append(time_of(peer, folder, data, model, threads, chosen.steps))
                results.append(report(num_atoms, threads, times))
    print(json.dumps({"model": chosen.model, "steps": chosen.steps, "results": results}))


def freeze_with_deepmd(peer: Peer, checkpoint: Path, target: Path) -> Path:
    """Freeze a checkpoint with deepmd-kit's own command."""
    run(peer, [peer.folder / "bin" / "dp", "--pt", "freeze", "-c", checkpoint, "-o", target], 1)
    return target


def time_of(
    peer: Peer, folder: Path, data: Path, model: Path, threads: int, steps: int
) -> tuple[float, float]:
    """Return (elapsed, processor) milliseconds per step of a process, its second run of LAMMPS."""
    variables = {"data": data, "model": model, "steps": steps}
    command = [peer.lammps, "-in", folder / "in.lammps", "-log", folder / "log", "-screen", "none"]
    for key, value in variables.items():
        command += ["-var", key, value]
    run(peer, command, threads)
    lines = (folder / "log").read_text().splitlines()
    elapsed = float([line for line in lines if line.startswith("Loop time of")][-1].split()[3])
    share = float([line for line in lines if "% CPU use" in line][-1].partition("%")[0]) / 100.0
    return 1000.0 * elapsed / steps, 1000.0 * elapsed * share / steps


def run(peer: Peer, command: list[object], threads: int) -> None:
    """Run a program of deepmd-kit's environment; its output is shown if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        env=peer.environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def report(
    num_atoms: int, threads: int, times: dict[str, list[tuple[float, float]]]
) -> dict[str, object]:
    """Print one line; returns its numbers."""
    found: dict[str, object] = {"atoms": num_atoms, "threads": threads}
    line = f"{num_atoms:5d} atoms, {threads} threads:"
    for index, kind in enumerate(("elapsed", "processor")):
        ours, theirs = (
            statistics.median(pair[index] for pair in times[key]) for key in ("ours", "deepmd-kit")
        )
        line += f"  {kind} {ours:.1f} against {theirs:.1f} ms/step ({theirs / ours:.2f} x)"
        found[kind] = {"ours": ours, "deepmd-kit": theirs, "ratio": theirs / ours}
    print(line, flush=True)
    return found


if __name__ == "__main__":
    main()
