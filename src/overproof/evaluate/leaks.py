"""Refusing to certify on a leak: test material where training could see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from overproof.errors import LeakError
from overproof.records.hashing import text_hash
from overproof.stats.shingles import jaccard_pairs

__all__ = ["Asked", "check_leaks"]

SHOWN = 3
LENGTH = 60


class Asked(Protocol):
    """A row of a split: the content address of its input, and the input as it was put."""

    @property
    def item(self) -> str:
        """Its content address."""
        ...

    @property
    def text(self) -> str:
        """What is asked."""
        ...


def check_leaks(
    test: Sequence[Asked], others: Mapping[str, Sequence[Asked]], threshold: float
) -> None:
    """Check that no test input, nor a near-duplicate of one, is in another split.

    Args:
        test: the test split.
        others: the other splits by name.
        threshold: Jaccard similarity of character 5-gram sets from which two texts are
            near-duplicates; exact duplicates (up to case, white space and Unicode form) always
            count.

    Raises:
        LeakError: naming the first offending pairs.
    """
    for split, rows in others.items():
        found = _exact(test, rows) or _near(test, rows, threshold)
        if found:
            shown = "".join(
                f"\n  test {one.item} {_short(one.text)}"
                f"\n  {split} {other.item} {_short(other.text)} (similarity {similarity:.2f})"
                for one, other, similarity in found[:SHOWN]
            )
            count = len({one.item for one, _, _ in found})
            raise LeakError(
                f"the {split} split",
                f"holds {count} test input{'s' if count > 1 else ''} or near-duplicates:{shown}",
                "a certificate would be worthless: remove RUN/dataset and collect again, which "
                "splits near-duplicates apart (the ledger has every answer already paid for)",
            )


Found = list[tuple[Asked, Asked, float]]


def _exact(test: Sequence[Asked], rows: Sequence[Asked]) -> Found:
    known = {text_hash(row.text): row for row in reversed(rows)}
    pairs = [(row, known.get(text_hash(row.text))) for row in test]
    return [(row, other, 1.0) for row, other in pairs if other is not None]


def _near(test: Sequence[Asked], rows: Sequence[Asked], threshold: float) -> Found:
    pairs = jaccard_pairs(
        [row.text for row in test], [row.text for row in rows], threshold=threshold
    )
    return [(test[i], rows[j], similarity) for i, j, similarity in pairs]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= LENGTH else flat[: LENGTH - 1] + "…")
