"""What became of a teacher's signal on its way to the student."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from overproof.errors import DataError
from overproof.records.exchange import Record
from overproof.records.logprob_store import LogprobStore, SparseRow

__all__ = ["SignalReport", "SignalTally", "finished", "nothing_known", "told"]


class SignalReport(Record):
    """How much a store tells of the answers' tokens.

    ``chats`` were read; ``without`` of them have no log-probs, or were too long for the teacher.
    ``known`` of ``tokens`` answer tokens tell something; ``parted`` do not because the bytes of
    teacher and student differ before them. ``kept`` is the mean mass of the tokens that are
    listed, over those known; ``tail`` the mean of the rest. ``ms`` is what it took,
    ``aligned`` whether it was put onto another vocabulary, ``reused`` whether it lay there
    already.
    """

    source: Literal["ledger", "weights"]
    aligned: bool
    chats: int
    without: int
    tokens: int
    known: int
    parted: int
    kept: float
    tail: float
    ms: float
    bytes_per_token: float = 0.0
    reused: bool = False

    @property
    def known_share(self) -> float:
        """Of all answer tokens, those of which something is known."""
        return self.known / self.tokens if self.tokens else 0.0

    def __str__(self) -> str:
        text = (
            f"the teacher's log-probs tell of {self.known_share:.1%} of {self.tokens} answer "
            f"tokens, {self.kept:.1%} of their mass on average"
        )
        if self.without:
            text += f"; {self.without} of {self.chats} answers have none"
        if self.parted:
            text += f"; {self.parted} tokens lie behind a place where the texts part"
        return text + ("; as made before" if self.reused else f" ({self.ms / 1000:.1f} s)")


class SignalTally:
    """Adds up rows as they are written."""

    def __init__(self) -> None:
        self.chats = self.without = self.tokens = self.known = self.parted = 0
        self._kept = self._tail = 0.0

    def add(self, row: SparseRow, parted: int = 0) -> None:
        """Count a row."""
        self.chats += 1
        self.tokens += len(row.ids)
        self.known += int(row.known.sum())
        self.parted += parted
        self._kept += float(np.exp(row.logprobs[row.known], dtype=np.float64).sum())
        self._tail += float(np.exp(row.tail[row.known], dtype=np.float64).sum())

    def report(
        self, source: Literal["ledger", "weights"], *, aligned: bool, ms: float
    ) -> SignalReport:
        """The sums as a report."""
        return SignalReport(
            source=source,
            aligned=aligned,
            chats=self.chats,
            without=self.without,
            tokens=self.tokens,
            known=self.known,
            parted=self.parted,
            kept=self._kept / self.known if self.known else 0.0,
            tail=self._tail / self.known if self.known else 0.0,
            ms=ms,
        )


def nothing_known(n: int) -> SparseRow:
    """A row of which nothing is known."""
    return SparseRow(
        np.zeros((n, 1), np.int32),
        np.full((n, 1), -np.inf, np.float32),
        np.full(n, -np.inf, np.float32),
        np.zeros(n, np.bool_),
    )


def finished(out: Path, fingerprint: str) -> tuple[LogprobStore, SignalReport] | None:
    """A store that was made of the same before, ``None`` where there is none."""
    if not (out / "manifest.json").is_file():
        return None
    try:
        store = LogprobStore.open(out)
    except DataError:
        return None  # it is made anew, from what it was made of
    if store.fingerprint != fingerprint:
        return None
    return store, told(store, reused=True)


def told(store: LogprobStore, *, reused: bool) -> SignalReport:
    """The report that a store was finished with."""
    more = {"reused": reused, "bytes_per_token": store.bytes_per_token}
    return SignalReport.model_validate({**store.manifest.report, **more})
