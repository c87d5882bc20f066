from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from overproof.errors import DataError
from overproof.records.dataset import LabelRow
from overproof.records.exchange import Outcome
from overproof.train.signals import SoftLabels

LABELS = ("animal", "number", "place")
Rows = Callable[..., list[LabelRow]]


def test_takes_answered_rows_and_counts_the_rest(rows: Rows) -> None:
    given = rows(10, seed=0, malformed=3)
    given.append(LabelRow(item="sha256:x", text="no", outcome=Outcome.REFUSED))
    soft = SoftLabels.from_rows(given, LABELS)
    assert len(soft) == 7
    assert soft.texts == tuple(row.text for row in given[3:10])
    assert soft.probabilities.shape == (7, 3)
    assert soft.probabilities.dtype == np.float64
    assert soft.left_out == {"malformed": 3, "refused": 1}


def test_nothing_answered_names_the_file_and_the_outcomes(rows: Rows) -> None:
    with pytest.raises(DataError, match=r"train\.parquet.*2 malformed"):
        SoftLabels.from_rows(rows(2, seed=0, malformed=2), LABELS, "dataset/train.parquet")


@pytest.mark.parametrize(
    ("probabilities", "reason"),
    [((0.5, 0.5), "2 probabilities for 3"), ((0.5, 0.5, 0.5), "sums to 1.5"), ((2, -1, 0), "no")],
)
def test_a_soft_label_must_be_a_distribution(
    probabilities: tuple[float, ...], reason: str, rows: Rows
) -> None:
    bad = rows(1, seed=0)[0].model_copy(update={"probabilities": probabilities})
    with pytest.raises(DataError, match=reason):
        SoftLabels.from_rows([bad], LABELS)


def test_take_keeps_order(rows: Rows) -> None:
    soft = SoftLabels.from_rows(rows(5, seed=0), LABELS)
    some = soft.take(np.array([3, 0]))
    assert some.texts == (soft.texts[3], soft.texts[0])
    np.testing.assert_array_equal(some.probabilities, soft.probabilities[[3, 0]])
