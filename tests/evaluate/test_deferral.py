from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from overproof.errors import RunError, StudentError
from overproof.evaluate.text.deferral import (
    Observed,
    calibrate,
    calibrated,
    choose_score,
    confidence_of,
    confidences,
    deferral_curve,
    discrimination,
    fewest_tune,
)
from overproof.evaluate.text.deferral_rule import (
    DeferralRule,
    record_rule,
    rule_of,
    rule_of_curve,
    student_sha256,
)
from overproof.records.exchange import Completion, Outcome, TokenLogprob
from overproof.records.text_certificate import DeferralCurve


def answer(*probabilities: float, outcome: Outcome = Outcome.ANSWERED) -> Completion:
    tokens = tuple(TokenLogprob(token="x", logprob=math.log(p)) for p in probabilities)
    return Completion(outcome=outcome, text="x", logprobs=tokens)


def test_confidence_is_a_probability_of_the_tokens() -> None:
    one = answer(0.5, 0.9, 0.2)
    assert confidence_of(one) == confidence_of(one, "mean")
    assert confidence_of(one, "mean") == pytest.approx((0.5 * 0.9 * 0.2) ** (1 / 3))
    assert confidence_of(one, "min") == pytest.approx(0.2)
    assert confidence_of(one, "first") == pytest.approx(0.5)
    assert confidence_of(one, "product") == pytest.approx(0.09)
    assert confidence_of(answer(1.0, 1.0)) == 1.0


def test_what_is_no_whole_answer_has_no_confidence() -> None:
    loops = answer(*[0.999] * 50, outcome=Outcome.TRUNCATED)
    silent = Completion(outcome=Outcome.ANSWERED, text="x")
    broken = Completion(outcome=Outcome.FAILED, error="no")
    odd = Completion(
        outcome=Outcome.ANSWERED, logprobs=(TokenLogprob(token="x", logprob=math.nan),)
    )
    assert confidences([loops, silent, broken, odd, answer(0.5)]).tolist() == [0, 0, 0, 0, 0.5]
    # And no threshold lets it pass, however low.
    assert calibrate([0.0] * 99 + [0.9], [True] * 100, 0.5) == 0.0
    assert Observed.of([0.0, 0.9], [True, True], [0.1, 0.1]).at(0.0).deferred == 0.5


