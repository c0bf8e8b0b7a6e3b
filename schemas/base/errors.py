"""The errors that a person may see: one sentence, a hint, never a traceback."""

from collections.abc import Sequence

from schemas.base.diagnostics import Diagnostic


class ZooError(Exception):
    """Base of every failure this project can explain.

    Args:
        message: What happened, with the value, and where.
        hint: What to do instead, in the user's words.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DataError(ZooError):
    """A data set cannot be read or does not fit the model."""


class CheckpointError(ZooError):
    """A model file cannot be read, is damaged, or is of another kind."""


class DamagedError(CheckpointError):
    """A model file is not whole, or has other bytes than were written."""


class ConfigError(ZooError):
    """A configuration is unusable; carries the diagnostics that say where."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        diagnostics: Sequence[Diagnostic] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = list(diagnostics)


class TrainingError(ZooError):
    """A training run cannot go on (a NaN, a full disk)."""

    exit_code = 1


class WriteError(ZooError):
    """A file cannot be written (a full disk, a folder that is missing or closed)."""

    exit_code = 1


class ConversionError(ZooError):
    """A model cannot be represented in the format asked for."""


class RegistryError(ZooError):
    """A model name, branch or source cannot be resolved."""


class TransferError(ZooError):
    """A file cannot be fetched, or what arrived is not what was asked for."""

    exit_code = 1


def first_line(error: BaseException | None) -> str:
    """Return the first line of what a library says, which may say it in hundreds."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
