"""A judge with a model of its own is billed, reserved and capped at that model's price."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.pricing import Prices
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.budget import Budget
from overproof.config.load import parse_text_recipe
from overproof.config.text_recipe import TextRecipe
from overproof.errors import BudgetError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Usage
from overproof.records.ledger import Ledger

PRICES = """
[[price]]
model = "judge"
as_of = "2026-11-23"
source = "a test"
input = 5000.0
output = 7000.0
"""
USAGE = Usage(input_tokens=10, output_tokens=2)
LOST = Completion(outcome=Outcome.FAILED, error="no answer within 60 s", uncertain_attempts=1)


@pytest.fixture(autouse=True)
def price_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    monkeypatch.setenv("OVERPROOF_PRICES", str(tmp_path / "prices.toml"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        yield ledger


def recipe(budget: str = "", judge: str = "judge") -> TextRecipe:
    return parse_text_recipe(
        f"""
        [run]
        name = "judged"
        dir = "run"
        [data]
        file = "data.csv"
        [task]
        kind = "text"
        [teacher]
        kind = "openai"
        model = "cheap"
        base_url = "http://127.0.0.1:9/v1"
        [teacher.price]
        input = 1.0
        output = 2.0
        [teacher.terms]
        training = "allowed"
        [[filters]]
        kind = "judge"
        model = "{judge}"
        [budget]
        {budget}
        """
    )


def request(model: str, number: int = 0) -> Request:
    """14 bytes in one message and 4 tokens out: at most 30 and 4 tokens."""
    return Request(
        model=model,
        messages=(Message(role="user", content=f"kab lod é {number:03d}"),),
        parameters=Parameters(max_tokens=4),
    )


@asynccontextmanager
async def asking(said: TextRecipe, ledger: Ledger, completion: Completion) -> AsyncIterator[Asker]:
    teacher = FakeTeacher(answer=lambda _: completion)
    asker = Asker(said, teacher, ledger, check_terms(said.teacher))
    try:
        yield asker
    finally:
        await asker.drain(5.0)


def test_prices_by_model() -> None:
    prices = Prices(recipe().teacher)
    assert (prices.of("cheap").input, prices.of("judge").input) == (1.0, 5000.0)
    assert prices.of("unheard of").input is None  # [teacher.price] is not its price
    assert prices.of("judge") is prices.of("judge")
    here = recipe().teacher.model_copy(update={"kind": "embedded", "base_url": None})
    assert Prices(here).of("model.gguf") == Prices(here).teacher


async def test_the_ledger_and_the_caps_agree(ledger: Ledger) -> None:
    answer = Completion(outcome=Outcome.ANSWERED, text="yes", usage=USAGE)
    cheap, dear = (10 * 1 + 2 * 2) / 1e6, (10 * 5000 + 2 * 7000) / 1e6
    said = recipe("max_cost_usd = 1.0")
    async with asking(said, ledger, answer) as asker:
        await asker.ask(request("cheap"))
        await asker.ask(request("judge"))
        assert asker.budget.spent.usd == pytest.approx(cheap + dear)
        assert asker.progress.cost_usd == pytest.approx(cheap + dear)
    found = {one.request.model: one.cost_usd for one in ledger.exchanges()}
    assert found == pytest.approx({"cheap": cheap, "judge": dear})
    assert Budget(said, ledger).spent.usd == pytest.approx(cheap + dear)


async def test_what_nobody_counted_is_charged_at_the_judges_worst(ledger: Ledger) -> None:
    worst = (30 * 5000 + 4 * 7000) / 1e6
    said = recipe("max_cost_usd = 1.0")
    async with asking(said, ledger, LOST) as asker:
        await asker.ask(request("judge"))
        assert asker.budget.spent.usd == pytest.approx(worst)
    [lost] = ledger.exchanges()
    assert (lost.cost_usd, lost.uncertain_usd) == (0.0, pytest.approx(worst))
    assert Budget(said, ledger).spent.usd == pytest.approx(worst)


async def test_a_cap_holds_for_the_judge(ledger: Ledger) -> None:
    answer = Completion(outcome=Outcome.ANSWERED, text="yes", usage=USAGE)
    async with asking(recipe("max_cost_usd = 0.3"), ledger, answer) as asker:
        # $0.064 each, but at most $0.178: the third would pass the cap.
        await asker.ask(request("judge", 0))
        await asker.ask(request("judge", 1))
        with pytest.raises(BudgetError, match="would be passed"):
            await asker.ask(request("judge", 2))
        await asker.ask(request("cheap", 2))


async def test_a_judge_of_unknown_price_is_refused_before_anything_is_spent(
    ledger: Ledger,
) -> None:
    answer = Completion(outcome=Outcome.ANSWERED, text="yes", usage=USAGE)
    said = recipe("max_cost_usd = 0.3", judge="unheard of")
    async with asking(said, ledger, answer) as asker:
        for model in ("cheap", "unheard of"):
            with pytest.raises(BudgetError, match="the price of unheard of") as caught:
                await asker.ask(request(model))
            assert "prices.toml" in caught.value.way_out
        with pytest.raises(BudgetError, match="the price of another"):
            await asker.ask(request("another"))
    assert len(ledger) == 0
    async with asking(recipe(judge="unheard of"), ledger, answer) as asker:  # without a cap
        await asker.ask(request("unheard of"))
    assert [one.cost_usd for one in ledger.exchanges()] == [None]
