"""Caps that hold exactly: retries, choices, restarts, and processes that are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities, Meter
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.budget import LEASE, Budget
from overproof.collect.spending import Spending, most_of, worst_case_usd
from overproof.config.load import parse_recipe
from overproof.config.recipe import Recipe
from overproof.config.teacher import LongPrice, PriceConfig
from overproof.errors import BudgetError, LedgerLockedError
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    Tool,
    ToolCall,
    Usage,
)
from overproof.records.ledger import Ledger

PRICED = "[teacher.price]\ninput = 1000.0\noutput = 2000.0\n"
UNSURE = Completion(outcome=Outcome.FAILED, error="no answer within 60 s", uncertain_attempts=1)


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
        concurrency = 4
        {more}"""
    )


def request(number: int = 0, sample: int = 0) -> Request:
    """14 bytes in one message and 4 tokens out: at most 30 and 4 tokens, $0.038 as priced."""
    return Request(
        model="fake",
        messages=(Message(role="user", content=f"kab lod é {number:03d}"),),
        parameters=Parameters(max_tokens=4),
        sample=sample,
    )


class Retrying(FakeTeacher):
    """Makes attempts as told: ``None`` for one of unknown billing, else its usage."""

    def __init__(self, script: Callable[[Request], list[Usage | None]], choices: int = 1) -> None:
        super().__init__(capabilities=Capabilities(choices=choices))
        self.script = script
        self.spent = Spending()
        self.most_spent = 0

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        [completion] = await self.complete_many([request], meter)
        return completion

    async def complete_many(self, requests: Any, meter: Meter | None = None) -> list[Completion]:
        assert meter is not None
        attempts = unsure = 0
        for usage in self.script(requests[0]):
            await meter.before()
            self.calls += 1
            attempts += 1
            # At once what it may have cost at most: a cap must hold whatever the provider bills.
            worst = Usage(input_tokens=30, output_tokens=4 * len(requests))
            billed = usage or worst
            tokens = billed.input_tokens + billed.output_tokens
            usd = (billed.input_tokens + 2 * billed.output_tokens) / 1000
            self.spent += Spending(1, tokens, usd)
            await asyncio.sleep(0.0005)
            unsure += usage is None
            known = Completion(outcome=Outcome.ANSWERED, text="A", usage=usage)
            last = UNSURE if usage is None else known
            meter.after(last, reached=True)
        whole = last.model_copy(update={"attempts": attempts, "uncertain_attempts": unsure})
        none = None if whole.usage is None else Usage()
        rest = [
            whole.model_copy(update={"choice": n, "usage": none}) for n in range(1, len(requests))
        ]
        return [whole, *rest]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        yield ledger


@asynccontextmanager
async def asking(ledger: Ledger, teacher: FakeTeacher, more: str = "") -> AsyncIterator[Asker]:
    said = recipe(more)
    asker = Asker(said, teacher, ledger, check_terms(said.teacher))
    try:
        yield asker
    finally:
        await asker.drain(5.0)


def odd(request: Request) -> list[Usage | None]:
    """Every third request needs retries of unknown billing; every ninth fails for good."""
    number = int(request.messages[0].content.split()[-1])
    good = Usage(input_tokens=10 + number % 7, output_tokens=1 + number % 4)
    if number % 9 == 0:
        return [None, None]
    return [None, good] if number % 3 == 0 else [good]


@pytest.mark.parametrize(
    ("cap", "within"),
    [
        ("max_calls = 40", lambda spent: spent.calls <= 40),
        ("max_tokens = 700", lambda spent: spent.tokens <= 700),
        ("max_cost_usd = 0.75", lambda spent: spent.usd <= 0.75 + 1e-9),
    ],
)
async def test_caps_hold_at_the_worst_that_retries_can_cost_over_sessions(
    ledger: Ledger, cap: str, within: Callable[[Spending], bool]
) -> None:
    teacher = Retrying(odd)
    seen: list[Spending] = []
    for session in range(3):
        async with asking(ledger, teacher, f"{PRICED}[budget]\n{cap}") as asker:
            ends = await asyncio.gather(
                *(asker.ask(request(20 * session + n)) for n in range(20)), return_exceptions=True
            )
            seen.append(asker.budget.spent)
    assert any(isinstance(end, BudgetError) for end in ends)
    assert within(teacher.spent)
    # What later sessions count is what was spent, to the call, the token and the cent.
    counted = Budget(recipe(f"{PRICED}[budget]\n{cap}"), ledger).spent
    assert (counted.calls, counted.tokens) == (teacher.spent.calls, teacher.spent.tokens)
    assert counted.usd == pytest.approx(teacher.spent.usd)
    assert seen[-1].usd == pytest.approx(counted.usd)
    # And the caps are used: there was no room for one more.
    room = Spending(40, 700, 0.75) - counted
    name = cap.split(maxsplit=1)[0]
    assert {"max_calls": room.calls < 1, "max_tokens": room.tokens < 34,
            "max_cost_usd": room.usd < 0.038}[name]  # fmt: skip


