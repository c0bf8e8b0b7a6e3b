"""What is in a list of systems, in numbers (`zoo data info`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpa2.data.system import System


@dataclass(frozen=True, slots=True)
class SystemOverview:
    """One system in numbers.

    Attributes:
        name: The path.
        num_frames: Frames.
        num_atoms: Atom slots per frame, padding included.
        periodic: Whether the frames have a cell.
        mixed: Whether atom types differ from frame to frame.
        composition: Atoms of each element: per frame, or over all frames where they differ.
        labels: Labels present.
        energy_per_atom: Smallest and largest energy in eV per atom; None without energies.
        max_force: Largest force component in eV/Å; None without forces.
        warnings: What is odd, one sentence each.
    """

    name: str
    num_frames: int
    num_atoms: int
    periodic: bool
    mixed: bool
    composition: dict[str, int]
    labels: list[str]
    energy_per_atom: tuple[float, float] | None
    max_force: float | None
    warnings: list[str]


def describe(system: System) -> SystemOverview:
    """Count and measure one system; reads its energies and forces once."""
    energies: list[float] = []
    forces: list[float] = []
    notes = list(system.warnings)
    for frames in system.chunks(256, ("energy", "force")):
        if frames.energy is not None:
            energies += (frames.energy / np.maximum(frames.real_atoms, 1)).tolist()
        if frames.force is not None and frames.force.size:
            forces.append(float(np.abs(frames.force).max()))
    for label, values in (("energy", energies), ("force", forces)):
        if values and not np.isfinite(values).all():
            notes.append(f"{label} of {system.name} has NaN or infinity")
    return SystemOverview(
        name=system.name,
        num_frames=system.num_frames,
        num_atoms=system.num_atoms,
        periodic=system.periodic,
        mixed=system.mixed,
        composition={_element(system.type_map, t): n for t, n in system.type_counts().items()},
        labels=sorted(system.labels),
        energy_per_atom=_finite((min(energies), max(energies)) if energies else None),
        max_force=max(forces) if forces and np.isfinite(forces).all() else None,
        warnings=notes,
    )


def describe_all(systems: Sequence[System]) -> list[SystemOverview]:
    """Describe every system."""
    return [describe(system) for system in systems]


def _element(type_map: Sequence[str] | None, number: int) -> str:
    return type_map[number] if type_map else f"type {number}"


def _finite(values: tuple[float, float] | None) -> tuple[float, float] | None:
    return values if values is not None and np.isfinite(values).all() else None
