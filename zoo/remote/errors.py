"""Why a file cannot be read in pieces."""

from schemas.errors import TransferError


class NoRangeError(TransferError):
    """The server sends whole files only."""


class ChangedError(TransferError):
    """The file is another one than at the beginning."""
