"""TensorFlow without what it says when it is imported."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from schemas.environment import quiet_tensorflow


def import_tensorflow() -> Any:
    """Return TensorFlow, with as many threads as torch has if it has not started already."""
    quiet_tensorflow()
    with warnings.catch_warnings(), _no_stderr():
        warnings.simplefilter("ignore")
        import tensorflow as tf
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    return tf


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep back what C++ writes to file 2.

    That oneDNN is there is told before any setting of what to tell is read, and without oneDNN our
    models take nearly twice as long. What goes wrong becomes an exception.
    """
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
