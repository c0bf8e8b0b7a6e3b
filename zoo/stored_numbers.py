"""The numbers of a checkpoint's tensors, as bytes: each tensor alone, checked, without torch."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from schemas.checkpoint.archive import ArchiveEntry, pieces
from schemas.checkpoint.header import TensorEntry
from schemas.checkpoint.pickle_values import ITEM_SIZES, Storage, Tensor
from schemas.checkpoint.random_access import RandomAccess


class StoredNumbers:
    """Reads tensors; checksums are verified before the last bytes are given.

    Args:
        source: The file.
        storages: Its entries with numbers by key.
    """

    def __init__(self, source: RandomAccess, storages: Mapping[str, ArchiveEntry]) -> None:
        self._source = source
        self._storages = storages
        self._last: tuple[str, bytes] = ("", b"")

    def pieces(self, tensor: TensorEntry) -> Iterator[bytes]:
        """Yield the numbers of a tensor, one after the other in the order of its axes.

        Raises:
            CheckpointError: They are not what was written (CRC-32).
        """
        entry = self._storages[tensor.storage]
        whole = tensor.offset == 0 and tensor.num_bytes == entry.num_bytes
        if whole and tensor.strides == contiguous_strides(tensor.shape):
            yield from pieces(self._source, entry)
        elif tensor.num_bytes:
            yield self._view(tensor).tobytes()

    def _view(self, tensor: TensorEntry) -> "np.ndarray[tuple[int, ...], np.dtype[np.void]]":
        if self._last[0] != tensor.storage:
            content = b"".join(pieces(self._source, self._storages[tensor.storage]))
            self._last = tensor.storage, content
        item = ITEM_SIZES[tensor.dtype]
        return np.ndarray(
            tensor.shape,
            np.dtype(f"V{item}"),
            self._last[1],
            tensor.offset,
            tuple(item * stride for stride in tensor.strides),
        )


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a tensor whose numbers follow one another."""
    return tuple(math.prod(max(1, n) for n in shape[axis + 1 :]) for axis in range(len(shape)))


def compact(key: str, tensor: TensorEntry) -> Tensor:
    """Return a description of the same tensor with a storage of its own."""
    size = math.prod(tensor.shape)
    return Tensor(
        Storage(key, tensor.dtype, size), 0, tensor.shape, contiguous_strides(tensor.shape)
    )
