"""Ctrl-C and SIGTERM between two events instead of within one.

A signal that raises where it strikes would leave half an event in memory, and nothing that could
be saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Stopping"]


class Stopping:
    """Within it the first SIGINT or SIGTERM only sets ``asked``; the second raises at once.

    In a thread other than the main one, where signals are not handled, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._theirs: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(name)):  # SIGTERM's own way, and ignoring, stay
                    self._theirs[name] = signal.signal(name, self._stop)
        return self

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, handler in self._theirs.items():
            signal.signal(name, handler)
