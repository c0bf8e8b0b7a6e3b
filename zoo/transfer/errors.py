"""Failures of a transfer that callers tell apart."""

from schemas.errors import TransferError


class ForbiddenAddressError(TransferError):
    """An address, or one that it redirects to, would go over the network in the clear."""


class UnreachableError(TransferError):
    """No host that has a file can be connected to: there is no network, or not the right one."""


class WrongContentError(TransferError):
    """A file arrived complete and is not the one that was asked for.

    Args:
        message: What differs.
        found: SHA-256 of what arrived.
        hint: What to do.
    """

    def __init__(self, message: str, *, found: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.found = found
