"""Evaluate a golden case's structure with `DeepPot`; runs in deepmd-kit's environment.

evaluate_with_deepmd.py MODEL EXPECTED.npz [HEAD]
"""

import json
import sys

import numpy as np
from deepmd.infer import DeepPot


def main() -> None:
    """Print energy, force, virial and atomic energies as one JSON line."""
    model, structure, *head = sys.argv[1:]
    arrays = np.load(structure)
    box = arrays.get("box")
    atype = arrays["atype"]
    extra = {key: arrays[key] for key in ("fparam", "aparam") if key in arrays}
    mixed = atype.ndim == 2
    found = DeepPot(model, head=head[0] if head else None).eval(
        arrays["coord"], box, atype.tolist(), atomic=True, mixed_type=mixed, **extra
    )
    names = ("energy", "force", "virial", "atom_energy")
    document = {name: value.tolist() for name, value in zip(names, found[:4], strict=True)}
    sys.stdout.write("\n" + json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
