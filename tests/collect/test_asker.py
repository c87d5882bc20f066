"""Asking through the ledger: once, within the caps, and never for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.pricing import cost_usd, price_of
from overproof.clients.protocol import Meter
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.budget import worst_case_usd
from overproof.config.load import parse_recipe
from overproof.config.recipe import PriceConfig, Recipe
from overproof.errors import BudgetError, TeacherUnreachableError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Usage
from overproof.records.ledger import Ledger

PRICED = "[teacher.price]\ninput = 1000.0\noutput = 2000.0\n"


def recipe(more: str = "") -> Recipe:
    return parse_recipe(
        f"""
        [run]
        name = "asked"
        dir = "run"
        [data]
        file = "data.csv"
        [task]
        labels = ["yes", "no"]
        [teacher]
        kind = "fake"
        model = "fake"
        {more}"""
    )


def request(number: int = 0) -> Request:
    """14 bytes in one message and 4 tokens out: at most 30 and 4 tokens, $0.038 as priced."""
    return Request(
        model="fake",
        messages=(Message(role="user", content=f"kab lod née {number}"),),
        parameters=Parameters(max_tokens=4),
    )


def costing(tokens_in: int, tokens_out: int, latency_s: float = 0.0) -> FakeTeacher:
    usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
    completion = Completion(outcome=Outcome.ANSWERED, text="A", usage=usage)
    return FakeTeacher(answer=lambda _: completion, latency_s=latency_s)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        yield ledger


@asynccontextmanager
async def asking(
    ledger: Ledger, teacher: FakeTeacher, more: str = "", patience_s: float = 5.0
) -> AsyncIterator[Asker]:
    said = recipe(more)
    asker = Asker(said, teacher, ledger, check_terms(said.teacher))
    try:
        yield asker
    finally:
        await asker.drain(patience_s)


async def test_the_same_request_at_once_reaches_the_teacher_once(ledger: Ledger) -> None:
    teacher = FakeTeacher(latency_s=0.01)
    async with asking(ledger, teacher) as asker:
        answers = await asyncio.gather(*(asker.ask(request()) for _ in range(5)))
        assert (teacher.calls, asker.progress.calls) == (1, 1)
    assert len({answer.text for answer in answers}) == 1
    assert len(list(ledger.exchanges())) == 1


async def test_what_the_ledger_knows_is_not_asked_again(ledger: Ledger) -> None:
    teacher = FakeTeacher()
    async with asking(ledger, teacher) as asker:
        first = await asker.ask(request())
        assert await asker.ask(request()) == first
    async with asking(ledger, teacher) as later:
        assert await later.ask(request()) == first
        assert (later.progress.calls, later.progress.cached) == (0, 1)
        await later.ask(request(1))
    assert teacher.calls == 2


async def test_a_failure_is_recorded_and_asked_again(ledger: Ledger) -> None:
    failed = Completion(outcome=Outcome.FAILED, status=500, error="no")
    async with asking(ledger, FakeTeacher(answer=lambda _: failed)) as asker:
        assert (await asker.ask(request())).outcome is Outcome.FAILED
    async with asking(ledger, FakeTeacher()) as asker:
        assert (await asker.ask(request())).outcome is Outcome.ANSWERED
    assert [e.completion.outcome for e in ledger.exchanges()] == ["failed", "answered"]


async def test_who_cancels_does_not_cancel_those_who_wait(ledger: Ledger) -> None:
    teacher = FakeTeacher(latency_s=0.02)
    async with asking(ledger, teacher) as asker:
        first = asyncio.create_task(asker.ask(request()))
        await asyncio.sleep(0)
        second = asyncio.create_task(asker.ask(request()))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).outcome is Outcome.ANSWERED
        with pytest.raises(asyncio.CancelledError):
            await first
    assert teacher.calls == len(list(ledger.exchanges())) == 1


async def test_an_answer_that_nobody_waits_for_any_more_is_kept(ledger: Ledger) -> None:
    teacher = FakeTeacher(latency_s=0.02)
    async with asking(ledger, teacher) as asker:
        task = asyncio.create_task(asker.ask(request()))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert ledger.lookup(request().key) is not None


async def test_a_request_given_up_is_recorded_with_what_it_may_have_cost(ledger: Ledger) -> None:
    teacher = FakeTeacher(latency_s=3600)
    async with asking(ledger, teacher, PRICED, patience_s=0.01) as asker:
        task = asyncio.create_task(asker.ask(request()))
        await asyncio.sleep(0.001)
        task.cancel()
    (kept,) = ledger.exchanges()
    assert kept.completion.outcome is Outcome.FAILED
    assert "stopped before the answer came" in (kept.completion.error or "")
    assert (kept.cost_usd, kept.uncertain_usd) == (0.0, pytest.approx(0.038))
    assert kept.completion.uncertain_attempts == 1


async def test_a_cap_on_calls_counts_over_the_whole_run(ledger: Ledger) -> None:
    caps = "[budget]\nmax_calls = 3"
    teacher = FakeTeacher()
    async with asking(ledger, teacher, caps) as asker:
        await asyncio.gather(asker.ask(request(0)), asker.ask(request(1)))
    async with asking(ledger, teacher, caps) as later:
        await later.ask(request(2))
        await later.ask(request(0))
        with pytest.raises(BudgetError, match="max_calls = 3: is reached: the run has made 3"):
            await later.ask(request(3))
    async with asking(ledger, teacher, caps) as last:
        with pytest.raises(BudgetError, match="max_calls"):
            await last.ask(request(3))
    assert teacher.calls == 3


async def test_imported_answers_cost_no_call(ledger: Ledger) -> None:
    async with asking(ledger, FakeTeacher()) as asker:
        await asker.ask(request())
    (known,) = ledger.exchanges()
    for number in range(1, 5):
        other = {"request": request(number), "source": "imported:log.csv"}
        await ledger.append(known.model_copy(update=other))
    async with asking(ledger, FakeTeacher(), "[budget]\nmax_calls = 2") as asker:
        await asker.ask(request(9))


def test_the_worst_case_of_a_request() -> None:
    price = PriceConfig(input=1000.0, output=2000.0, cached_input=0.0)
    assert worst_case_usd(price, request()) == pytest.approx((14 + 16 + 2 * 4) / 1000)
    assert worst_case_usd(PriceConfig(input=1.0), request()) is None
    honest = FakeTeacher()
    usage = asyncio.run(honest.complete(request())).usage
    assert (cost_usd(price, usage) or 0) < (worst_case_usd(price, request()) or 0)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_cap_on_money_is_never_passed(ledger: Ledger, at_once: bool) -> None:
    """Every request costs $0.02 and could cost $0.038: after four, $0.02 are too little."""
    teacher = costing(12, 4, latency_s=0.001)
    async with asking(ledger, teacher, PRICED + "[budget]\nmax_cost_usd = 0.1") as asker:
        asks = [asker.ask(request(number)) for number in range(9)]
        if at_once:
            ends = await asyncio.gather(*asks, return_exceptions=True)
        else:
            ends = [(await asyncio.gather(ask, return_exceptions=True))[0] for ask in asks]
    assert sum(isinstance(end, Completion) for end in ends) == teacher.calls == 4
    refused = [end for end in ends if isinstance(end, BudgetError)]
    assert len(refused) == 5
    assert "max_cost_usd = 0.1: would be passed: $0.0800 are spent" in str(refused[0])
    assert sum(e.cost_usd or 0 for e in ledger.exchanges()) == pytest.approx(0.08)
    async with asking(ledger, teacher, PRICED + "[budget]\nmax_cost_usd = 0.1") as later:
        with pytest.raises(BudgetError, match=r"\$0\.0800 are spent"):
            await later.ask(request(10))
    assert teacher.calls == 4


@pytest.mark.parametrize("uncertain", [0, 1])
async def test_what_may_have_been_billed_stays_charged(ledger: Ledger, uncertain: int) -> None:
    failed = Completion(outcome=Outcome.FAILED, error="no", uncertain_attempts=uncertain)
    teacher = FakeTeacher(answer=lambda _: failed)
    caps = PRICED + "[budget]\nmax_cost_usd = 0.07"
    for session in range(2):  # the reservation stays, in the session and in the next one
        async with asking(ledger, teacher, caps) as asker:
            await asyncio.gather(*(asker.ask(request(n)) for n in range(3)), return_exceptions=True)
            assert teacher.calls == (1 if uncertain else 3 * (session + 1))
    found = list(ledger.exchanges())
    assert {exchange.cost_usd for exchange in found} == {0.0}
    assert [e.uncertain_usd for e in found] == pytest.approx([uncertain * 0.038] * len(found))


async def test_a_failure_of_a_free_teacher_is_free(ledger: Ledger) -> None:
    failed = Completion(outcome=Outcome.FAILED, error="no answer within 60 s")
    async with asking(ledger, FakeTeacher(answer=lambda _: failed)) as asker:
        await asker.ask(request())
    assert [exchange.cost_usd for exchange in ledger.exchanges()] == [0.0]


async def test_a_cap_on_money_without_a_price_refuses_the_first_call(ledger: Ledger) -> None:
    said = recipe("[budget]\nmax_cost_usd = 1")
    paid = said.teacher.model_copy(update={"kind": "openai", "base_url": "http://127.0.0.1:9/v1"})
    said = said.model_copy(update={"teacher": paid})
    assert price_of(said.teacher).input is None
    teacher = FakeTeacher()
    asker = Asker(said, teacher, ledger, check_terms(recipe().teacher))
    with pytest.raises(BudgetError, match="price is unknown"):
        await asker.ask(request())
    assert teacher.calls == 0


async def test_what_nobody_answered_is_not_charged(ledger: Ledger) -> None:
    class Absent(FakeTeacher):
        async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
            if self.calls < 3:
                assert meter is not None
                await meter.before()
                self.calls += 1
                meter.after(Completion(outcome=Outcome.FAILED), reached=False)
                raise TeacherUnreachableError("far", "nobody answers")
            return await super().complete(request, meter)

    caps = PRICED + "[budget]\nmax_calls = 1\nmax_cost_usd = 0.04"
    async with asking(ledger, Absent(), caps) as asker:
        for _ in range(3):
            with pytest.raises(TeacherUnreachableError):
                await asker.ask(request())
        assert (await asker.ask(request())).outcome is Outcome.ANSWERED
