"""Write the golden cases with deepmd-kit 3.2.0; run it with deepmd-kit's own Python.

    <python with deepmd-kit 3.2.0> tests/golden/make_golden.py [CASE ...]

Weights come from deepmd-kit's seeded initialisation. What that leaves trivial (biases, statistics,
layer norms, residuals, time steps) is drawn from a numpy generator, so that every term counts.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, Case
from deepmd.pt.model.model import get_model
from deepmd.pt.train.wrapper import ModelWrapper
from deepmd.utils.argcheck import normalize
from packing import packed

FOLDER = Path(__file__).parent


def normalized_model(section: dict[str, Any]) -> dict[str, Any]:
    """Fill in deepmd-kit's defaults, as its trainer does before it builds a model."""
    config = {
        "model": section,
        "learning_rate": {"start_lr": 1e-3},
        "loss": {},
        "training": {"training_data": {"systems": ["none"]}, "numb_steps": 1},
    }
    return normalize(json.loads(json.dumps(config)))["model"]


def statistics(shape: torch.Size, case: Case, rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw davg and dstd (nt, nsel, 4), the same for every slot, as deepmd-kit's are."""
    num_types, nsel, _ = shape
    scale = rng.uniform(0.08, 0.25, size=(num_types, 1, 4))
    shift = rng.uniform(-0.08, 0.12, size=(num_types, 1, 4))
    if case.davg == "zero":
        shift[:] = 0
    if case.davg == "radial":
        shift[..., 1:] = 0
    if case.davg != "all":
        scale[..., 2:] = scale[..., 1:2]
    return np.tile(shift, (1, nsel, 1)), np.tile(scale, (1, nsel, 1))


def randomize(model: torch.nn.Module, case: Case, rng: np.random.Generator) -> None:
    """Replace trivial initial values in place."""

    def fill(tensor: torch.Tensor, values: Any) -> None:
        tensor.data.copy_(torch.as_tensor(values).reshape(tensor.shape))

    for name, value in list(model.named_parameters()) + list(model.named_buffers()):
        last = name.rsplit(".", 1)[-1]
        if last == "mean":
            owner = model.get_submodule(name.rsplit(".", 1)[0])
            davg, dstd = statistics(value.shape, case, rng)
            fill(owner.mean, davg)
            fill(owner.stddev, dstd)
        elif last == "out_bias":
            fill(value, rng.uniform(-3, 1, size=value.shape))
        elif last == "out_std":
            fill(value, rng.uniform(0.5, 2, size=value.shape))
        elif last == "bias_atom_e" and case.fitting_bias:
            fill(value, rng.uniform(-1, 1, size=value.shape))
        elif last in {"fparam_avg", "aparam_avg", "case_embd"}:
            fill(value, rng.normal(size=value.shape))
        elif last in {"fparam_inv_std", "aparam_inv_std", "idt"}:
            fill(value, rng.uniform(0.4, 1.5, size=value.shape))
        elif "attn2_lm" in name:
            offset = 1.0 if last == "matrix" else 0.0
            fill(value, offset + rng.normal(scale=0.4, size=value.shape))
        elif "_residual." in name and case.random_residual:
            fill(value, rng.uniform(0.1, 0.6, size=value.shape))


def evaluate(model: torch.nn.Module, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the model on the arrays of one case; shapes as deepmd-kit returns them."""
    num_frames, num_atoms, _ = arrays["coord"].shape
    tensors = {key: torch.as_tensor(value) for key, value in arrays.items()}
    coord = tensors["coord"].reshape(num_frames, -1)
    box = tensors["box"].reshape(num_frames, 9) if "box" in tensors else None
    atype = tensors["atype"].expand(num_frames, num_atoms)
    extra = {key: tensors.get(key) for key in ("fparam", "aparam")}
    out = model(coord, atype, box=box, do_atomic_virial=True, **extra)
    descriptor = model.forward_embedding(coord, atype, box, **extra, charge_spin=None)["descriptor"]
    keys = ("energy", "force", "virial", "atom_energy", "atom_virial")
    found = {key: out[key] for key in keys} | {"descriptor": descriptor}
    return {key: value.detach().double().cpu().numpy() for key, value in found.items()}


def make(name: str, case: Case) -> int:
    """Write one case; returns the size of its folder in bytes."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    section = case.model_section()
    params = normalized_model(section)
    model = get_model(json.loads(json.dumps(params))).cpu()
    randomize(model, case, rng)
    model.eval()

    structure = case.structure()
    arrays = {"coord": structure.coord, "atype": structure.atype.astype(np.int64)}
    if structure.box is not None:
        arrays["box"] = structure.box
    num_frames, num_atoms, _ = structure.coord.shape
    if case.fparam:
        arrays["fparam"] = rng.normal(size=(num_frames, case.fparam))
    if case.aparam:
        arrays["aparam"] = rng.normal(size=(num_frames, num_atoms, case.aparam))
    expected = evaluate(model, arrays)
    if not case.atomic_virial:
        del expected["atom_virial"]
    for key, value in expected.items():
        if not np.isfinite(value).all():
            raise SystemExit(f"{name}: {key} is not finite")

    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    (folder / "input.json").write_text(json.dumps({"model": section}, indent=1) + "\n")
    state = ModelWrapper(model, model_params=params).state_dict()
    torch.save(packed({"model": state}), folder / "model.pt")
    np.savez_compressed(folder / "expected.npz", **arrays, **expected)
    size = sum(file.stat().st_size for file in folder.iterdir())
    force = np.abs(expected["force"]).max()
    sys.stdout.write(
        f"{name:36s} {size:6d} B  E = {expected['energy'].ravel()}  max|F| = {force:.3g}\n"
    )
    return size


def main() -> None:
    """Write the cases named on the command line, or all of them."""
    names = sys.argv[1:] or list(CASES)
    total = sum(make(name, CASES[name]) for name in names)
    sys.stdout.write(f"{len(names)} cases, {total / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
