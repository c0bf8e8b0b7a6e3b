"""SIGINT and SIGTERM as a polite request: finish the step, write a checkpoint, leave."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopRequest:
    """Turns the first signal into a flag; a second SIGINT interrupts at once.

    Attributes:
        signal_name: Name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread only; elsewhere the caller has to stop us.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
