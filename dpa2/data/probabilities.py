"""How likely each system is drawn: `auto_prob` and `sys_probs` of an input file."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from dpa2.data.frames import FloatArray
from schemas.errors import DataError

_STYLES = ("prob_uniform", "prob_sys_size")
_BLOCK_HINT = 'write "prob_sys_size;0:2:0.4;2:5:0.6": systems 0 and 1 share 0.4, 2 to 4 share 0.6'
# deepmd-kit allows this much rounding in sums of probabilities.
_SUM_TOLERANCE = 1e-8


def system_probabilities(
    num_batches: Sequence[int],
    auto_prob: str = "prob_sys_size",
    sys_probs: Sequence[float] | None = None,
) -> FloatArray:
    """Return the probability of each system; `sys_probs` goes before `auto_prob`.

    Args:
        num_batches: Batches in an epoch of each system.
        auto_prob: `prob_uniform`, `prob_sys_size` (in proportion to `num_batches`), or
            `prob_sys_size;i:j:w;...` (systems i to j - 1 share the weight w in that proportion).
        sys_probs: One number per system; negative ones share what the others leave, in proportion
            to `num_batches`.

    Raises:
        DataError: If lengths, names or sums are wrong.
    """
    batches = np.asarray(num_batches, dtype=np.float64)
    if sys_probs is not None:
        return _assigned(np.asarray(sys_probs, dtype=np.float64), batches)
    if auto_prob == "prob_uniform":
        return np.full(len(batches), 1.0 / len(batches))
    if auto_prob == "prob_sys_size":
        return np.asarray(batches / batches.sum(), dtype=np.float64)
    style, _, blocks = auto_prob.partition(";")
    if style != "prob_sys_size":
        close = get_close_matches(style, _STYLES, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"give one of {', '.join(_STYLES)}"
        raise DataError(f'auto_prob "{auto_prob}" is unknown', hint=hint)
    return _blocks(blocks, batches)


def _assigned(probs: FloatArray, batches: FloatArray) -> FloatArray:
    if len(probs) != len(batches):
        raise DataError(
            f"sys_probs lists {len(probs)} numbers for {len(batches)} systems",
            hint="give one number per system found; a negative one lets the rest be shared",
        )
    if not np.isfinite(probs).all():
        raise DataError("sys_probs has NaN or infinity")
    free = probs < 0
    assigned = float(probs[~free].sum())
    rest = 1.0 - assigned
    if rest < -_SUM_TOLERANCE:
        raise DataError(f"sys_probs sum to {assigned:g}, more than 1", hint="make them sum to 1")
    if np.isclose(rest, 0.0):
        return np.where(free, 0.0, probs)
    if not free.any():
        raise DataError(
            f"sys_probs sum to {assigned:g}, less than 1",
            hint="make them sum to 1, or give -1 to the systems that share the rest",
        )
    shares = np.where(free, batches, 0.0)
    return np.where(free, rest * shares / shares.sum(), probs)


def _blocks(text: str, batches: FloatArray) -> FloatArray:
    weights = np.zeros_like(batches)
    shares: list[tuple[int, int, float]] = []
    for block in text.split(";"):
        start, end, weight = _parse_block(block, len(batches))
        if any(start < other_end and other_start < end for other_start, other_end, _ in shares):
            raise DataError(f'auto_prob: block "{block}" overlaps another', hint=_BLOCK_HINT)
        shares.append((start, end, weight))
    total = sum(weight for _, _, weight in shares)
    if total <= 0:
        raise DataError("auto_prob: all block weights are 0", hint=_BLOCK_HINT)
    for start, end, weight in shares:
        inside = batches[start:end]
        weights[start:end] = inside / inside.sum() * (weight / total)
    return weights


def _parse_block(block: str, num_systems: int) -> tuple[int, int, float]:
    parts = block.split(":")
    try:
        start, end, weight = int(parts[0]), int(parts[1]), float(parts[2])
    except (ValueError, IndexError) as error:
        raise DataError(
            f'auto_prob: "{block}" is no block start:end:weight', hint=_BLOCK_HINT
        ) from error
    if len(parts) != 3 or not 0 <= weight < np.inf:
        raise DataError(
            f'auto_prob: "{block}" is no block start:end:weight with a weight >= 0',
            hint=_BLOCK_HINT,
        )
    if not 0 <= start < end:
        raise DataError(f'auto_prob: block "{block}" is empty', hint=_BLOCK_HINT)
    if end > num_systems:
        raise DataError(
            f'auto_prob: block "{block}" exceeds the {num_systems} systems', hint=_BLOCK_HINT
        )
    return start, end, weight
