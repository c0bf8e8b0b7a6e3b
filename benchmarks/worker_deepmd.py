"""The deepmd-kit side of the comparison; runs in deepmd-kit's environment.

worker_deepmd.py MODE WORK      serve; MODE: eager, torchscript, pt-expt; WORK: as of worker_ours.py

These workers call deepmd-kit's own trainers and `DeepPot`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from protocol import Step, serve, synchronize
from workload import Work


def dp(*arguments: str, folder: Path) -> None:
    """Run deepmd-kit's command line in a folder."""
    subprocess.run([sys.executable, "-m", "deepmd", *arguments], cwd=folder, check=True)


def normalized_input(folder: Path, *, compiled: bool) -> dict[str, Any]:
    """Return the input as deepmd-kit's trainers want it."""
    from deepmd.utils.argcheck import normalize
    from deepmd.utils.compat import update_deepmd_input

    config = json.loads((folder / "input.json").read_text())
    if compiled:
        config["training"]["enable_compile"] = True
    return normalize(update_deepmd_input(config, warning=False))


def train_eager(work: Work) -> Step:
    """Return one training step of the PyTorch backend."""
    from deepmd.pt.entrypoints.main import get_trainer

    config = normalized_input(work.folder, compiled=False)
    trainer = get_trainer(config, str(work.folder / "model.pt"))
    trainer.wrapper.train()

    def step() -> dict[str, Any]:
        trainer.optimizer.zero_grad(set_to_none=True)
        inputs, labels, _ = trainer._next_training_batch("Default")  # noqa: SLF001 - its loop does it
        rate = trainer.scheduler.get_last_lr()[0]
        _, loss, _ = trainer.wrapper(**inputs, cur_lr=rate, label=labels, task_key="Default")
        loss.backward()
        trainer.optimizer.step()
        trainer.scheduler.step()
        synchronize(work)
        return {"loss": float(loss.detach())}

    return step


def train_expt(work: Work) -> Step:
    """Return one training step of the pt-expt backend, compiled; minutes to prepare."""
    from deepmd.pt_expt.entrypoints.main import get_trainer

    trainer = get_trainer(normalized_input(work.folder, compiled=True))
    trainer.wrapper.train()
    tasks = trainer.training_tasks
    task = tasks[tasks.keys[0]]

    def step() -> dict[str, Any]:
        result = trainer.train_step(task, 0)
        synchronize(work)
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


def infer(work: Work, mode: str) -> Step:
    """Return one evaluation of energy, force and virial from numpy arrays."""
    from deepmd.infer import DeepPot

    model = work.folder / "model.pt"
    if mode == "pt-expt":
        model = work.folder / "model.pt2"
        if not model.exists():
            write_exported(work.folder)
    options = {"no_jit": True} if mode == "eager" else {}
    potential = DeepPot(str(model), auto_batch_size=False, **options)
    coord, box, atype = work.arrays()

    def evaluate() -> dict[str, Any]:
        energy, force, _ = potential.eval(coord, box, atype.tolist())[:3]
        return {"energy": float(energy[0].item()), "force": force[0].ravel().tolist()}

    return evaluate


def main() -> None:
    """Serve the role on the command line."""
    mode, work = sys.argv[1], Work(**json.loads(sys.argv[2]))

    def prepare() -> Step:
        import torch

        torch.set_num_threads(work.threads)
        if work.what == "infer":
            return infer(work, mode)
        return train_expt(work) if mode == "pt-expt" else train_eager(work)

    serve(work, prepare)


if __name__ == "__main__":
    main()
