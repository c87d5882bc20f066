"""The confusion table of a candidate, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.records.certificate import Candidate, Certificate

__all__ = ["Cell", "Confusion", "confusions"]

MOST_LABELS = 16  # beyond this a table is no longer legible; the commonest mistakes are
MOST_MISTAKES = 20


@dataclass(frozen=True)
class Cell:
    """A count, its share of the row, and whether it lies on the diagonal."""

    n: int
    share: float
    right: bool


@dataclass(frozen=True)
class Confusion:
    """Rows are the true labels; columns the predicted ones, then ``(invalid)``.

    ``rows`` is empty where there are too many labels; ``mistakes`` then names the commonest as
    (true, predicted, count).
    """

    candidate: Candidate
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...], int], ...]
    mistakes: tuple[tuple[str, str, int], ...]


def _confusion(candidate: Candidate, labels: tuple[str, ...]) -> Confusion:
    columns = (*labels, "(invalid)")
    mistakes = sorted(
        (
            (true, predicted, n)
            for true, counts in zip(labels, candidate.confusion, strict=True)
            for predicted, n in zip(columns, counts, strict=True)
            if n and true != predicted
        ),
        key=lambda mistake: -mistake[2],
    )
    rows = tuple(
        (
            true,
            tuple(
                Cell(n, n / max(sum(counts), 1), columns[index] == true)
                for index, n in enumerate(counts)
            ),
            sum(counts),
        )
        for true, counts in zip(labels, candidate.confusion, strict=True)
    )
    few = len(labels) <= MOST_LABELS
    shown = tuple(mistakes[:MOST_MISTAKES])
    return Confusion(candidate, columns, rows if few else (), () if few else shown)


def confusions(certificate: Certificate) -> list[Confusion]:
    """The confusion table of every teacher and student that has one."""
    return [
        _confusion(candidate, certificate.labels)
        for candidate in certificate.candidates
        if candidate.confusion and candidate.role != "baseline"
    ]
