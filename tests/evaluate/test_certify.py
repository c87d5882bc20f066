"""Whole certificates on simulated answers whose truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from overproof.config.recipe import Recipe
from overproof.errors import DataError, LeakError, StudentError
from overproof.evaluate.certify import Prediction, build_certificate
from overproof.records.certificate import Certificate, CostLine, Speed
from overproof.records.dataset import DatasetManifest, LabelRow, TeacherCalibration
from overproof.records.exchange import Outcome
from overproof.records.student import LearningPoint, StudentCard

LABELS = ("red", "green", "blue")
NOW = "2026-11-23T01:32:05+00:00"


def text_of(rng: np.random.Generator) -> str:
    return " ".join(
        "".join(rng.choice(list("abcdefgh"), size=6)) for _ in range(rng.integers(3, 9))
    )


def soft(label: int, confidence: float) -> tuple[float, ...]:
    rest = (1 - confidence) / (len(LABELS) - 1)
    return tuple(confidence if i == label else rest for i in range(len(LABELS)))


@dataclass
class World:
    """A teacher right on ``teacher`` of the inputs, and students with skills of their own."""

    n: int = 600
    teacher: float = 0.75
    students: dict[str, float] = field(default_factory=lambda: {"encoder": 0.8, "probe": 0.7})
    invalid: int = 0
    repeats: int = 0
    self_agreement: float = 0.9
    copies_teacher: float | None = None  # else students answer from gold, on their own
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.gold_numbers = self.rng.choice(3, size=self.n, p=[0.4, 0.35, 0.25])
        self.teacher_numbers = self.answer(self.gold_numbers, self.teacher)
        self.test = [self.row(i) for i in range(self.n)]
        self.gold = {
            row.item: LABELS[g] for row, g in zip(self.test, self.gold_numbers, strict=True)
        }
        self.predictions, self.cards = {}, {}
        for name, skill in self.students.items():
            source, share = (
                (self.gold_numbers, skill)
                if self.copies_teacher is None
                else (self.teacher_numbers, self.copies_teacher)
            )
            said = self.answer(source, share)
            self.predictions[name] = Prediction(np.array([soft(s, 0.8) for s in said]))
            self.cards[name] = self.card(name)
        self.train = [self.other("train", i, LABELS[i % 2]) for i in range(30)]
        self.train += [self.other("train", 30, LABELS[0])]
        self.tune = [self.other("tune", i, LABELS[0]) for i in range(5)]
        self.examples = [self.other("examples", i, LABELS[0]) for i in range(2)]

    def answer(self, source: np.ndarray, share: float) -> np.ndarray:
        """``source`` with a random 1 - ``share`` of it replaced by another label."""
        wrong = self.rng.random(len(source)) >= share
        return np.where(wrong, (source + self.rng.integers(1, 3, len(source))) % 3, source)

    def row(self, i: int) -> LabelRow:
        text, said = text_of(self.rng), int(self.teacher_numbers[i])
        base = {"item": f"sha256:{i:064x}", "text": text, "request_keys": (f"key-{i}",)}
        if i < self.invalid:
            self.teacher_numbers[i] = -1
            return LabelRow(**base, outcome=Outcome.MALFORMED)
        again = {}
        if i < self.repeats:
            same = self.rng.random() < self.self_agreement
            again = {
                "second": LABELS[said if same else (said + 1) % 3],
                "second_outcome": Outcome.ANSWERED,
            }
        p = np.array(soft(said, 0.7))
        return LabelRow(
            **base, **again, outcome=Outcome.ANSWERED, label=LABELS[said],
            probabilities=tuple(p), low=tuple(p * 0.9), high=tuple(p * 0.9 + 0.01),
        )  # fmt: skip

    def other(self, split: str, i: int, label: str) -> LabelRow:
        return LabelRow(
            item=f"{split}-{i}", text=text_of(self.rng), outcome=Outcome.ANSWERED, label=label,
            probabilities=soft(LABELS.index(label), 0.7),
        )  # fmt: skip

    def card(self, name: str, **changes: Any) -> StudentCard:
        kind = "encoder" if name == "encoder" else "probe"
        curve = (LearningPoint(n_train=350, tune_agreement=0.6, tune_loss=1.0),)
        fields = {
            "name": name, "kind": kind, "base": "base", "base_licence": "Apache-2.0",
            "labels": LABELS, "temperature": 1.1, "max_length": 128, "parameters": 10,
            "n_train": 700, "n_tune": 300, "train_seconds": 60.0, "seed": 0,
            "dataset_sha256": "d", "onnx_max_difference": 1e-6,
            "tune_agreement": 0.9 if name == "encoder" else 0.8, "tune_loss": 0.5,
            "learning_curve": curve,
        }  # fmt: skip
        return StudentCard(**(fields | changes))

    def manifest(self) -> DatasetManifest:
        return DatasetManifest(
            labels=LABELS, input_file="in.csv", input_sha256="i", recipe_sha256="r",
            counts={"train": 31, "tune": 5, "test": self.n, "examples": 2},
            outcomes={"test": {"answered": self.n - self.invalid, "malformed": self.invalid}},
            exact_duplicates=1, near_duplicates=2, near_duplicate_threshold=0.8,
            signal="log-probs", rendering="letters", second_asking="options in another order",
            calibration=TeacherCalibration(bias=(0.1, 0.0, -0.1), method="prior correction", n=31),
            provenance={"teacher-1": 31}, teacher={"name": "teacher-1", "model": "m"},
        )  # fmt: skip


def recipe(**certificate: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "run": {"name": "colours", "dir": "run", "seed": 7},
            "teacher": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1/v1"},
            "data": {"file": "in.csv", "gold": "gold"},
            "task": {"labels": list(LABELS)},
            "students": {"machine_usd_per_hour": 0.36},
            "certificate": {"margin": 0.05, "bootstrap": 200} | certificate,
        }
    )


COSTS = [
    CostLine(what="m: answered", calls=1000, seconds=100.0, usd=2.0),
    CostLine(what="training", seconds=100.0),
]
SPEEDS = {
    "encoder": Speed(requests_per_second=400.0, n=600),
    "probe": Speed(requests_per_second=500.0, n=600),
}


def certify(world: World, **changes: Any) -> Certificate:
    arguments: dict[str, Any] = {
        "recipe": recipe(), "manifest": world.manifest(), "test": world.test, "gold": world.gold,
        "predictions": world.predictions, "cards": world.cards, "train": world.train,
        "tune": world.tune, "examples": world.examples, "speeds": SPEEDS, "costs": COSTS,
        "looks": [], "teacher_speed": Speed(requests_per_second=5.0, n=600), "now": NOW,
        "machine": "a machine",
    }  # fmt: skip
    return build_certificate(**(arguments | changes))


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


def test_costs_and_break_even() -> None:
    found = certify(World())
    assert found.candidate("teacher").cost_per_million_usd == pytest.approx(2000.0)
    student = 0.36 / 3600 / 400 * 1e6
    assert found.candidate("encoder").cost_per_million_usd == pytest.approx(student)
    making = 2.0 + 100 / 3600 * 0.36
    assert found.break_even_requests == pytest.approx(making / (0.002 - student / 1e6))
    assert "After about 1,0" in found.break_even_text


def test_unknown_prices_stay_unknown() -> None:
    unpriced = [COSTS[0].model_copy(update={"usd": None})]
    found = certify(World(), costs=unpriced)
    assert found.candidate("teacher").cost_per_million_usd is None
    assert "price unknown" in found.candidate("teacher").cost_basis
    assert found.break_even_requests is None
    assert "unknown costs" in found.break_even_text


def test_an_embedded_teacher_costs_machine_time() -> None:
    local = recipe().model_copy(
        update={"teacher": recipe().teacher.model_copy(update={"kind": "embedded"})}
    )
    unpriced = [COSTS[0].model_copy(update={"usd": 0.0}), COSTS[1]]
    found = certify(World(), recipe=local, costs=unpriced)
    teacher = 0.36 / 3600 / 5 * 1e6
    assert found.candidate("teacher").cost_per_million_usd == pytest.approx(teacher)
    making = 1000 / 5 / 3600 * 0.36 + 100 / 3600 * 0.36
    saved = (teacher - 0.36 / 3600 / 400 * 1e6) / 1e6
    assert found.break_even_requests == pytest.approx(making / saved)
    slow = certify(
        World(), recipe=local, costs=unpriced,
        speeds={name: Speed(requests_per_second=1.0) for name in SPEEDS},
    )  # fmt: skip
    assert slow.break_even_requests is None
    assert slow.break_even_text.startswith("Never")


def test_a_leak_refuses_to_certify() -> None:
    world = World()
    stolen = world.train[0].model_copy(update={"text": world.test[3].text.upper() + " x"})
    with pytest.raises(LeakError, match="train split"):
        certify(world, train=[*world.train, stolen])


def test_gold_must_be_whole_and_known() -> None:
    world = World(n=50)
    partial = dict(list(world.gold.items())[1:])
    with pytest.raises(DataError, match="no gold label"):
        certify(world, gold=partial)
    with pytest.raises(DataError, match="'purple'"):
        certify(world, gold=world.gold | {world.test[0].item: "purple"})


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
