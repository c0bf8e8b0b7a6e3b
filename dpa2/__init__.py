"""DPA-2: the network, its training and everything that runs it.

`dpa2.load(path)` opens a model for evaluation and `dpa2.train(config)` trains one. Both import
torch when they are first used, so that `import dpa2` (and the torch-free `dpa2.data`) stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpa2.evaluate.potential import load
    from dpa2.training.run import train

__all__ = ["load", "train"]

_WHERE = {"load": "dpa2.evaluate.potential", "train": "dpa2.training.run"}


def __getattr__(name: str) -> Any:
    """Import `load`, `train` and `ase` on first use (PEP 562)."""
    if name == "ase":
        return importlib.import_module("dpa2.ase")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'dpa2' has no attribute {name!r}")
