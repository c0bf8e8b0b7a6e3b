"""Make the pretrained model DPA2_water_tiny that comes with the program.

    python examples/pretrained/make_model.py     # an hour on two cores; may be interrupted

Trains two branches on the bundled water, GFN1-xTB and GFN2-xTB, with one descriptor, and keeps
weights and statistics without the state of the optimiser. Prints what registry.yaml has to say.
"""

import hashlib
import os
from pathlib import Path

import dpa2
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(__file__).resolve().parent / "build"
MODEL = ROOT / "zoo" / "models" / "DPA2_water_tiny.pt"


def main() -> None:
    """Train, or go on training, then write the model."""
    os.chdir(ROOT)  # the input names its data from there
    last = WORK / "model.ckpt.pt"
    result = dpa2.train(
        "examples/pretrained/input.json",
        restart=last if last.exists() else None,
        output_dir=WORK,
        device="cpu",
    )
    trained = read_checkpoint(result.checkpoint)
    MODEL.parent.mkdir(exist_ok=True)
    write_checkpoint(
        MODEL,
        tensors={name: trained.branch(name)[1] for name in trained.branches},
        model_params=trained.model_params,
        step=result.num_steps - 1,
        learning_rate=result.learning_rate,
    )
    content = MODEL.read_bytes()
    print(f"size: {len(content)}\nsha256: {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
