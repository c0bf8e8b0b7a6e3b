"""The deepmd-kit side of the comparison; runs in deepmd-kit's environment.

worker_deepmd.py checkpoint FOLDER            write FOLDER/model.pt (one step, for statistics)
worker_deepmd.py MODE train|infer FOLDER      serve; MODE: eager, torchscript, pt-expt

These workers call deepmd-kit's own trainers and `DeepPot`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from protocol import serve
from workload import water_frame

Step = Callable[[], dict[str, Any]]


def dp(*arguments: str, folder: Path) -> None:
    """Run deepmd-kit's command line in a folder."""
    subprocess.run([sys.executable, "-m", "deepmd", *arguments], cwd=folder, check=True)


def write_checkpoint(folder: Path) -> None:
    """Train one step, so that the checkpoint has real statistics."""
    config = json.loads((folder / "input.json").read_text())
    config["training"] |= {"numb_steps": 1, "save_freq": 1}
    (folder / "one_step.json").write_text(json.dumps(config))
    dp("--pt", "train", "one_step.json", "--skip-neighbor-stat", folder=folder)
    shutil.copyfile(folder / "model.ckpt-1.pt", folder / "model.pt.new")
    (folder / "model.pt.new").replace(folder / "model.pt")


def normalized_input(folder: Path, *, compiled: bool) -> dict[str, Any]:
    """Return the input as deepmd-kit's trainers want it."""
    from deepmd.utils.argcheck import normalize
    from deepmd.utils.compat import update_deepmd_input

    config = json.loads((folder / "input.json").read_text())
    if compiled:
        config["training"]["enable_compile"] = True
    return normalize(update_deepmd_input(config, warning=False))


def train_eager(folder: Path) -> Step:
    """Return one training step of the PyTorch backend."""
    from deepmd.pt.entrypoints.main import get_trainer

    trainer = get_trainer(normalized_input(folder, compiled=False), str(folder / "model.pt"))
    trainer.wrapper.train()

    def step() -> dict[str, Any]:
        trainer.optimizer.zero_grad(set_to_none=True)
        inputs, labels, _ = trainer._next_training_batch("Default")  # noqa: SLF001 - its loop does it
        rate = trainer.scheduler.get_last_lr()[0]
        _, loss, _ = trainer.wrapper(**inputs, cur_lr=rate, label=labels, task_key="Default")
        loss.backward()
        trainer.optimizer.step()
        trainer.scheduler.step()
        return {"loss": float(loss.detach())}

    return step


def train_expt(folder: Path) -> Step:
    """Return one training step of the pt-expt backend, compiled; minutes to prepare."""
    from deepmd.pt_expt.entrypoints.main import get_trainer

    trainer = get_trainer(normalized_input(folder, compiled=True))
    trainer.wrapper.train()
    tasks = trainer.training_tasks
    task = tasks[tasks.keys[0]]

    def step() -> dict[str, Any]:
        result = trainer.train_step(task, 0)
        return {"loss": float(result.payload["loss"].detach())}

    return step


def write_exported(folder: Path) -> None:
    """Compile the checkpoint to `model.pt2`, which takes ten minutes.

    3.2.0 writes an archive that its own Python cannot open: the nested one for runs on several
    ranks is read as text. Without that member it works.
    """
    dp("convert-backend", "model.pt", "whole.pt2", folder=folder)
    with ZipFile(folder / "whole.pt2") as whole, ZipFile(folder / "part.pt2", "w") as part:
        for member in whole.infolist():
            if not member.filename.endswith("forward_lower_with_comm.pt2"):
                part.writestr(member, whole.read(member))
    (folder / "whole.pt2").unlink()
    (folder / "part.pt2").replace(folder / "model.pt2")


def infer(folder: Path, mode: str) -> Step:
    """Return one evaluation of energy, force and virial from numpy arrays."""
    from deepmd.infer import DeepPot

    model = folder / "model.pt"
    if mode == "pt-expt":
        model = folder / "model.pt2"
        if not model.exists():
            write_exported(folder)
    options = {"no_jit": True} if mode == "eager" else {}
    potential = DeepPot(str(model), auto_batch_size=False, **options)
    coord, box, atype = water_frame()

    def evaluate() -> dict[str, Any]:
        energy, force, _ = potential.eval(coord[None], box[None], atype.tolist())[:3]
        return {"energy": float(energy.item()), "force": force.ravel().tolist()}

    return evaluate


def main() -> None:
    """Serve the role on the command line."""
    if sys.argv[1] == "checkpoint":
        write_checkpoint(Path(sys.argv[2]))
        return
    mode, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

    def prepare() -> Step:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        if what == "infer":
            return infer(folder, mode)
        return train_expt(folder) if mode == "pt-expt" else train_eager(folder)

    serve(prepare)


if __name__ == "__main__":
    main()
