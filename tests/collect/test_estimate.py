"""Estimates of calls, tokens, money and time: the arithmetic, the bounds, and a backtest."""

from __future__ import annotations

import numpy as np
import pytest

from overproof.collect.estimate import Caps, Estimate, Pace, Range, Sample, cap_verdicts, estimate
from overproof.config.teacher import LongPrice, PriceConfig

PRICE = PriceConfig(input=1.0, output=4.0)


def made(samples: list[Sample], prompts: int = 1000, **changes: object) -> Estimate:
    asked: dict[str, object] = {"max_tokens": 100, "price": PRICE} | changes
    return estimate(samples, prompts, **asked)  # type: ignore[arg-type]


def middle(of: Range | None) -> float:
    assert of is not None
    assert of.estimate is not None
    return of.estimate


def test_the_interval_covers_what_a_teacher_then_takes() -> None:
    """A simulated teacher: long prompts have long answers, cut at max_tokens; chains of calls."""
    rng = np.random.default_rng(11)
    runs, n, size, most = 120, 64, 900, 512
    hits = dict.fromkeys(("calls", "input", "output", "cost", "seconds"), 0)
    for run in range(runs):
        calls = 1 + rng.poisson(0.6, size + n)
        length = rng.lognormal(4.5, 0.5, size + n) * calls
        answer = np.minimum(length * rng.lognormal(-0.5, 0.6, size + n), most * calls)
        seconds = 0.2 * calls + answer / 60
        samples = [Sample(length[i], answer[i], seconds[i], float(calls[i])) for i in range(n)]
        found = made(samples, size, max_tokens=most, apart=True, pace=Pace(8.0), seed=run)
        truth = {
            "calls": (found.calls, calls[n:].sum()),
            "input": (found.input_tokens, length[n:].sum()),
            "output": (found.output_tokens, answer[n:].sum()),
            "cost": (found.cost_usd, (length[n:].sum() + 4 * answer[n:].sum()) / 1e6),
            "seconds": (found.seconds, seconds[n:].sum() / 8),
        }
        for name, (interval, true) in truth.items():
            assert interval is not None
            assert interval.high is not None
            hits[name] += interval.low <= true <= interval.high
    for name, covered in hits.items():
        assert 0.90 <= covered / runs <= 0.995, (name, covered / runs)


def test_without_answers_there_are_bounds_and_no_guess() -> None:
    found = made([Sample(50.0) for _ in range(64)])
    assert found.input_tokens == Range(estimate=50_000, low=50_000, high=50_000)
    assert found.output_tokens == Range(low=0.0, high=100_000)
    assert found.cost_usd is not None
    assert found.cost_usd.estimate is None
    assert (found.cost_usd.low, found.cost_usd.high) == pytest.approx((0.05, 0.45))
    assert found.worst_usd == pytest.approx(0.45)
    assert found.worst_tokens == 150_000
    assert found.seconds is None


def test_a_few_answers_among_many_counted_prompts() -> None:
    asked = [Sample(50.0, 10.0, 0.5) for _ in range(8)]
    found = made([*asked, *(Sample(50.0) for _ in range(64))])
    assert (found.sampled, found.asked) == (72, 8)
    assert middle(found.output_tokens) == pytest.approx(10_000)
    assert middle(found.cost_usd) == pytest.approx(0.05 + 0.04)
    assert found.worst_usd == pytest.approx(0.45)


def test_a_batch_costs_its_share_and_has_no_time() -> None:
    asked = [Sample(50.0, 10.0, 0.5) for _ in range(8)]
    full, half = made(asked), made(asked, batch=True)
    assert middle(half.cost_usd) == pytest.approx(middle(full.cost_usd) / 2)
    assert middle(half.full_usd) == middle(full.cost_usd)
    assert middle(full.batch_usd) == middle(half.cost_usd)
    assert half.worst_usd == pytest.approx((full.worst_usd or 0) / 2)
    assert half.seconds is None
    dear = made(asked, batch=True, price=PRICE.model_copy(update={"batch": 0.25}))
    assert middle(dear.cost_usd) == pytest.approx(middle(full.cost_usd) / 4)


def test_an_unknown_price_stays_unknown() -> None:
    found = made([Sample(50.0, 10.0)], price=PriceConfig(input=1.0))
    assert found.cost_usd is found.batch_usd is found.worst_usd is None


