"""deepmd-kit's detail files: every label beside its prediction, as `numpy.loadtxt` reads them."""

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from dpa2.evaluate.quantities import Comparison, Pair
from schemas.atomic import atomic_write

# Suffix, quantity and unit remark of each file (docs/deepmd-format.md, 7.1). deepmd-kit titles the
# energies per atom like the energies.
_FILES = (
    (".e.out", "energy", ("e",), ""),
    (".e_peratom.out", "energy_per_atom", ("e",), ""),
    (".f.out", "force", ("fx", "fy", "fz"), ""),
    (".v.out", "virial", tuple(f"v{a}{b}" for a in "xyz" for b in "xyz"), ""),
    (".v_peratom.out", "virial_per_atom", tuple(f"v{a}{b}" for a in "xyz" for b in "xyz"), ""),
    (".s.out", "stress", tuple(f"s{a}{b}" for a in "xyz" for b in "xyz"), " (eV/Å³)"),
)


class DetailFiles:
    """Writes `PREFIX.e.out`, `.e_peratom.out`, `.f.out`, `.v.out`, `.v_peratom.out` and `.s.out`.

    Rows are `data... pred...` in `%.18e`, one per frame or, for forces, per atom. All systems go
    into the same files, each under a header line of its own (deepmd-kit writes the first one only;
    readers skip them as comments). A file appears for what has labels, and only when everything
    succeeded.

    Args:
        prefix: Path that the suffixes are appended to; its own dots stay (`run.v1` gives
            `run.v1.e.out`, where deepmd-kit gives `run.e.out`).
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = str(prefix)
        self._files = ExitStack()
        self._streams: dict[str, IO[bytes]] = {}
        self._last_system: dict[str, str] = {}

    def __enter__(self) -> Self:
        Path(self.prefix).parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, comparison: Comparison) -> None:
        """Append the rows of some frames."""
        for suffix, key, components, remark in _FILES:
            pair = comparison.pairs.get(key)
            if pair is None:
                continue
            header = ""
            if self._last_system.get(suffix) != comparison.system:
                self._last_system[suffix] = comparison.system
                columns = [f"{side}_{name}" for side in ("data", "pred") for name in components]
                header = f"{comparison.system}{remark}: {' '.join(columns)}"
            rows = _rows(pair, len(components))
            np.savetxt(self._stream(suffix), rows, header=header, encoding="utf-8")

    def _stream(self, suffix: str) -> IO[bytes]:
        if suffix not in self._streams:
            file = atomic_write(self.prefix + suffix)
            self._streams[suffix] = self._files.enter_context(file)
        return self._streams[suffix]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._files.__exit__(kind, error, traceback)


def _rows(pair: Pair, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.hstack([pair.reference.reshape(-1, width), pair.prediction.reshape(-1, width)])
