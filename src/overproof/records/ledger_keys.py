"""Which keys a ledger may hold: most requests are new, and need no look-up in the file."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["KnownKeys"]

PREFIX = 8


class KnownKeys:
    """Keys by their first 8 bytes, in 8 bytes of memory each but for those that were added.

    Two of a million keys share their first 8 bytes in one ledger of 37 million; then a look-up is
    for nothing.
    """

    def __init__(self) -> None:
        self._loaded: array[int] | None = None
        self._added: set[int] = set()

    @property
    def is_loaded(self) -> bool:
        """Whether the keys of the file are there."""
        return self._loaded is not None

    def load(self, keys: Iterable[bytes]) -> None:
        """Take the keys of the file, in ascending order."""
        self._loaded = array("Q", (_prefix(key) for key in keys))

    def add(self, key: bytes) -> None:
        """Add one."""
        self._added.add(_prefix(key))

    def may_hold(self, key: bytes) -> bool:
        """Whether a look-up may find it; ``False`` is certain once the keys are loaded."""
        prefix, loaded = _prefix(key), self._loaded
        if loaded is None or prefix in self._added:
            return True
        place = bisect_left(loaded, prefix)
        return place < len(loaded) and loaded[place] == prefix


def _prefix(key: bytes) -> int:
    return int.from_bytes(key[:PREFIX], "big")