def test_reasoning_and_long_prompts_have_their_prices() -> None:
    thinking = [Sample(100.0, 20.0, reasoning_tokens=15.0) for _ in range(4)]
    price = PriceConfig(input=1.0, output=4.0, reasoning=8.0)
    assert middle(made(thinking, 4, price=price).cost_usd) == pytest.approx(
        4 * (100 + 5 * 4 + 15 * 8) / 1e6
    )
    long = PriceConfig(input=1, output=4, long=LongPrice(tokens=1000, input=2, output=8))
    mixed = [Sample(500.0, 10.0), Sample(2000.0, 10.0), Sample(4000.0, 10.0, calls=5)]
    assert middle(made(mixed, 3, price=long).cost_usd) == pytest.approx(
        (500 + 40 + 2000 * 2 + 80 + 4000 + 40) / 1e6  # a chain of five short calls is not long
    )


def test_time_is_bounded_by_the_width_and_by_the_caps_a_minute() -> None:
    asked = [Sample(50.0, 10.0, 2.0) for _ in range(8)]
    assert middle(made(asked, pace=Pace(10.0)).seconds) == pytest.approx(200)
    slow = Pace(10.0, requests_per_minute=60)
    assert middle(made(asked, pace=slow).seconds) == pytest.approx(1000)
    slower = Pace(10.0, requests_per_minute=60, tokens_per_minute=600)
    assert middle(made(asked, pace=slower).seconds) == pytest.approx(6000)
    unasked = made([Sample(50.0) for _ in range(8)], pace=slow)
    assert unasked.seconds == Range(low=1000.0)  # it cannot be faster; how slow, nobody knows


def test_guessed_tokens_widen_the_ends_alone() -> None:
    found = made([Sample(50.0) for _ in range(64)], slack=(0.5, 2.0))
    assert found.input_tokens == Range(estimate=50_000, low=25_000, high=100_000)
    assert found.cost_usd is not None
    assert found.cost_usd.high == pytest.approx(0.1 + 0.4)


def test_several_answers_of_one_call_may_each_be_as_long_as_they_may() -> None:
    found = made([Sample(50.0, answers=5.0) for _ in range(4)])
    assert middle(found.calls) == 1000
    assert found.output_tokens.high == 500_000


def test_nothing_to_ask_and_nothing_sampled() -> None:
    nothing = made([], 0)
    assert nothing.calls == nothing.input_tokens == Range(estimate=0.0, low=0.0, high=0.0)
    assert nothing.cost_usd is not None
    assert nothing.cost_usd.high == 0.0
    assert made([], 10).calls == Range()


def verdicts(found: Estimate, **caps: float) -> list[str]:
    return cap_verdicts(found, Caps(**caps))  # type: ignore[arg-type]


def test_caps_in_words() -> None:
    rng = np.random.default_rng(0)
    found = made([Sample(float(n), 20.0) for n in rng.integers(40, 60, 64)])
    cost = middle(found.cost_usd)
    assert verdicts(found) == []
    assert verdicts(found, max_cost_usd=10 * cost) == ["the cap of $1.30 is not reached"]
    (stopped,) = verdicts(found, max_cost_usd=0.61 * cost)
    assert stopped.startswith("the cap of $0.08 would stop it after about 61% (")
    (near,) = verdicts(found, max_cost_usd=cost * 1.001)
    assert "just before the end" in near
    assert verdicts(found, max_calls=1000, calls=900)[0].startswith(
        "the cap of 1,000 calls would stop it after about 10%"
    )
    assert (
        "the cap of 35,000 tokens would stop it after about 50%"
        in (verdicts(found, max_tokens=35_000)[0])
    )
    assert "would stop it after about 0%" in verdicts(found, max_tokens=9, tokens=99)[0]


def test_caps_where_only_bounds_are_known() -> None:
    found = made([Sample(50.0) for _ in range(64)])
    assert verdicts(found, max_cost_usd=0.45) == ["the cap of $0.45 is not reached"]
    assert verdicts(found, max_cost_usd=0.09) == [
        "the cap of $0.09 may stop it after 20% of the money at the worst"
    ]
    assert verdicts(made([], 10), max_tokens=5) == [
        "whether the cap of 5 tokens is reached cannot be told: nothing was sampled"
    ]
