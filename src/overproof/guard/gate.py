"""One thing at a time: events are taken in one by one, and none during a pass or a save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, RLock, get_ident

from overproof.errors import RunError

__all__ = ["Gate"]


class Gate:
    """Who may change what guard remembers.

    Short work is done while ``lock`` is held. Long work, a pass or a save, closes the gate and goes
    on without the lock: meanwhile others may take the lock and see that it is ``closed``, so that
    they leave alone what the long work reads and changes.

    Attributes:
        lock: of short work; the same thread may take it again.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._opened = Condition(self.lock)
        self._by = 0  # the thread that closed it
        self._inside = 0  # the thread that is in the midst of an event

    @property
    def closed(self) -> bool:
        """Is long work under way? Lasting only while the lock is held."""
        return self._by != 0

    def close(self) -> None:
        """Begin long work; the lock is held, and the gate is open."""
        self._by = get_ident()

    def open(self) -> None:
        """The long work is done."""
        with self.lock:
            self._by = 0
            self._opened.notify_all()

    def enter(self) -> None:
        """An event begins to be taken in; the lock is held."""
        self._inside = get_ident()

    def leave(self) -> None:
        """It was, or it failed."""
        self._inside = 0

    def wait(self) -> None:
        """Wait until it is open; the lock is held before and after, and not meanwhile.

        Raises:
            RunError: by the thread that closed it, or is in the midst of an event: a signal handler
                that interrupted it would wait for ever, or see half an event.
        """
        if get_ident() in (self._by, self._inside):
            raise RunError(
                "guard",
                "is in the midst of an event, a pass or a save of this very thread",
                "call this when that has ended: not from a signal handler, nor from a recorder",
            )
        while self.closed:
            self._opened.wait()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within it nothing changes but what waits; one waits for other long work to end.

        Raises:
            RunError: as `wait`.
        """
        with self.lock:
            self.wait()
            self.close()
        try:
            yield
        finally:
            self.open()
