"""Signals of what is asked and how: each rises for its attack and spares its honest twin."""

from __future__ import annotations

import math

import pytest
from account_traffic import MONDAY, account, all_day, daytime, event, hashed, person, sketch

from overproof.guard.accounts import AccountState
from overproof.guard.parts import Signal
from overproof.guard.signals import (
    breadth,
    elicitation,
    log_probs,
    one_template,
    partition,
    rubric_grading,
    samples_a_prompt,
    synthesis,
    technique_sweep,
    temperature_sweep,
)

TRAITS = [
    (elicitation.SIGNAL, "elicitation"),
    (rubric_grading.SIGNAL, "rubric"),
    (synthesis.SIGNAL, "synthesis"),
]


def value(signal: Signal, state: AccountState) -> float:
    return signal.measure(state, state.last_seen + 3600)


def words(signal: Signal, state: AccountState) -> str:
    return signal.detail(state, state.last_seen + 3600)


def with_trait(name: str, of: int, number: int) -> AccountState:
    """``of`` requests in ``number`` have the trait."""
    return account(
        (event(ts), sketch(n, **{name: 1.0 if n < of else 0.0}))
        for n, ts in enumerate(all_day(1, number))
    )


@pytest.mark.parametrize(("signal", "name"), TRAITS)
def test_a_trait_rises_with_its_share_and_with_the_certainty_of_it(
    signal: Signal, name: str
) -> None:
    harvest = with_trait(name, 60, 200)
    assert value(signal, harvest) > 2
    assert words(signal, harvest).startswith("about 60 of 200 requests (30.0 %)")
    # An audit trail that asks for reasons now and then, and a single odd request of two.
    assert value(signal, with_trait(name, 2, 200)) < 0.5
    assert value(signal, with_trait(name, 1, 2)) < value(signal, harvest) - 1
    assert value(signal, person()) == 0
    # Requests of which the model is half sure count half.
    unsure = account((event(ts), sketch(n, **{name: 0.5})) for n, ts in enumerate(all_day(1, 120)))
    sure = account(
        (event(ts), sketch(n, **{name: float(n % 2)})) for n, ts in enumerate(all_day(1, 120))
    )
    assert value(signal, unsure) == pytest.approx(value(signal, sure))
    rising = [value(signal, with_trait(name, of, 200)) for of in range(0, 201, 20)]
    assert rising == sorted(rising)


@pytest.mark.parametrize(("signal", "name"), TRAITS)
def test_without_text_a_trait_is_not_measured(signal: Signal, name: str) -> None:
    assert getattr(account([(event(), None)]), name) == 0
    assert math.isnan(value(signal, account([(event(), None)])))


