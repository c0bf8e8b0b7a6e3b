"""Batch sizes and probabilities against the systems that are there."""

from collections.abc import Iterator

from dpa2.data.batching import apply_batch_size
from dpa2.data.preflight.opened import Opened
from dpa2.data.probabilities import system_probabilities
from schemas.diagnostics import Finding
from schemas.errors import DataError


def check_batches(section: Opened) -> Iterator[Finding]:
    """Ask the sampler's own functions; what a rule has said about folders is not repeated."""
    request = section.request
    if not section.whole or not section.systems or request.batch_size is None:
        return
    systems = [item.system for item in section.systems]
    try:
        batching = apply_batch_size(systems, request.batch_size)
    except DataError as error:
        yield Finding("ZOO411", request.batch_size_path, str(error), error.hint)
        return
    if batching.warnings:
        message = batching.warnings[0]
        yield Finding("ZOO412", request.batch_size_path, message, severity="warning")
    try:
        system_probabilities(batching.num_batches(), request.auto_prob, request.sys_probs)
    except DataError as error:
        if request.sys_probs is None:
            yield Finding("ZOO414", request.auto_prob_path, str(error), error.hint)
        else:
            yield Finding("ZOO415", request.sys_probs_path, str(error), error.hint)
