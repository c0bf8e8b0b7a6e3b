"""Energy conservation: 64 water molecules at constant energy, in LAMMPS and in ASE.

    python benchmarks/nve.py                               # the bundled model, both programs
    python benchmarks/nve.py --model model.ckpt.pt --engine ase --steps 1000

Both start from the same positions and velocities, which a short thermostatted run makes. Reported
are the slope of the total energy (linear fit), how far it strays from that line, and the neighbour
pairs beyond the model's capacity, which would make the energy jump.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from water_box import find_peer, in_float64, water_box

from dpa2.ase import Calculator
from dpa2.interfaces.md import MdSettings
from dpa2.interfaces.simulation import write_simulation
from zoo.resolve import model_file

EVERY = 10
TEMPERATURE = 300.0


def main() -> None:
    """Run and print a table and, as the last line, a JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="DPA2_water_tiny", help="checkpoint or registered name")
    parser.add_argument("--branch", help="of a multi-task checkpoint")
    parser.add_argument("--engine", choices=("lammps", "ase", "both"), default="both")
    parser.add_argument("--timestep", type=float, default=0.25, help="fs")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--equilibrate", type=int, default=300, help="steps of 0.5 fs")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    branch = chosen.branch
    if chosen.model == "DPA2_water_tiny" and branch is None:
        branch = "H2O_GFN2-xTB"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = in_float64(Path(model_file(chosen.model)), branch, folder / "float64.pt")
        atoms = equilibrated(model, chosen.equilibrate)
        settings = MdSettings(
            "nve", TEMPERATURE, timestep=chosen.timestep, steps=chosen.steps, dump_every=EVERY
        )
        found: dict[str, Any] = {}
        for engine, runner in (("lammps", in_lammps), ("ase", in_ase)):
            if chosen.engine in (engine, "both"):
                start = time.perf_counter()
                energies, last = runner(
                    atoms.copy(), model, folder / engine, settings, chosen.threads
                )
                found[engine] = judged(energies, len(atoms), settings, model, last)
                found[engine]["seconds"] = time.perf_counter() - start
                report(engine, found[engine])
    print(json.dumps({"model": chosen.model, "branch": branch, "steps": chosen.steps, **found}))


def equilibrated(model: Path, steps: int) -> Atoms:
    """Return 64 molecules with velocities, after a run with a strong thermostat."""
    atoms = water_box((2, 1, 1))
    atoms.calc = Calculator(model)
    rng = np.random.default_rng(1)
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * TEMPERATURE))
    Langevin(
        atoms,
        timestep=0.5 * units.fs,
        temperature_K=TEMPERATURE,
        friction=0.02 / units.fs,
        rng=rng,
        fixcm=False,
    ).run(steps)
    return atoms


def in_lammps(
    atoms: Atoms, model: Path, folder: Path, settings: MdSettings, threads: int
) -> tuple[list[float], Atoms]:
    """Return total energies, eV, and the last frame of a run of what `zoo md` writes."""
    peer = find_peer()
    written = write_simulation(atoms, model, folder, "lammps", settings)
    done = subprocess.run(
        [str(peer.lammps), "-in", written.files[0], "-log", "log.lammps", "-screen", "none"],
        cwd=folder,
        env=peer.environment(threads),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    rows = [line.split() for line in (folder / "log.lammps").read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:2] == ["Step", "Time"])
    stop = next(k for k, row in enumerate(rows) if row[:2] == ["Loop", "time"])
    column = rows[start].index("TotEng")
    frame = read(folder / "trajectory.lammpstrj", index=-1, format="lammps-dump-text")
    atoms.positions = frame.positions
    return [float(row[column]) for row in rows[start + 1 : stop]], atoms


def in_ase(
    atoms: Atoms, model: Path, folder: Path, settings: MdSettings, threads: int
) -> tuple[list[float], Atoms]:
    """Return total energies, eV, and the last frame of a run with our calculator."""
    del folder, threads
    atoms.calc = Calculator(model)
    energies: list[float] = []
    dynamics = VelocityVerlet(atoms, timestep=settings.timestep * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=EVERY)
    dynamics.run(settings.steps)
    return energies, atoms


def judged(
    energies: list[float], num_atoms: int, settings: MdSettings, model: Path, last: Atoms
) -> dict[str, float]:
    """Return drift (meV/atom/ps), fluctuation (meV/atom) and pairs beyond the capacity."""
    times = np.arange(len(energies)) * EVERY * settings.timestep / 1000.0
    values = 1000.0 * np.array(energies) / num_atoms
    slope, offset = np.polyfit(times, values, 1)
    calculator = Calculator(model)
    last.calc = calculator
    last.get_potential_energy()
    return {
        "drift": float(slope),
        "fluctuation": float(np.std(values - slope * times - offset)),
        "picoseconds": float(times[-1]),
        "num_dropped": calculator.potential.num_dropped,
    }


def report(engine: str, found: dict[str, float]) -> None:
    """Print one line."""
    print(
        f"{engine:7s} {found['picoseconds']:.2f} ps: drift {found['drift']:+.4f} meV/atom/ps, "
        f"fluctuation {found['fluctuation']:.4f} meV/atom, {found['num_dropped']} pairs dropped, "
        f"{found['seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
