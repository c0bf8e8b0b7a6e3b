"""Answers of a place that asking again, in another way, cannot change."""

from schemas.errors import TransferError


class RefusedError(TransferError):
    """A place does not have the file, has another one, or does not let this user read it."""
