"""Winnowing: a few fingerprints of a text such that a long enough common run is surely seen.

Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting" (SIGMOD
2003). Every run of ``RUN`` bytes of the normalised text gets a rolling hash; of every ``window``
consecutive hashes the smallest is kept. Two texts with a common run of ``window + RUN - 1`` bytes
keep the same hash inside it. A longer text gets a longer window, so that at most ``MOST`` are kept;
a hash that is the smallest of a long window is also that of the short ones in it, so texts of
different lengths share what the longer window guarantees.

The rolling hash runs over secret 64-bit values of the bytes with a secret multiplier, so that what
is kept cannot be foreseen without the key. It is no pseudorandom function, though (its low bits
betray the low bits of the key), and never leaves the process: whoever keeps the fingerprints puts
a keyed blake2b over the few that were selected.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["LONGEST", "MOST", "RUN", "WINDOWS", "Winnower", "guaranteed_run"]

RUN = (
    24  # bytes of normalised text a hash stands for: about four words, or eight Chinese characters
)
MOST = 24
LONGEST = 4_096
WINDOWS = (64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096)

Hashes = npt.NDArray[np.uint64]


def guaranteed_run(length: int) -> int:
    """Bytes of a common run that are surely seen in texts of up to ``length`` normalised bytes.

    For random text; one that is unlucky (or made to be) gets the next longer window.
    """
    return _window_for(length) + RUN - 1


def _window_for(length: int) -> int:
    """The window that is expected to keep a little less than ``MOST``: 2 in window + 1 do."""
    positions = max(length - RUN + 1, 0)
    for window in WINDOWS:
        if 2 * positions <= (MOST - 4) * (window + 1):
            return window
    return WINDOWS[-1]


class Winnower:
    """Selects the rolling hashes of a text.

    Args:
        key: secret bytes; equal keys select equally.
    """

    def __init__(self, key: bytes) -> None:
        stream = b"".join(
            hashlib.blake2b(block.to_bytes(4, "big"), key=key, person=b"winnow").digest()
            for block in range(33)
        )
        secrets = np.frombuffer(stream, dtype="<u8").astype(np.uint64)
        self._values = secrets[:256]
        base = int(secrets[256]) | 1  # odd, hence invertible modulo 2**64
        inverse = pow(base, -1, 2**64)
        self._powers = _powers(base)
        self._inverses = _powers(inverse)

    def select(self, text: bytes) -> list[int]:
        """The rolling hashes kept of a normalised text, in order, each once.

        Args:
            text: at most ``LONGEST`` bytes; what is beyond is not looked at.

        Returns:
            At most ``MOST`` numbers below 2**64; none where the text is shorter than ``RUN``.
        """
        hashes = self._rolling(text[:LONGEST])
        positions = len(hashes)
        if not positions:
            return []
        window = min(_window_for(len(text)), WINDOWS[-1])
        while True:
            kept = _smallest(hashes, window) if window < positions else [int(hashes.min())]
            kept = list(dict.fromkeys(kept))
            if len(kept) <= MOST:
                return kept
            window = WINDOWS[WINDOWS.index(window) + 1]

    def _rolling(self, text: bytes) -> Hashes:
        """A hash of every run of ``RUN`` bytes: shape (len(text) - RUN + 1,), modulo 2**64.

        With values v and base b the prefix sums P_i = sum of v_j b^j give every run's hash at
        once as (P_(i+RUN) - P_i) b^(-i).
        """
        length = len(text)
        if length < RUN:
            return np.empty(0, dtype=np.uint64)
        sums = np.empty(length + 1, dtype=np.uint64)
        sums[0] = 0
        terms = self._values.take(np.frombuffer(text, dtype=np.uint8))
        terms *= self._powers[:length]
        np.add.accumulate(terms, out=sums[1:])
        count = length - RUN + 1
        hashes: Hashes = sums[RUN:] - sums[:count]
        hashes *= self._inverses[:count]
        return hashes


def _powers(base: int) -> Hashes:
    powers, power = [], 1
    for _ in range(LONGEST):
        powers.append(power)
        power = power * base % 2**64
    return np.array(powers, dtype=np.uint64)


def _smallest(hashes: Hashes, window: int) -> list[int]:
    """The smallest hash of every window; neighbours that agree are told once.

    Minima over 2, 4, 8 … hashes come from pairs of the ones before; a window of three halves of a
    power of two from two that overlap.
    """
    width, minima = 1, hashes
    while 2 * width <= window:
        minima = np.minimum(minima[:-width], minima[width:])
        width *= 2
    if (rest := window - width) > 0:
        minima = np.minimum(minima[:-rest], minima[rest:])
    changes = (minima[1:] != minima[:-1]).nonzero()[0]
    return [int(minima[0]), *minima[changes + 1].tolist()]
