"""The forecast of a collection: sampled, asked through the ledger, extrapolated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.collect.forecast import Forecast, Planned, forecast, is_known
from overproof.collect.spending import Spending
from overproof.config.running import BaseRecipe
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    Usage,
)
from overproof.records.ledger import Ledger

TEMPLATE = 7  # tokens that the server counts beyond the text


def recipe(budget: dict[str, Any] | None = None, **teacher: Any) -> BaseRecipe:
    said = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    price = {"input": 1.0, "output": 4.0}
    return BaseRecipe.model_validate(
        {
            "run": {"name": "r", "dir": "run"},
            "teacher": said | {"price": price, "concurrency": 4} | teacher,
            "budget": budget or {},
        }
    )


def request(number: int, sample: int = 0) -> Request:
    words = " ".join(["word"] * (20 + number % 30))
    said = f"{number} {words}"
    return Request(
        model="m",
        messages=(Message(role="user", content=said),),
        parameters=Parameters(max_tokens=64),
        sample=sample,
    )


def answered(asked: Request, outcome: Outcome = Outcome.ANSWERED) -> Completion:
    tokens = len(asked.messages[0].content.split())
    usage = Usage(input_tokens=tokens + TEMPLATE, output_tokens=tokens // 2, reasoning_tokens=1)
    return Completion(outcome=outcome, text="yes", usage=usage, latency_s=0.01)


class World:
    """A ledger, a teacher that counts its own tokens, and prompts of one request each."""

    def __init__(self, ledger: Ledger, prompts: int = 200, tokenize: bool = True) -> None:
        self.ledger = ledger
        self.teacher = FakeTeacher(capabilities=Capabilities(tokenize=tokenize))
        self.prompts = [Planned([request(i)], 1.0) for i in range(prompts)]
        self.asked: list[int] = []
        self.outcome = Outcome.ANSWERED

    async def ask(self, number: int) -> tuple[Sequence[str], bool, str]:
        self.asked.append(number)
        wanted = self.prompts[number].requests[0]
        if self.ledger.lookup(wanted.key) is None:
            self.keep(wanted)
        good = self.outcome is Outcome.ANSWERED
        return (wanted.key,), good, "" if good else "no label"

    def keep(self, wanted: Request) -> None:
        completion = answered(wanted, self.outcome)
        self.ledger.submit(
            Exchange(request=wanted, completion=completion, teacher="t", created_at="now")
        ).result()

    def made(self, of: BaseRecipe, **said: Any) -> Forecast:
        return asyncio.run(forecast(of, self.teacher, self.ledger, self.prompts, self.ask, **said))

    @property
    def true(self) -> tuple[int, int]:
        """Input and output tokens of what the ledger does not know."""
        left = [each.requests[0] for each in self.prompts if not is_known(self.ledger, each)]
        used = [answered(each).usage or Usage() for each in left]
        return sum(u.input_tokens for u in used), sum(u.output_tokens for u in used)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as opened:
        yield opened


def test_nobody_is_asked_unless_told_to(ledger: Ledger) -> None:
    world = World(ledger)
    made = world.made(recipe())
    assert world.asked == []
    assert (made.asked, made.estimate.sampled, made.estimate.prompts) == (0, 64, 200)
    assert made.estimate.output_tokens.estimate is None
    assert made.estimate.output_tokens.high == 200 * 64
    true_in, _ = world.true
    assert made.estimate.input_tokens.low <= true_in <= (made.estimate.input_tokens.high or 0)
    assert made.price == "price as the recipe says"


def test_those_asked_are_kept_and_calibrate_the_rest(ledger: Ledger) -> None:
    world = World(ledger)
    made = world.made(recipe(), probe=32)
    assert len(set(world.asked)) == 32
    assert (made.asked, made.answered, made.estimate.asked) == (32, 32, 32)
    assert made.estimate.prompts == 168
    assert made.estimate.calls.estimate == 168
    true_in, true_out = world.true
    figures = made.estimate
    assert figures.input_tokens.estimate == pytest.approx(true_in, rel=0.1)
    assert figures.output_tokens.estimate == pytest.approx(true_out, rel=0.2)
    assert figures.cost_usd is not None
    cost = (true_in + 4 * true_out) / 1e6
    assert figures.cost_usd.low <= cost <= (figures.cost_usd.high or 0)
    assert figures.seconds is not None
    again = world.made(recipe(), probe=32)  # nothing is asked twice
    assert len(ledger) == 32
    assert again.estimate.prompts == 168
    assert again.cached == 32
    assert again.estimate.seconds is None  # the ledger's answers took no time


def test_what_the_ledger_knows_is_not_counted(ledger: Ledger) -> None:
    world = World(ledger)
    for each in world.prompts[:50]:
        world.keep(each.requests[0])
    made = world.made(recipe())
    assert (made.cached, made.estimate.prompts) == (50, 150)
    for each in world.prompts[50:]:
        world.keep(each.requests[0])
    done = world.made(recipe({"max_calls": 1}))
    assert done.estimate.prompts == 0
    assert done.estimate.calls.estimate == 0
    assert done.verdicts == ()


def test_only_askable_prompts_are_asked(ledger: Ledger) -> None:
    world = World(ledger)
    world.made(recipe(), probe=8, askable=range(20))
    assert set(world.asked) <= set(range(20))
    assert len(world.asked) == 8


def test_tokens_are_guessed_where_the_teacher_does_not_tell_them(ledger: Ledger) -> None:
    world = World(ledger, tokenize=False)
    made = world.made(recipe())
    assert not made.counted
    assert "guessed at 4 bytes" in made.notes[0]
    figures = made.estimate.input_tokens
    assert figures.low < 0.7 * (figures.estimate or 0)
    assert (figures.high or 0) > 1.9 * (figures.estimate or 0)
    asked = world.made(recipe(), probe=16)  # usage tells what a byte is worth
    assert asked.counted
    true_in, _ = world.true
    assert asked.estimate.input_tokens.estimate == pytest.approx(true_in, rel=0.1)


def test_the_same_seed_gives_the_same_forecast(ledger: Ledger) -> None:
    world = World(ledger)
    assert world.made(recipe()) == world.made(recipe())


def test_invalid_answers_are_told(ledger: Ledger) -> None:
    world = World(ledger)
    world.outcome = Outcome.MALFORMED
    made = world.made(recipe(), probe=4)
    assert (made.asked, made.answered, made.problem) == (4, 0, "no label")


def test_failed_answers_teach_nothing(ledger: Ledger) -> None:
    world = World(ledger)
    world.outcome = Outcome.FAILED
    made = world.made(recipe(), probe=4)
    assert (made.asked, made.estimate.asked) == (4, 0)
    assert made.estimate.output_tokens.estimate is None


def test_few_answers_are_called_few(ledger: Ledger) -> None:
    made = World(ledger).made(recipe(), probe=5)
    assert any("only 5 prompts were asked" in note for note in made.notes)
    assert not any("only" in note for note in World(ledger, 300).made(recipe(), probe=40).notes)


def test_the_caps_count_what_was_spent(ledger: Ledger) -> None:
    world = World(ledger)
    spent = Spending(calls=100, tokens=0, usd=0.0)
    made = world.made(recipe({"max_calls": 150}), used=lambda: spent)
    assert made.verdicts == ("the cap of 150 calls would stop it after about 25%",)


def test_a_batch_shows_both_prices_and_no_time(ledger: Ledger) -> None:
    world = World(ledger)
    made = world.made(recipe(batch=True), probe=20)
    figures = made.estimate
    assert figures.cost_usd == figures.batch_usd
    assert figures.full_usd is not None
    assert figures.cost_usd is not None
    assert (figures.cost_usd.estimate or 0) * 2 == pytest.approx(figures.full_usd.estimate)
    assert figures.seconds is None
    assert any("batch API" in note for note in made.notes)


def test_several_samples_and_calls_a_prompt(ledger: Ledger) -> None:
    world = World(ledger)
    world.prompts = [
        Planned([request(i, sample) for sample in range(3)], 1.0) for i in range(40)
    ]  # one call that draws three
    made = world.made(recipe())
    assert made.estimate.calls.estimate == 40
    assert made.estimate.output_tokens.high == 40 * 3 * 64


def test_no_prompts(ledger: Ledger) -> None:
    made = World(ledger, prompts=0).made(recipe(), probe=8)
    assert made.estimate.calls.estimate == 0
