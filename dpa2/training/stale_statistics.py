"""Whether a `stat_file` is of the data of this run, asked before the run; imports no torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.batching import apply_batch_size
from dpa2.data.preflight.opened import Surveyed
from dpa2.training.stat_file import StatisticsFile, statistics_fingerprint, statistics_settings
from schemas.diagnostics import Finding
from schemas.diagnostics import Path as JsonPath
from schemas.errors import DataError

_OFF = 1.0
"""eV per atom; the fit of energies per element leaves much less in the data it was made from."""


def check_stat_file(
    stat_file: Path,
    config: Any,
    systems: Sequence[Surveyed],
    batch_size: Any,
    path: JsonPath,
    *,
    read_only: bool = False,
) -> Iterator[Finding]:
    """Yield a finding if the trainer would refuse the file, or use energies of other data.

    Args:
        stat_file: The file or folder; it need not exist.
        config: The `model` section.
        systems: All training systems.
        batch_size: That of the training data: `filter:N` leaves out systems.
        path: Where the file is named in the input.
        read_only: Whether `stat_file_mode` is `read`.
    """
    if not systems or not (stat_file.exists() or read_only):
        return
    try:
        store = StatisticsFile(stat_file, config.type_map, read_only=read_only)
        used = apply_batch_size([item.system for item in systems], batch_size).systems
        if store.check_fingerprint(statistics_fingerprint(used, statistics_settings(config))):
            return
        stored = StatisticsFile(stat_file, config.type_map, read_only=False).read(
            ["bias_atom_energy"]
        )
    except DataError as error:
        yield Finding("ZOO447", path, str(error), error.hint)
        return
    if stored is None:
        return
    bias = np.asarray(stored["bias_atom_energy"], dtype=np.float64).reshape(-1)
    for item in systems:
        off = _difference(item, bias)
        if abs(off) > _OFF:
            message = (
                f"{stat_file} was made from other data: by its energies of elements, "
                f"{item.name} is off by {off:+.3g} eV per atom"
            )
            hint = "delete the file, or name another one; it will be computed again"
            yield Finding("ZOO447", path, message, hint)
            return


def _difference(item: Surveyed, bias: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return energies minus what the elements alone have: the median in eV per atom."""
    facts = item.facts
    if not len(facts.energy) or facts.composition.shape[1] != len(bias):
        return 0.0
    atoms = np.maximum(facts.composition.sum(axis=1), 1)
    left = (facts.energy - facts.composition @ bias) / atoms
    left = left[np.isfinite(left)]
    return float(np.median(left)) if len(left) else 0.0
