"""Make a checkpoint small without changing what `torch.load` returns."""

from typing import Any

import torch


class Packer:
    """Moves tensors into one storage per dtype and keeps their aliasing."""

    def __init__(self) -> None:
        self.pieces: dict[torch.dtype, list[torch.Tensor]] = {}
        self.starts: dict[tuple[torch.dtype, int, torch.Size], int] = {}
        self.lengths: dict[torch.dtype, int] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Reserve a place for a tensor; a tensor seen before keeps its place."""
        key = (tensor.dtype, tensor.data_ptr(), tensor.shape)
        if key not in self.starts or tensor.numel() == 0:
            self.starts[key] = self.lengths.get(tensor.dtype, 0)
            self.pieces.setdefault(tensor.dtype, []).append(tensor.detach().reshape(-1))
            self.lengths[tensor.dtype] = self.starts[key] + tensor.numel()

    def finish(self) -> None:
        """Join the pieces; `view` works from here on."""
        self.storages = {dtype: torch.cat(pieces) for dtype, pieces in self.pieces.items()}

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the packed twin of a tensor that was added."""
        start = self.starts[tensor.dtype, tensor.data_ptr(), tensor.shape]
        return self.storages[tensor.dtype][start : start + tensor.numel()].reshape(tensor.shape)


def packed(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a deepmd-kit checkpoint with the same tensors in a third of the bytes.

    Tensors of one dtype become views of one storage, statistics repeat over neighbour slots with
    stride 0, and the module versions that torch attaches to a state dict are left out.
    """
    packer = Packer()
    walk(checkpoint, "", lambda key, tensor: packer.add(without_slots(key, tensor)))
    packer.finish()

    def twin(key: str, tensor: torch.Tensor) -> torch.Tensor:
        return packer.view(without_slots(key, tensor)).expand(tensor.shape)

    return walk(checkpoint, "", twin)


def without_slots(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return one slot of davg and dstd (nt, nsel, 4), any other tensor as it is."""
    is_statistics = key.endswith((".mean", ".stddev"))
    return tensor[:, :1] if is_statistics else tensor


def walk(node: Any, key: str, visit: Any) -> Any:
    """Rebuild nested containers with every tensor replaced by `visit(key, tensor)`."""
    if isinstance(node, torch.Tensor):
        return visit(key, node)
    if isinstance(node, dict):
        rebuilt = {name: walk(value, str(name), visit) for name, value in node.items()}
        return type(node)(rebuilt)
    if isinstance(node, list | tuple):
        return type(node)(walk(value, key, visit) for value in node)
    return node
