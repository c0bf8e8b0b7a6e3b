"""Invented labelled frames for training: water-like structures and a smooth pair energy."""

from pathlib import Path

import numpy as np
from structures import Structure, periodic_water

REACH = 4.0
"""Å; the pair energy and its slope vanish here."""
STRENGTH = np.array([[0.9, -0.5], [-0.5, 0.35]])
"""eV per pair of types at zero distance."""


def pair_labels(coord: np.ndarray, box: np.ndarray, atype: np.ndarray) -> dict[str, np.ndarray]:
    """Label one frame with e_ij = A_ij (1 - r/R)^4, summed over images; half to each atom."""
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ box
    vector = coord[None, :, None] + shifts - coord[:, None, None]
    distance = np.linalg.norm(vector, axis=-1)
    near = (distance < REACH) & (distance > 1e-9)
    rest = np.where(near, 1 - distance / REACH, 0.0)
    strength = STRENGTH[atype[:, None], atype[None, :]][..., None]
    atom_energy = 0.5 * (strength * rest**4).sum(axis=(1, 2))
    slope = -4 * strength * rest**3 / REACH
    pull = slope[..., None] * vector / np.where(near, distance, 1.0)[..., None]
    return {
        "energy": atom_energy.sum(),
        "force": pull.sum(axis=(1, 2)).ravel(),
        "virial": -0.5 * np.einsum("ijsa,ijsb->ab", pull, vector).ravel(),
        "atom_ener": atom_energy,
    }


def labelled(structure: Structure, seed: int) -> dict[str, np.ndarray]:
    """Return the arrays of a set folder, with random weights and parameters beside the labels."""
    rng = np.random.default_rng(seed)
    num_frames, num_atoms, _ = structure.coord.shape
    assert structure.box is not None
    atype = np.broadcast_to(structure.atype, (num_frames, num_atoms))
    frames = zip(structure.coord, structure.box, atype, strict=True)
    labels = [pair_labels(*frame) for frame in frames]
    arrays = {key: np.stack([label[key] for label in labels]) for key in labels[0]}
    arrays["energy"] = arrays["energy"] - 3.0 * (atype == 0).sum(1) - 0.7 * (atype == 1).sum(1)
    return arrays | {
        "coord": structure.coord.reshape(num_frames, -1),
        "box": structure.box.reshape(num_frames, 9),
        "atom_pref": rng.uniform(0.2, 2.0, size=(num_frames, num_atoms)),
        "atom_ener_coeff": rng.uniform(0.5, 1.5, size=(num_frames, num_atoms)),
        "drdq": rng.normal(size=(num_frames, num_atoms * 3 * 2)),
        "fparam": rng.normal(loc=3.0, scale=[0.5, 2.0], size=(num_frames, 2)),
        "aparam": rng.normal(loc=-1.0, scale=0.3, size=(num_frames, num_atoms)),
    }


def write_system(folder: Path, arrays: dict[str, np.ndarray], atype: np.ndarray) -> None:
    """Write a deepmd/npy system."""
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array)
    (folder / "type_map.raw").write_text("O\nH\n")
    (folder / "type.raw").write_text("\n".join(map(str, atype)) + "\n")


def write_mixed_system(folder: Path) -> None:
    """Write a mixed-type system: frames of 12, 9 and 6 atoms, padded with type -1."""
    structure = periodic_water(33, num_frames=3)
    sizes = (12, 9, 6)
    frames = []
    for frame, size in enumerate(sizes):
        part = slice(frame, frame + 1)
        small = Structure(structure.coord[part, :size], structure.box[part], structure.atype[:size])
        arrays = labelled(small, 34 + frame)
        frames.append({key: arrays[key] for key in ("coord", "box", "energy", "force", "virial")})
    for frame, size in zip(frames, sizes, strict=True):
        for key in ("coord", "force"):
            frame[key] = np.pad(frame[key], ((0, 0), (0, 36 - 3 * size)))
    arrays = {key: np.concatenate([frame[key] for frame in frames]) for key in frames[0]}
    types = np.stack([np.where(np.arange(12) < size, structure.atype, -1) for size in sizes])
    write_system(folder, arrays | {"real_atom_types": types.astype(np.int32)}, np.zeros(12, int))


def write_all(folder: Path) -> None:
    """Write the systems `one`, `five` and `mixed`."""
    for name, seed, num_frames in (("one", 31, 1), ("five", 32, 5)):
        structure = periodic_water(seed, num_frames=num_frames)
        write_system(folder / name, labelled(structure, seed + 100), structure.atype)
    write_mixed_system(folder / "mixed")
