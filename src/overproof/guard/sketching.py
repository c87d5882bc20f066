"""The provider's key, asked for when the first text needs it.

A log that comes with sketches needs no key, so none is asked for before a text is met.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from overproof.guard.fingerprints import Fingerprinter, read_key

if TYPE_CHECKING:
    from overproof.records.traffic import Event, Sketch

__all__ = ["EnvironmentSketcher"]


class EnvironmentSketcher:
    """Sketches with the key in an environment variable, read at the first text.

    Args:
        variable: its name, ``key_env`` of the configuration.
    """

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self._fingerprinter: Fingerprinter | None = None
        self.key_id = ""

    def sketch(self, event: Event) -> Sketch:
        """The event's fingerprint.

        Raises:
            SecretError: the variable is not set, or holds no good key.
        """
        if self._fingerprinter is None:
            self.open()
        assert self._fingerprinter is not None
        return self._fingerprinter.sketch(event)

    def open(self) -> None:
        """Read the key now. ``key_id`` then tells keys apart and gives none away.

        Raises:
            SecretError: as `sketch`.
        """
        key = read_key(self._variable)
        self._fingerprinter = Fingerprinter(key)
        self.key_id = hashlib.blake2b(key, digest_size=8, person=b"overproof.key-id").hexdigest()
