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
    ("made", "says", "advises"),
    [
        (card(0.8, 1000, (200, 0.5), (400, 0.7)), "still learning", "would probably help"),
        (card(0.8, 5000, (400, 0.798)), "hardly anything left", "would hardly help"),
        (card(0.8, 100, (400, 0.78)), "cannot be told from the noise", "a larger tune split"),
        (card(0.8, 1000), "no learning curve was drawn", "Set learning_curve"),
        (card(0.8, 1000, (800, 0.8)), "no learning curve was drawn", "Set learning_curve"),
        (card(0.8, 0, (400, 0.7)), "no learning curve was drawn", "Set learning_curve"),
    ],
)
def test_would_more_data_help(made: StudentCard, says: str, advises: str) -> None:
    said = learning_verdict({"probe": made}, ["probe"], 0.05)
    assert said.startswith(f"Probe: {says}")
    assert advises in said


def test_the_numbers_are_those_of_the_last_doubling() -> None:
    said = learning_verdict({"probe": card(0.8, 1000, (100, 0.4), (400, 0.7))}, ["probe"], 0.05)
    # One-sided 95 % of the difference of two shares of 1,000: 1.645 sqrt(.7 .3 + .8 .2) / sqrt(n).
    assert said == (
        "Probe: still learning: 70.0 → 80.0 % agreement from 400 to 800 examples, +10.0 points, "
        "give or take 3.2. More training data would probably help."
    )
    quarter = learning_verdict({"probe": card(0.8, 1000, (200, 0.7))}, ["probe"], 0.05)
    assert "+5.0 points a doubling, give or take 1.6." in quarter


def test_a_short_sentence_a_student_and_one_piece_of_advice() -> None:
    cards = {
        "encoder": card(0.83, 100, (400, 0.76)),
        "probe": card(0.8, 1000, (400, 0.7)),
        "other": card(0.8, 1000),
    }
    said = learning_verdict(cards, ["encoder", "probe", "other"], 0.05)
    assert said == (
        "Encoder: cannot be told from the noise: 76.0 → 83.0 % agreement from 400 to 800 examples, "
        "+7.0 points, give or take 9.4. Probe: still learning: 70.0 → 80.0 % agreement from 400 to "
        "800 examples, +10.0 points, give or take 3.2. Other: no learning curve was drawn. "
        "Whether more training data would help, a larger tune split can tell."
    )
    # The advice is for the first student whose curve was drawn.
    turned = learning_verdict(cards, ["other", "probe"], 0.05)
    assert turned.endswith("More training data would probably help.")
    assert learning_verdict({}, [], 0.05) == ""