def tries(techniques: list[int], refused: float, among: int) -> AccountState:
    return account(
        (
            event(ts, refused=n < refused * len(techniques)),
            sketch(n, technique=techniques[n] if n < len(techniques) else 0),
        )
        for n, ts in enumerate(all_day(2, among // 2))
    )


def test_a_refused_sweep_rises_above_a_single_technique_and_chance() -> None:
    signal = technique_sweep.SIGNAL
    sweep = tries([1, 2, 3, 4, 5, 6] * 5, 0.9, 100)
    assert "6 different techniques" in words(signal, sweep)
    assert "27 of these were refused" in words(signal, sweep)
    assert value(signal, sweep) > 1.5
    assert value(signal, tries([2] * 30, 0.9, 100)) < value(signal, sweep) / 2
    assert value(signal, tries([1, 2, 3, 4, 5, 6] * 5, 0.1, 100)) < value(signal, sweep) / 3
    # Every technique once in a large honest account is chance, not a sweep.
    assert value(signal, tries([1, 2, 3, 4, 5, 6], 0.5, 3000)) < 0.05
    assert value(signal, person()) == 0


def harvest(fixed: str, number: int = 100, share: float = 1.0) -> AccountState:
    return account(
        (
            event(ts),
            sketch(n, **({fixed: hashed("fixed")} if n % 100 < share * 100 else {})),
        )
        for n, ts in enumerate(all_day(2, number // 2))
    )


@pytest.mark.parametrize("fixed", ["template", "opening", "closing"])
def test_one_template_with_new_payloads_rises(fixed: str) -> None:
    signal = one_template.SIGNAL
    assert value(signal, harvest(fixed)) > 0.8
    assert f"share one {fixed}, while 100% of the turns are new" in words(signal, harvest(fixed))
    assert 0.2 < value(signal, harvest(fixed, share=0.3)) < 0.35
    assert value(signal, person()) == 0
    assert value(signal, harvest(fixed, number=4)) < 0.3


def test_a_template_that_comes_with_the_same_payloads_stays_low() -> None:
    health_check = account(
        (event(ts), sketch(n % 5, template=hashed("fixed"))) for n, ts in enumerate(all_day(2, 50))
    )
    assert value(one_template.SIGNAL, health_check) < 0.1


def test_rollouts_rise_and_next_weeks_benchmark_does_not() -> None:
    signal = samples_a_prompt.SIGNAL
    rollouts = account(
        (event(ts), sketch(("question", n // 16))) for n, ts in enumerate(all_day(1, 320))
    )
    assert value(signal, rollouts) == pytest.approx(math.log2(16), abs=0.4)
    assert "16.0 requests a prompt" in words(signal, rollouts)
    asked = account((event(ts, params={"n": 16}), None) for ts in all_day(1, 320))
    assert value(signal, asked) == pytest.approx(math.log2(16), abs=0.2)
    benchmark = account(
        (event(ts), sketch(("question", n % 200))) for n, ts in enumerate(all_day(4, 200))
    )
    assert value(signal, benchmark) == 0
    assert value(signal, person()) == 0
    assert math.isnan(value(signal, account([(event(), None)])))


def test_temperature_sweeps_rise_and_a_product_with_two_does_not() -> None:
    signal = temperature_sweep.SIGNAL

    def warm(number: int) -> AccountState:
        return account(
            (event(ts, params={"temperature": n % number / 10}), None)
            for n, ts in enumerate(all_day(1, 100))
        )

    assert value(signal, warm(8)) > 2.5
    assert "at least 8 different temperatures: 0, 0.1, 0.2" in words(signal, warm(20))
    assert value(signal, warm(2)) < 1
    assert value(signal, warm(1)) == 0
    assert math.isnan(value(signal, person()))


def test_harvested_log_probs_rise_and_a_study_among_much_else_does_not() -> None:
    signal = log_probs.SIGNAL

    def asking(of: int) -> AccountState:
        return account(
            (event(ts, params={"logprobs": n < of, "top_logprobs": 20 if n < of else 0}), None)
            for n, ts in enumerate(all_day(1, 200))
        )

    assert value(signal, asking(180)) > 4
    assert value(signal, asking(4)) < 0.1
    assert value(signal, asking(0)) == 0
    assert words(signal, asking(180)).startswith("180 of 200 requests (90.0 %)")
    assert math.isnan(value(signal, account([(event(), None)])))


def test_all_kinds_of_task_are_broader_than_the_peers_few() -> None:
    signal = breadth.SIGNAL

    def kinds(number: int, use: str | None = None) -> AccountState:
        return account(
            (event(ts, declared_use=use), sketch(n, capability=n % number))
            for n, ts in enumerate(all_day(1, 64))
        )

    assert value(signal, kinds(16)) == pytest.approx(math.log2(16 / 3))
    assert value(signal, kinds(16, "batch-etl")) > value(signal, kinds(16, "chat"))
    assert value(signal, kinds(4, "chat")) == pytest.approx(0)
    assert "as broad as 16.0 in equal shares" in words(signal, kinds(16))
    assert math.isnan(value(signal, account([(event(), None)])))


def test_a_harvester_partitions_and_an_evaluator_repeats() -> None:
    signal = partition.SIGNAL
    once = account((event(ts), sketch(n)) for n, ts in enumerate(all_day(4, 200)))
    benchmark = account((event(ts), sketch(n % 200)) for n, ts in enumerate(all_day(4, 200)))
    assert value(signal, once) > 2.5
    assert value(signal, benchmark) < 1
    assert "the median turn came 4 times" in words(signal, benchmark)
    talk = account((event(ts), sketch(n)) for n, ts in enumerate(daytime(1, 10, MONDAY)))
    assert value(signal, talk) < 1.2
    assert math.isnan(value(signal, account([(event(), None)])))