def world(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that know something: an answer agrees with probability c ** 0.5."""
    sure = np.round(rng.beta(3, 1.5, n), 2)
    agrees = rng.random(n) < np.sqrt(sure)
    costs = np.stack([np.full(n, 0.05), rng.gamma(4, 0.25, n)], axis=1)
    return sure, agrees, costs


@pytest.mark.parametrize("stated", [0.9, 0.95])
def test_the_stated_agreement_holds(stated: float) -> None:
    """Over 800 tune splits of 120 prompts, each with the threshold judged on 400 others."""
    rng = np.random.default_rng(int(stated * 100))
    found = []
    for _ in range(800):
        sure, agrees, _ = world(120, rng)
        threshold = calibrate(sure, agrees, stated)
        other, same, costs = world(400, rng)
        found.append(Observed.of(other, same, costs).at(threshold).agreement)
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) >= stated - 3 * error
    assert np.mean(found) <= stated + 2 / 121 + 3 * error  # and it is not given away


def test_a_curve_tells_cost_against_agreement() -> None:
    rng = np.random.default_rng(0)
    tune, test = world(300, rng), world(200, rng)
    curve = deferral_curve("s", tune, test, 0.95)
    assert curve.threshold == calibrate(tune[0], tune[1], 0.95)
    assert (curve.n_tune, curve.stated, curve.confidence_score) == (300, 0.95, "mean")
    assert curve.chosen in curve.points
    deferred = test[0] <= curve.threshold
    assert curve.chosen.deferred == pytest.approx(deferred.mean())
    assert curve.chosen.agreement == pytest.approx((deferred | test[1]).mean())
    paid = 200 * 0.05 + test[2][deferred, 1].sum()
    assert curve.chosen.cost == pytest.approx(paid / test[2][:, 1].sum())
    assert curve.agreement.low < curve.agreement.estimate == curve.chosen.agreement
    assert curve.agreement.n == 200
    shares = [point.deferred for point in curve.points]
    assert shares == sorted(shares)
    assert [p.agreement for p in curve.points] == sorted(p.agreement for p in curve.points)
    last = curve.points[-1]
    assert (last.threshold, last.deferred, last.agreement) == (1.0, 1.0, 1.0)
    assert last.cost > 1  # the student was asked in vain
    again = DeferralCurve.model_validate_json(curve.model_dump_json())
    assert again == curve


def test_too_few_prompts_promise_nothing() -> None:
    found = calibrated([0.9] * 18, [True] * 18, 0.95)  # 1 / 19 > 0.05
    assert (found.threshold, found.suffices) == (1.0, False)
    curve = deferral_curve("s", ([0.9] * 18, [True] * 18, [0.1] * 18), ([0.9], [True], [0.1]), 0.95)
    assert curve.chosen.deferred == 1.0
    surer = calibrated([0.9] * 40, [True] * 40, 0.95, delta=0.1)
    assert not surer.suffices  # 0.95 ** 40 > 0.1


def test_costs_may_be_shares_of_the_teachers() -> None:
    point = Observed.of([0.2, 0.8], [True, True], [0.1, 0.3]).at(0.5)
    assert point.cost == pytest.approx((0.1 + 0.3 + 1) / 2)


@pytest.mark.parametrize(
    ("sure", "agrees", "costs", "said"),
    [
        ([0.5], [True, False], [0.1], "shapes"),
        ([0.5], [True], [[0.1, 0.2, 0.3]], "shapes"),
        ([1.5], [True], [0.1], "confidences"),
        ([0.5], [True], [math.nan], "costs"),
        ([0.5], [True], [[0.1, 0.0]], "costs"),
        ([], [], [], "shapes"),
    ],
)
def test_observations_that_do_not_fit(
    sure: object, agrees: object, costs: object, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Observed.of(sure, agrees, costs)


def test_the_score_is_chosen_on_prompts_that_are_then_left_out() -> None:
    rng = np.random.default_rng(3)
    agrees = rng.random(300) < 0.6
    knows = np.clip(0.5 * agrees + 0.5 * rng.random(300), 0, 1)
    name, left = choose_score({"mean": rng.random(300), "min": knows}, agrees)
    assert name == "min"
    assert left.sum() == 200
    assert not left[0]
    assert discrimination(knows, agrees) > 0.9
    assert discrimination([0.5, 0.5], [True, False]) == 0.5
    assert discrimination([0.5], [True]) == 0.5
    pairs = [(a, b) for a in knows[agrees] for b in knows[~agrees]]
    assert discrimination(knows, agrees) == pytest.approx(np.mean([a > b for a, b in pairs]))


def student(run: Path, name: str = "small") -> Path:
    directory = run / "students" / name
    directory.mkdir(parents=True)
    for file, text in (("model.safetensors", "w"), ("config.json", "{}"), ("README.md", "x")):
        (directory / file).write_text(text)
    return directory


def test_a_rule_is_found_again_and_belongs_to_its_weights(tmp_path: Path) -> None:
    one, two = student(tmp_path), student(tmp_path, "other")
    curve = deferral_curve(
        "small", ([0.9] * 99, [True] * 99, [0.1] * 99), ([0.9], [True], [0.1]), 0.9
    )
    rule = rule_of_curve(curve, one, "big", max_tokens=64)
    record_rule(tmp_path, rule.model_copy(update={"student": "other"}))
    record_rule(tmp_path, rule)
    assert rule_of(one) == rule
    assert "big" in rule.promise
    (one / "model.safetensors").write_text("v")
    with pytest.raises(StudentError, match="trained again"):
        rule_of(one)
    (one / "model.safetensors").write_text("w")
    (one / "README.md").write_text("another card")
    assert rule_of(one) == rule
    assert rule_of(two).student == "other"
    third = student(tmp_path, "third")
    with pytest.raises(StudentError, match="only for: other, small"):
        rule_of(third)


def test_a_rule_that_is_missing_or_broken(tmp_path: Path) -> None:
    one = student(tmp_path)
    with pytest.raises(StudentError, match=r"certificate\.agreement"):
        rule_of(one)
    (tmp_path / "deferral.json").write_text('{"students": {"small": {}}}')
    with pytest.raises(RunError, match="cannot be read"):
        rule_of(one)
    (one / "model.safetensors").unlink()
    with pytest.raises(StudentError, match="no weights"):
        student_sha256(one)


@pytest.mark.parametrize(
    "file",
    [
        "chat_template.jinja",
        "tokenizer_config.json",
        "generation_config.json",
        "adapter/adapter_config.json",
    ],
)
def test_a_rule_belongs_to_all_that_decides_answers(tmp_path: Path, file: str) -> None:
    one = student(tmp_path)
    before = student_sha256(one)
    (one / "student.json").write_text("{}")
    assert student_sha256(one) == before
    (one / file).parent.mkdir(exist_ok=True)
    (one / file).write_text("{}")
    assert student_sha256(one) != before


@pytest.mark.parametrize("stated", [0.5, 0.8, 0.9, 0.95, 0.99, 2 / 3])
def test_the_fewest_prompts_that_promise_an_agreement(stated: float) -> None:
    fewest = fewest_tune(stated)
    sure, agrees = np.full(fewest, 0.9), np.ones(fewest)
    assert calibrated(sure, agrees, stated).suffices
    if fewest > 1:
        assert not calibrated(sure[1:], agrees[1:], stated).suffices


def test_passing_everything_on_is_said() -> None:
    rule = DeferralRule(
        student="s", student_sha256="0", teacher="big", threshold=1.0, stated=0.99, n_tune=10
    )
    assert "everything is passed on" in rule.promise
