"""Whole certificates on simulated answers whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from certified_world import LABELS, World, certify, recipe

from overproof.errors import DataError, LeakError, StudentError
from overproof.evaluate.certify import Prediction
from overproof.records.certificate import Certificate


def test_a_better_student_is_certified_and_every_figure_is_there() -> None:
    world = World()
    found = certify(world)
    assert (found.verdict, found.basis, found.metric) == ("certified", "gold", "accuracy")
    assert found.certified[0] == found.recommended == "encoder"
    names = [c.name for c in found.candidates]
    assert names == ["teacher", "teacher, raw", "encoder", "probe", "majority"]
    said = world.predictions["encoder"].probabilities.argmax(axis=1)
    encoder, teacher = found.candidate("encoder"), found.candidate("teacher")
    assert encoder.accuracy.estimate == pytest.approx(np.mean(said == world.gold_numbers))
    assert encoder.agreement.estimate == pytest.approx(np.mean(said == world.teacher_numbers))
    assert teacher.accuracy.estimate == pytest.approx(
        np.mean(world.teacher_numbers == world.gold_numbers)
    )
    assert teacher.agreement is None
    assert encoder.macro_f1.low < encoder.macro_f1.estimate < encoder.macro_f1.high
    assert encoder.ece.estimate == pytest.approx(abs(0.8 - encoder.accuracy.estimate), abs=1e-9)
    assert [b.n for b in encoder.reliability] == [600]
    assert sum(map(sum, encoder.confusion)) == 600
    assert all(len(row) == 4 and row[3] == 0 for row in encoder.confusion)
    first = found.comparisons[0]
    assert (first.first, first.second, first.verdict) == ("encoder", "teacher", "non-inferior")
    assert first.difference.confidence == pytest.approx(0.9)
    assert first.difference.estimate == pytest.approx(
        encoder.accuracy.estimate - teacher.accuracy.estimate
    )
    assert found.signal_width == pytest.approx(0.01)  # the widest label of each row
    assert "encoder" in found.verdict_text
    assert f"{100 * encoder.accuracy.estimate:.1f} % right" in found.verdict_text
    assert Certificate.model_validate_json(found.model_dump_json()) == found


def test_slices_by_label_and_length() -> None:
    encoder = certify(World()).candidate("encoder")
    by_label = [s for s in encoder.slices if s.by == "label"]
    by_length = [s for s in encoder.slices if s.by == "length"]
    assert [s.value for s in by_label] == list(LABELS)
    assert [s.value for s in by_length] == [
        "1 to 27 characters", "28 to 41 characters", "42 characters and more",
    ]  # fmt: skip
    for slices in (by_label, by_length):
        assert sum(s.accuracy.n for s in slices) == 600
        right = sum(s.accuracy.estimate * s.accuracy.n for s in slices)
        assert right == pytest.approx(encoder.accuracy.estimate * 600)


def test_every_pair_is_compared() -> None:
    pairs = {(c.first, c.second) for c in certify(World()).comparisons}
    assert pairs == {
        ("encoder", "teacher"), ("probe", "teacher"), ("encoder", "majority"),
        ("probe", "majority"), ("teacher", "majority"), ("teacher", "teacher, raw"),
        ("encoder", "probe"),
    }  # fmt: skip


def test_a_worse_student_is_not_certified() -> None:
    found = certify(World(students={"encoder": 0.55}))
    assert (found.verdict, found.certified) == ("not certified", ())
    assert found.comparisons[0].verdict == "inferior"
    assert "worse than its teacher by more than 5 points" in found.verdict_text


def inconclusive() -> World:
    return World(n=700, students={"encoder": 0.69}, seed=1)


def test_an_open_question_with_enough_power_is_not_certified() -> None:
    found = certify(inconclusive(), recipe=recipe(discordance=0.2, power=0.3))
    assert found.comparisons[0].verdict == "inconclusive"
    assert (found.verdict, found.certified) == ("not certified", ())
    assert "cannot be excluded" in found.verdict_text


def test_an_open_question_is_underpowered_if_more_pairs_were_discordant_than_assumed() -> None:
    found = certify(inconclusive())
    assert not found.power.underpowered
    assert found.power.observed_discordance > 0.3
    assert found.verdict == "underpowered"
    assert "stays open" in found.verdict_text


def test_too_small_a_test_is_underpowered_even_if_the_student_looks_good() -> None:
    found = certify(World(n=200, students={"encoder": 0.9}))
    assert found.comparisons[0].verdict == "non-inferior"
    assert (found.verdict, found.certified, found.power.underpowered) == ("underpowered", (), True)
    assert f"{found.power.n_needed:,}" in found.verdict_text
    assert any("underpowered" in sentence for sentence in found.limits)


def test_power_is_the_planned_one_and_the_observed_one_is_said() -> None:
    agreeing = certify(World(copies_teacher=0.9))
    assert agreeing.power.observed_discordance < agreeing.power.assumed_discordance == 0.2
    assert agreeing.power.power == pytest.approx(0.863, abs=0.01)
    assert agreeing.power.n_needed == 495
    strayed = certify(World())
    assert strayed.power.observed_discordance > 0.25
    assert strayed.power.power == agreeing.power.power
    assert any("not the planned 86." in sentence for sentence in strayed.limits)


def test_without_students_nothing_is_certified() -> None:
    found = certify(World(students={}))
    assert (found.verdict, found.recommended) == ("cannot say", None)
    assert found.break_even_requests is None


def test_the_recommended_student_is_chosen_on_tune_and_ties_go_to_the_probe() -> None:
    world = World(students={"encoder": 0.6, "probe": 0.9})
    assert certify(world).recommended == "encoder"  # though the test would say probe
    tied = {name: world.card(name, tune_agreement=0.8) for name in world.cards}
    assert certify(world, cards=tied).recommended == "probe"


def test_the_majority_comes_from_the_teachers_training_labels() -> None:
    world = World()
    majority = certify(world).candidate("majority")
    assert "'red'" in majority.description
    assert majority.accuracy.estimate == pytest.approx(np.mean(world.gold_numbers == 0))
    assert majority.ece is None
    with pytest.raises(DataError, match="no valid answer"):
        certify(world, train=[])


def test_calibration_shows_its_gain_over_the_raw_teacher() -> None:
    world = World()
    flipped = [
        row.model_copy(update={"low": (0.5, 0.3, 0.1), "high": (0.6, 0.3, 0.1)})
        for row in world.test
    ]
    raw = certify(world, test=flipped).candidate("teacher, raw")
    assert raw.accuracy.estimate == pytest.approx(np.mean(world.gold_numbers == 0))
    assert raw.ece.estimate == pytest.approx(abs(0.55 / 0.95 - raw.accuracy.estimate))


def test_a_leak_refuses_to_certify() -> None:
    world = World()
    stolen = world.train[0].model_copy(update={"text": world.test[3].text.upper() + " x"})
    with pytest.raises(LeakError, match="train split"):
        certify(world, train=[*world.train, stolen])


def test_students_must_fit_the_dataset() -> None:
    world = World(n=50)
    with pytest.raises(StudentError, match="was trained for the labels"):
        certify(world, cards=world.cards | {"probe": world.card("probe", labels=("red", "blue"))})
    short = world.predictions | {"probe": Prediction(np.ones((49, 3)) / 3)}
    with pytest.raises(StudentError, match="50 x 3"):
        certify(world, predictions=short)
    nan = world.predictions | {"probe": Prediction(np.full((50, 3), np.nan))}
    with pytest.raises(StudentError, match="probabilities"):
        certify(world, predictions=nan)
    with pytest.raises(StudentError, match="one card"):
        certify(world, predictions={})


def test_the_same_input_gives_the_same_certificate() -> None:
    assert certify(World()) == certify(World())
    other = recipe().model_copy(update={"run": recipe().run.model_copy(update={"seed": 8})})
    assert certify(World(), recipe=other) != certify(World())


def test_looks_and_provenance_are_shown() -> None:
    looks = [
        {"look": 1, "dataset": "d", "students": {"encoder": "1"}, "repeat_of": None},
        {"look": 2, "dataset": "d", "students": {"encoder": "2"}, "repeat_of": None},
    ]
    found = certify(World(), looks=looks)
    assert found.looks[-1]["verdict"] == found.verdict
    assert any("looked at 2 times" in sentence for sentence in found.limits)
    assert found.provenance["shares"] == {"teacher-1": 1.0}
    assert found.provenance["teacher"]["name"] == "teacher-1"
    assert found.recompute == "overproof certify RECIPE"
    assert not any(isinstance(v, float) and math.isnan(v) for v in found.provenance.values())


def test_a_weak_teacher_is_called_weak() -> None:
    found = certify(World(teacher=0.4, students={"encoder": 0.4}))
    assert any("not shown to beat always answering" in sentence for sentence in found.limits)
