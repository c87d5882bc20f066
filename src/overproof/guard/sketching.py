"""Texts to fingerprints, and the provider's key, asked for when the first text needs it.

A log that comes with sketches needs no key, so none is asked for before a text is met.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from overproof.guard.fingerprints import Fingerprinter, read_key

if TYPE_CHECKING:
    from overproof.guard.parts import Sketcher
    from overproof.records.traffic import Event, Sketch

__all__ = ["EnvironmentSketcher", "Texts"]


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


class Texts:
    """What becomes of the texts of events.

    Args:
        sketcher: makes their fingerprints; without one they are passed over.
        counts: of what is done, by name: texts passed over, sketched here.
    """

    def __init__(self, sketcher: Sketcher | None, counts: Counter[str]) -> None:
        self._sketcher = sketcher
        self._counts = counts

    def sketch(self, event: Event) -> Sketch | None:
        """The fingerprint of an event's text; None where nobody makes any."""
        if self._sketcher is None:
            self._counts["texts passed over"] += 1
            return None
        self._counts["sketched here"] += 1
        turns = [turn for turn in event.messages or () if isinstance(turn, Mapping)]
        return self._sketcher.sketch(msgspec.structs.replace(event, messages=turns))

    def light(self, event: Event) -> Event:
        """The event without its text, which is heavy, for one that has to wait."""
        if event.messages is None:
            return event
        sketch = event.text_sketch or self.sketch(event)
        return msgspec.structs.replace(event, text_sketch=sketch, messages=None)