async def test_the_choices_of_a_call_are_charged_once(ledger: Ledger) -> None:
    teacher = Retrying(odd, choices=4)
    caps = PRICED + "[budget]\nmax_tokens = 100000"
    async with asking(ledger, teacher, caps) as asker:
        for number in range(10):
            await asker.ask_samples(request(number), 4)
        live = asker.budget.spent
    assert live.calls == teacher.calls == 14
    later = Budget(recipe(caps), ledger).spent
    assert later.tokens == teacher.spent.tokens == live.tokens
    assert later.usd == pytest.approx(teacher.spent.usd) == pytest.approx(live.usd)


async def test_what_waits_for_room_goes_on_when_it_comes(ledger: Ledger) -> None:
    """Each can take 34 tokens and takes 2: 20 of them fit into 72 only one after the other."""
    teacher = Retrying(lambda _: [Usage(input_tokens=1, output_tokens=1)])
    async with asking(ledger, teacher, "[budget]\nmax_tokens = 72") as asker:
        await asyncio.gather(*(asker.ask(request(n)) for n in range(20)))
        with pytest.raises(BudgetError, match="max_tokens = 72: would be passed: 40 are spent"):
            await asker.ask_samples(request(99), 3)


def killed(path: Path, caps: str, teacher: FakeTeacher, answered: int) -> None:
    """Ask without an end, and leave the ledger as a killed process would: nothing closed."""

    async def work() -> None:
        said = recipe(caps)
        ledger = Ledger.open(path, write=True)
        asker = Asker(said, teacher, ledger, check_terms(said.teacher))
        asks = [asyncio.ensure_future(asker.ask(request(n))) for n in range(12)]
        while asker.progress.outcomes.total() < answered:
            await asyncio.sleep(0.001)
        ledger.flush()
        path.with_name("copy.sqlite").write_bytes(path.read_bytes())
        wal = path.with_name(path.name + "-wal")
        path.with_name("copy.sqlite-wal").write_bytes(wal.read_bytes())
        for ask in asks:
            ask.cancel()
        await asker.drain(0.0)
        ledger.close()

    asyncio.run(work())


def test_caps_hold_over_a_kill_with_requests_in_flight(tmp_path: Path) -> None:
    caps = PRICED + "[budget]\nmax_calls = 30\nmax_cost_usd = 1.0"

    class Slow(Retrying):
        async def complete_many(
            self, requests: Any, meter: Meter | None = None
        ) -> list[Completion]:
            if self.calls >= 3:
                assert meter is not None
                await meter.before()
                self.calls += 1
                await asyncio.sleep(3600)
            return await super().complete_many(requests, meter)

    teacher = Slow(lambda _: [Usage(input_tokens=12, output_tokens=4)])
    killed(tmp_path / "ledger.sqlite", caps, teacher, answered=3)
    sent = teacher.calls
    assert sent > 3
    with Ledger.open(tmp_path / "copy.sqlite", write=True) as ledger:
        budget = Budget(recipe(caps), ledger)
        assert len(ledger) == 3
        # Whatever was in flight when it was killed is charged, at most, and no more than a lease.
        assert sent <= budget.spent.calls <= 30
        assert budget.lost.calls == budget.spent.calls - 3
        assert budget.spent.usd >= 3 * 0.02 + (sent - 3) * 0.038

        async def go_on() -> tuple[int, list[Any]]:
            later = Retrying(lambda _: [Usage(input_tokens=12, output_tokens=4)])
            async with asking(ledger, later, caps) as asker:
                ends = await asyncio.gather(
                    *(asker.ask(request(n)) for n in range(60)), return_exceptions=True
                )
            return later.calls, ends

        calls, ends = asyncio.run(go_on())
        assert sent + calls <= 30
        refused = [str(end) for end in ends if isinstance(end, BudgetError)]
        assert refused
        assert "by a session that was killed" in refused[0]
        # A session closed in order owes nothing more.
        assert Budget(recipe(caps), ledger).lost == budget.lost
        assert ledger.verify().ok


