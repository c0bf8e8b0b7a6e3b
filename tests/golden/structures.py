"""Small random structures of the golden cases: invented coordinates, no simulation behind them."""

from dataclasses import dataclass

import numpy as np

# Å and degrees of a rigid water molecule; molecules are then shaken: this only sets the scale.
OH_LENGTH = 0.97
HOH_ANGLE = 104.5


@dataclass(frozen=True)
class Structure:
    """Frames of one system: coord (F, N, 3) Å, box (F, 3, 3) Å or None, atype (N,) or (F, N)."""

    coord: np.ndarray
    box: np.ndarray | None
    atype: np.ndarray


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a random proper rotation (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def water_molecules(rng: np.random.Generator, sites: np.ndarray) -> np.ndarray:
    """Put a shaken, randomly turned molecule (O, H, H) on every site; returns (3 sites, 3)."""
    half = np.radians(HOH_ANGLE / 2)
    arm = OH_LENGTH * np.array([np.sin(half), np.cos(half)])
    rigid = np.array([[0, 0, 0], [arm[0], arm[1], 0], [-arm[0], arm[1], 0]])
    turned = np.stack([site + rigid @ random_rotation(rng) for site in sites])
    return turned.reshape(-1, 3) + rng.normal(scale=0.06, size=(3 * len(sites), 3))


def grid_sites(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Return jittered fractional positions on a grid, one per molecule."""
    axes = [(np.arange(n) + 0.5) / n for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid + rng.uniform(-0.08, 0.08, size=grid.shape) / np.array(shape)


def wrapped(coord: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Move atoms (N, 3) into the cell (3, 3)."""
    return (coord @ np.linalg.inv(box) % 1) @ box


def periodic_water(
    seed: int,
    shape: tuple[int, int, int] = (2, 2, 1),
    edges: tuple[float, float, float] = (5.3, 5.1, 4.8),
    num_frames: int = 2,
    tilt: float = 0.0,
) -> Structure:
    """Return water in a box with the given edges; `tilt` makes the lower cell entries non-zero."""
    rng = np.random.default_rng(seed)
    coords, boxes = [], []
    for _ in range(num_frames):
        box = np.diag(edges) * rng.uniform(0.98, 1.02, size=(3, 1))
        box[np.tril_indices(3, -1)] = tilt * rng.uniform(-1, 1, size=3)
        coords.append(wrapped(water_molecules(rng, grid_sites(rng, shape) @ box), box))
        boxes.append(box)
    atype = np.tile([0, 1, 1], int(np.prod(shape)))
    return Structure(np.stack(coords), np.stack(boxes), atype)


def isolated_water(seed: int, num_frames: int = 2) -> Structure:
    """Return four molecules without a box, one of them out of everyone's reach."""
    rng = np.random.default_rng(seed)
    sites = np.array([[0, 0, 0], [2.8, 0.2, 0.3], [0.4, 2.9, -0.2], [14.0, 1.0, 2.0]])
    coord = np.stack([water_molecules(rng, sites) for _ in range(num_frames)])
    return Structure(coord, None, np.tile([0, 1, 1], 4))


def five_elements(seed: int) -> Structure:
    """Return fourteen atoms of five types in a strongly tilted cell."""
    rng = np.random.default_rng(seed)
    box = np.array([[6.1, 0.0, 0.0], [2.1, 5.4, 0.0], [-1.4, 1.9, 5.6]])
    axes = [(np.arange(n) + 0.5) / n for n in (3, 3, 2)]
    sites = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)[:14]
    frames = [(sites + rng.uniform(-0.05, 0.05, size=sites.shape)) % 1 @ box for _ in range(2)]
    return Structure(np.stack(frames), np.stack([box, box * 1.03]), rng.permutation(14) % 5)


def lone_atom(*, periodic: bool) -> Structure:
    """Return one atom with no neighbour at all."""
    coord = np.array([[[0.3, -1.2, 2.4]]])
    box = np.eye(3)[None] * 20.0 if periodic else None
    return Structure(coord, box, np.array([1]))


def shuffled_types(seed: int) -> Structure:
    """Return water in which O comes first in one frame and H in the other; atype (F, N)."""
    frames = periodic_water(seed)
    order = np.stack([np.arange(12), np.roll(np.arange(12), 1)])
    coord = np.take_along_axis(frames.coord, order[..., None], axis=1)
    return Structure(coord, frames.box, frames.atype[order])


def padded_with_virtual_atoms(seed: int) -> Structure:
    """Return frames of unequal size padded with type -1, once at the end and once at the front."""
    frames = periodic_water(seed)
    atype = np.stack([frames.atype, frames.atype])
    coord = frames.coord.copy()
    atype[0, 9:] = -1
    coord[0, 9:] = 0.0
    atype[1, :3] = -1
    coord[1, :3] = 0.0
    return Structure(coord, frames.box, atype)


def out_of_the_cell(seed: int) -> Structure:
    """Return water with one molecule a cell vector away, as in trajectories never wrapped."""
    frames = periodic_water(seed)
    assert frames.box is not None
    coord = frames.coord.copy()
    coord[:, :3] += frames.box[:, :1] - frames.box[:, 2:]
    return Structure(coord, frames.box, frames.atype)
