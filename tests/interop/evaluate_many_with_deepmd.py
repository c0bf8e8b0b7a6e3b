"""Evaluate several models on golden structures in one process; runs in deepmd-kit's environment.

evaluate_many_with_deepmd.py MODEL EXPECTED.npz [MODEL EXPECTED.npz ...]
"""

import json
import sys

import numpy as np
from deepmd.infer import DeepPot


def main() -> None:
    """Print a JSON line: a list with energy, force, virial and atomic energies of each model."""
    documents = []
    for model, structure in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        arrays = np.load(structure)
        atype = arrays["atype"]
        extra = {key: arrays[key] for key in ("fparam", "aparam") if key in arrays}
        found = DeepPot(model).eval(
            arrays["coord"],
            arrays.get("box"),
            atype.tolist(),
            atomic=True,
            mixed_type=atype.ndim == 2,
            **extra,
        )
        names = ("energy", "force", "virial", "atom_energy")
        documents.append(
            {name: value.tolist() for name, value in zip(names, found[:4], strict=True)}
        )
    sys.stdout.write("\n" + json.dumps(documents) + "\n")


if __name__ == "__main__":
    main()