async def test_a_lease_is_written_now_and_then_and_only_for_caps(ledger: Ledger) -> None:
    teacher = Retrying(lambda _: [Usage(input_tokens=12, output_tokens=4)])
    async with asking(ledger, teacher) as asker:
        await asyncio.gather(*(asker.ask(request(n)) for n in range(30)))
    assert list(ledger.notes(LEASE)) == []
    async with asking(ledger, teacher, "[budget]\nmax_calls = 100") as asker:
        await asyncio.gather(*(asker.ask(request(100 + n)) for n in range(30)))
    notes = list(ledger.notes(LEASE))
    assert 2 <= len(notes) <= 6
    assert notes[-1]["closed"] is True
    assert Budget(recipe("[budget]\nmax_calls = 100"), ledger).spent.calls == 60


async def test_requests_under_way_are_charged_until_they_are_asked_for(ledger: Ledger) -> None:
    caps = PRICED + "[budget]\nmax_calls = 4"
    most = Usage(input_tokens=30, output_tokens=4)
    budget = Budget(recipe(caps), ledger, {request(n).key: most for n in range(3)})
    assert (budget.spent.calls, budget.spent.tokens) == (3, 102)
    budget.take_over(request(0).key)
    budget.take_over(request(0).key)
    assert budget.spent.calls == 2
    await budget.reserve(budget.most(request(0)))
    await budget.reserve(budget.most(request(7)))
    with pytest.raises(BudgetError):
        await budget.reserve(budget.most(request(8)))


async def test_what_a_killed_session_had_under_way_is_charged_once(ledger: Ledger) -> None:
    caps = "[budget]\nmax_calls = 6"
    ledger.note(LEASE, {"lease": "killed", "calls": 5, "tokens": 170, "usd": 0.0})
    most = Usage(input_tokens=30, output_tokens=4)
    budget = Budget(recipe(caps), ledger, {request(n).key: most for n in range(4)})
    # Five were leased, four of them are known to be at the provider: one more may have been sent.
    assert (budget.spent.calls, budget.lost.calls) == (5, 1)
    for n in range(4):
        budget.take_over(request(n).key)
        await budget.reserve(budget.most(request(n)))
    assert budget.spent.calls == 5


async def test_a_teacher_that_tells_of_no_attempt_is_charged_by_its_answers(
    ledger: Ledger,
) -> None:
    class Silent(FakeTeacher):
        async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
            return await super().complete(request)

    async with asking(ledger, Silent(latency_s=0.001), "[budget]\nmax_calls = 3") as asker:
        ends = await asyncio.gather(*(asker.ask(request(n)) for n in range(9)),
                                    return_exceptions=True)  # fmt: skip
    assert sum(isinstance(end, Completion) for end in ends) == 3


async def test_a_second_process_is_refused_so_that_one_budget_is_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, write=True), pytest.raises(LedgerLockedError):
        Ledger.open(path, write=True)


def test_the_worst_case_holds_tools_and_schemas_and_choices() -> None:
    price = PriceConfig(input=1.0, output=10.0, cached_input=0.1)
    plain = request()
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    rich = plain.model_copy(
        update={
            "messages": (
                Message(
                    role="assistant",
                    content="",
                    tool_calls=(ToolCall(name="find", arguments='{"name": "née"}'),),
                ),
            ),
            "parameters": Parameters(
                max_tokens=4, tools=(Tool(name="find", parameters=schema),), response_schema=schema
            ),
        }
    )
    assert most_of(price, plain).tokens == 34
    assert most_of(price, plain, 3).tokens == 30 + 12
    assert most_of(price, rich).tokens > 2 * len(str(schema)) + 34
    assert most_of(price, rich).calls == 1


@pytest.mark.parametrize("batch", [False, True])
def test_the_worst_case_is_the_dearest_kind_of_token(batch: bool) -> None:
    price = PriceConfig(input=1000.0, output=2000.0, cache_write=1250.0, reasoning=3000.0)
    factor = 0.5 if batch else 1.0
    worst = (30 * 1250 + 4 * 3000) / 1e6 * factor
    assert worst_case_usd(price, request(), batch=batch) == pytest.approx(worst)
    long = price.model_copy(update={"long": LongPrice(tokens=20, input=5000.0, output=1.0)})
    # 30 tokens at most is long; but 20 are short, and dearer in what they answer.
    assert worst_case_usd(long, request(), batch=batch) >= (30 * 5000 * 1.25) / 1e6 * factor
    assert worst_case_usd(PriceConfig(input=1.0), request()) is None
