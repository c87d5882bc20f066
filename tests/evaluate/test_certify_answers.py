"""Certificates where answers are missing: invalid ones, and no gold at all."""

from __future__ import annotations

import numpy as np
import pytest
from certified_world import World, certify

from overproof.errors import DataError
from overproof.records.exchange import Outcome


def test_invalid_answers_are_wrong_counted_and_shown() -> None:
    world = World(invalid=40)
    found = certify(world)
    teacher = found.candidate("teacher")
    assert teacher.invalid_share.estimate == pytest.approx(40 / 600)
    assert teacher.accuracy.n == 600
    assert teacher.accuracy.estimate == pytest.approx(
        np.mean(world.teacher_numbers == world.gold_numbers)
    )
    assert sum(row[3] for row in teacher.confusion) == 40
    assert found.candidate("encoder").agreement.n == 560
    assert found.candidate("encoder").invalid_share.estimate == 0
    assert any("40 of 600" in sentence for sentence in found.limits)
    assert found.candidate("teacher, raw").invalid_share.estimate == pytest.approx(40 / 600)


def test_an_invalid_second_answer_is_a_disagreement() -> None:
    world = World(repeats=50, self_agreement=1.0)
    changed = world.test[0].model_copy(update={"second": None, "second_outcome": Outcome.REFUSED})
    found = certify(world, test=[changed, *world.test[1:]])
    assert found.teacher_self_agreement.n == 50
    assert found.teacher_self_agreement.estimate == pytest.approx(49 / 50)
    assert found.self_agreement_how == "options in another order"


def test_without_gold_the_yardstick_is_the_teachers_agreement_with_itself() -> None:
    world = World(n=2000, copies_teacher=0.93, repeats=800, self_agreement=0.93)
    found = certify(world, gold={})
    assert (found.basis, found.verdict) == ("teacher", "certified")
    assert found.metric == "agreement with the teacher"
    assert all(c.accuracy is None and c.ece is None for c in found.candidates)
    assert "says nothing of how often either is right" in found.verdict_text
    first = found.comparisons[0]
    assert first.difference.n == 800
    assert first.difference.estimate == pytest.approx(
        found.candidate("encoder").agreement.estimate - found.teacher_self_agreement.estimate
    )
    confusion = found.candidate("encoder").confusion
    assert sum(map(sum, confusion)) == 2000
    assert found.candidate("teacher").confusion == ()
    assert any("no gold" in sentence for sentence in found.limits)


def test_without_gold_a_student_that_strays_is_not_certified() -> None:
    world = World(n=2000, copies_teacher=0.75, repeats=800, self_agreement=0.93)
    found = certify(world, gold={})
    assert found.verdict == "not certified"


def test_without_gold_few_repeats_are_underpowered_and_none_cannot_say() -> None:
    few = certify(World(copies_teacher=0.93, repeats=30), gold={})
    assert few.verdict == "underpowered"
    none = certify(World(copies_teacher=0.93), gold={})
    assert (none.verdict, none.certified) == ("cannot say", ())
    assert none.teacher_self_agreement is None
    assert "not asked twice" in none.verdict_text


def test_no_valid_teacher_answer_at_all() -> None:
    world = World(n=20, invalid=20)
    without = certify(world, gold={})
    assert without.verdict == "cannot say"
    assert without.candidate("encoder").agreement is None
    with_gold = certify(world)
    assert with_gold.candidate("teacher").accuracy.estimate == 0


def test_gold_must_be_whole_and_known() -> None:
    world = World(n=50)
    partial = dict(list(world.gold.items())[1:])
    with pytest.raises(DataError, match="no gold label"):
        certify(world, gold=partial)
    with pytest.raises(DataError, match="'purple'"):
        certify(world, gold=world.gold | {world.test[0].item: "purple"})
