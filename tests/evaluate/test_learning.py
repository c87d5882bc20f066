from __future__ import annotations

import pytest

from overproof.evaluate.learning import learning_verdict
from overproof.records.student import LearningPoint, StudentCard


def card(final: float, n_tune: int, *points: tuple[int, float]) -> StudentCard:
    return StudentCard(
        name="probe", kind="probe", base="b", base_licence="l", labels=("a", "b"),
        temperature=1.0, max_length=8, parameters=1, n_train=800, n_tune=n_tune,
        train_seconds=1.0, seed=0, dataset_sha256="d", onnx_max_difference=0.0,
        tune_agreement=final, tune_loss=0.5,
        learning_curve=tuple(
            LearningPoint(n_train=n, tune_agreement=a, tune_loss=1.0) for n, a in points
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (card(0.8, 1000, (200, 0.5), (400, 0.7)), "More data would probably help"),
        (card(0.8, 5000, (400, 0.798)), "More data would hardly help"),
        (card(0.8, 100, (400, 0.78)), "cannot be told from the noise"),
        (card(0.8, 1000), "No learning curve"),
        (card(0.8, 1000, (800, 0.8)), "No learning curve"),
    ],
)
def test_would_more_data_help(made: StudentCard, says: str) -> None:
    assert says in learning_verdict({"probe": made}, ["probe"], 0.05)


def test_the_numbers_are_those_of_the_last_doubling() -> None:
    said = learning_verdict({"probe": card(0.8, 1000, (100, 0.4), (400, 0.7))}, ["probe"], 0.05)
    assert "from 400 to 800 examples" in said
    assert "from 70.0 to 80.0 %, +10.0 points a doubling" in said
    quarter = learning_verdict({"probe": card(0.8, 1000, (200, 0.7))}, ["probe"], 0.05)
    assert "+5.0 points a doubling" in quarter
