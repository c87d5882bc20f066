"""A window detector by maximum mean discrepancy, after Liu, Guo and Dong (arXiv 2606.05725).

Of every account each full window of 1,500 (or 100) requests is embedded and set against honest
reference traffic by MMD with a Gaussian kernel at the median distance; the threshold is the upper
quantile of honest windows against the reference, drawn from pooled honest traffic.

What could not be had here: their embeddings (bge-small-en-v1.5 on a GPU; a million prompts would
take a core days). Instead words and word pairs are hashed into 512 signed dimensions (or, of a log
without text, the shingles of the sketch), and the kernel is approximated by 512 random Fourier
features (Rahimi and Recht 2007), so that an account costs one running sum. Their windows are drawn
from one data set each; here they are what one account sent.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import numpy as np

from overproof.records.traffic import Event
from peers.traffic_tracks import Tracks, turn_text

WORDS, FEATURES, MOST_WORDS = 512, 512, 160
BLOCK = 512  # requests embedded at once
NULL_WINDOWS, NULL_QUANTILE = 400, 0.99
_WORD = re.compile(r"\w+")


def hashed(event: Event) -> np.ndarray:
    """Signed hashed words of a request at length one."""
    vector = np.zeros(WORDS, dtype=np.float32)
    if event.messages:
        words = _WORD.findall(turn_text(event)[:2000].lower())[:MOST_WORDS]
        pairs = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
        codes = [zlib.crc32(pair.encode("utf-8", "replace")) for pair in pairs]
    elif event.text_sketch is not None:
        codes = [shingle & 0xFFFFFFFF for shingle in event.text_sketch.shingles]
    else:
        codes = []
    for code in codes:
        vector[code % WORDS] += 1.0 if code & 0x80000000 else -1.0
    return vector / max(float(np.sqrt(vector @ vector)), 1e-9)


class Embedding:
    """Random Fourier features at the bandwidth of some honest requests (median heuristic)."""

    def __init__(self, sample: np.ndarray, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        first, second = rng.integers(0, len(sample), (2, 2000))
        distance = np.sqrt(((sample[first] - sample[second]) ** 2).sum(axis=1))
        width = float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0
        self.weights = (rng.standard_normal((WORDS, FEATURES)) / width).astype(np.float32)
        self.phases = (rng.random(FEATURES) * 2 * np.pi).astype(np.float32)

    def of(self, rows: np.ndarray) -> np.ndarray:
        return np.sqrt(2 / FEATURES) * np.cos(rows @ self.weights + self.phases)


class Reference:
    """Honest traffic that windows are set against, and the published kind of threshold.

    Args:
        honest: hashed requests of honest accounts, pooled, N x WORDS.
        window: requests in a window.
    """

    def __init__(self, honest: np.ndarray, window: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(honest))
        half = len(honest) // 2
        self.window = window
        self.embedding = Embedding(honest[order[: min(half, 4000)]], seed)
        rows = self.embedding.of(honest[order])
        self.mean = rows[:half].mean(axis=0)
        null = [
            self.distance(rows[half:][rng.integers(0, len(rows) - half, window)].mean(axis=0))
            for _ in range(NULL_WINDOWS)
        ]
        self.default = float(np.quantile(null, NULL_QUANTILE))

    def distance(self, mean: np.ndarray) -> float:
        """MMD between a window's mean embedding and the reference's."""
        return float(np.sqrt(((mean - self.mean) ** 2).sum()))


class Mmd:
    """Feed events in order of time; ``tracks`` holds the scores.

    Args:
        reference: made from honest traffic of a calibration seed.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.tracks = Tracks(f"MMD, windows of {reference.window:,}")
        self._sums: dict[str, tuple[int, np.ndarray]] = {}
        self._waiting: list[tuple[str, float, np.ndarray]] = []

    def add(self, event: Event, row: np.ndarray | None = None) -> None:
        self._waiting.append((event.account, event.ts, hashed(event) if row is None else row))
        if len(self._waiting) >= BLOCK:
            self.finish()

    def finish(self) -> None:
        """Take in what waits to be embedded."""
        if not self._waiting:
            return
        rows = self.reference.embedding.of(np.stack([row for _, _, row in self._waiting]))
        for (account, at, _), row in zip(self._waiting, rows, strict=True):
            count, total = self._sums.get(account, (0, np.zeros(FEATURES)))
            count, total = count + 1, total + row
            if count == self.reference.window:
                self.tracks.note(account, at, self.reference.distance(total / count))
                count, total = 0, np.zeros(FEATURES)
            self._sums[account] = (count, total)
        self._waiting.clear()
