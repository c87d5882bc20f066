"""What the teacher said, as arrays: soft labels of the inputs that it answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError
from overproof.records.dataset import LabelRow
from overproof.records.exchange import Outcome

__all__ = ["SoftLabels"]


@dataclass(frozen=True)
class SoftLabels:
    """Texts with the teacher's calibrated distribution over the labels.

    Attributes:
        texts: N inputs.
        probabilities: (N, L) float64; every row sums to one.
        left_out: how many rows of each outcome other than ``answered`` were not taken.
    """

    texts: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_rows(
        cls, rows: Sequence[LabelRow], labels: Sequence[str], source: str = "dataset"
    ) -> Self:
        """Take the answered rows; count the rest by outcome.

        Args:
            rows: rows of one split.
            labels: the L labels, in the order of the rows' probabilities.
            source: the file that the rows came from, named in errors.

        Raises:
            DataError: when no row was answered, or a soft label is no distribution over
                ``labels``.
        """
        answered = [row for row in rows if row.outcome is Outcome.ANSWERED]
        left_out = Counter(str(row.outcome) for row in rows if row.outcome is not Outcome.ANSWERED)
        if not answered:
            said = ", ".join(f"{n} {outcome}" for outcome, n in sorted(left_out.items()))
            raise DataError(
                source,
                f"holds no answered input to learn from ({said or 'it is empty'})",
                "look at the teacher's answers with `overproof ledger show`",
            )
        for row in answered:
            total = sum(row.probabilities)
            if len(row.probabilities) != len(labels):
                reason = f"has {len(row.probabilities)} probabilities for {len(labels)} labels"
            elif not abs(total - 1.0) < 1e-6 or min(row.probabilities) < 0.0:
                reason = f"has a soft label that is no distribution (it sums to {total:g})"
            else:
                continue
            raise DataError(f"{source}: item {row.item}", reason, "run `overproof collect` again")
        return cls(
            texts=tuple(row.text for row in answered),
            probabilities=np.array([row.probabilities for row in answered], dtype=np.float64),
            left_out=dict(sorted(left_out.items())),
        )

    def take(self, indices: npt.NDArray[np.intp]) -> SoftLabels:
        """The subset at ``indices``, in their order."""
        return SoftLabels(
            texts=tuple(self.texts[i] for i in indices),
            probabilities=self.probabilities[indices],
            left_out=self.left_out,
        )
