"""Malformed answers are recorded, never kept as answers, and asked again a set number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker, Progress
from overproof.config.load import parse_recipe
from overproof.errors import TooManyFailedError
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

RECIPE = """
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
[budget]
reasks = {reasks}
"""


def request(number: int = 0, sample: int = 0) -> Request:
    return Request(
        model="fake",
        messages=(Message(role="user", content=f"say yes {number}"),),
        parameters=Parameters(max_tokens=4),
        sample=sample,
    )


def is_yes(completion: Completion) -> str | None:
    return None if completion.text == "yes" else f"is not yes: {completion.text}"


def says(*texts: str, choices: int = 1) -> FakeTeacher:
    """Says these in turn, the last one for ever."""
    left = list(texts)

    def answer(_: Request) -> Completion:
        text = left.pop(0) if len(left) > 1 else left[0]
        return Completion(outcome=Outcome.ANSWERED, text=text, usage=Usage(output_tokens=1))

    return FakeTeacher(answer=answer, capabilities=Capabilities(choices=choices))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        yield ledger


def asker_of(
    ledger: Ledger,
    teacher: FakeTeacher,
    reasks: int = 2,
    changed: Callable[[Progress], None] | None = None,
) -> Asker:
    recipe = parse_recipe(RECIPE.format(reasks=reasks))
    return Asker(recipe, teacher, ledger, check_terms(recipe.teacher), changed)


def outcomes(ledger: Ledger) -> list[str]:
    return [exchange.completion.outcome.value for exchange in ledger.exchanges()]


async def test_a_malformed_answer_is_recorded_with_its_reason_and_asked_again(
    ledger: Ledger,
) -> None:
    teacher = says("perhaps", "yes")
    answer = await asker_of(ledger, teacher).ask(request(), is_yes)
    assert answer.text == "yes"
    assert outcomes(ledger) == ["malformed", "answered"]
    first = next(iter(ledger.exchanges())).completion
    assert (first.text, first.error) == ("perhaps", "is not yes: perhaps")
    found = ledger.lookup(request().key)
    assert found is not None
    assert found.completion.text == "yes"


async def test_it_is_asked_again_so_often_in_all_of_the_runs_life(ledger: Ledger) -> None:
    teacher = says("no")
    for session in range(3):
        asker = asker_of(ledger, teacher)
        answer = await asker.ask(request(), is_yes)
        assert answer.outcome is Outcome.MALFORMED
        assert answer.error == "is not yes: no"
        assert teacher.calls == 3
        assert asker.progress.cached == (1 if session else 0)
    # Raising the number is how to have another try.
    assert (await asker_of(ledger, teacher, reasks=3).ask(request(), is_yes)).text == "no"
    assert teacher.calls == 4
    assert ledger.lookup(request().key) is None


async def test_a_run_that_stopped_between_two_askings_goes_on_counting(ledger: Ledger) -> None:
    await asker_of(ledger, says("no"), reasks=0).ask(request(), is_yes)
    teacher = says("no")
    await asker_of(ledger, teacher, reasks=2).ask(request(), is_yes)
    assert teacher.calls == 2


async def test_what_the_wire_finds_malformed_is_asked_again_too(ledger: Ledger) -> None:
    garbled = Completion(outcome=Outcome.MALFORMED, error="no choices", uncertain_attempts=1)
    good = Completion(outcome=Outcome.ANSWERED, text="A")
    left = [garbled, good]
    teacher = FakeTeacher(answer=lambda _: left.pop(0))
    assert await asker_of(ledger, teacher).ask(request()) == good
    assert outcomes(ledger) == ["malformed", "answered"]


async def test_an_answer_kept_from_before_the_check_counts_as_one_of_them(ledger: Ledger) -> None:
    await asker_of(ledger, says("no")).ask(request())
    assert outcomes(ledger) == ["answered"]
    teacher = says("no")
    assert (await asker_of(ledger, teacher).ask(request(), is_yes)).outcome is Outcome.MALFORMED
    assert teacher.calls == 2
    assert (await asker_of(ledger, teacher).ask(request(), is_yes)).outcome is Outcome.MALFORMED
    assert teacher.calls == 2
    teacher = says("yes")
    answer = await asker_of(ledger, teacher, reasks=3).ask(request(), is_yes)
    assert (answer.text, teacher.calls) == ("yes", 1)


async def test_refused_and_truncated_answers_are_not_malformed(ledger: Ledger) -> None:
    for number, outcome in enumerate((Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FILTERED)):
        ended = Completion(outcome=outcome, text="no")
        teacher = FakeTeacher(answer=lambda _, ended=ended: ended)
        assert (await asker_of(ledger, teacher).ask(request(number), is_yes)).outcome is outcome
        assert teacher.calls == 1


async def test_two_who_ask_at_once_share_every_asking(ledger: Ledger) -> None:
    teacher = says("no", "no", "yes")
    asker = asker_of(ledger, teacher)
    answers = await asyncio.gather(*(asker.ask(request(), is_yes) for _ in range(4)))
    assert {answer.text for answer in answers} == {"yes"}
    assert teacher.calls == 3


async def test_an_answer_is_kept_though_its_check_breaks(ledger: Ledger) -> None:
    def breaks(_: Completion) -> str | None:
        raise ZeroDivisionError("a bug")

    asker = asker_of(ledger, says("yes"))
    with pytest.raises(ZeroDivisionError):
        await asker.ask(request(), breaks)
    await asker.drain()
    assert outcomes(ledger) == ["answered"]


async def test_malformed_answers_of_a_task_do_not_end_the_run_early_but_the_wires_do(
    ledger: Ledger,
) -> None:
    asker = asker_of(ledger, says("no"), reasks=0)
    for number in range(30):
        await asker.ask(request(number), is_yes)
    garbled = Completion(outcome=Outcome.MALFORMED, error="no choices")
    asker = asker_of(ledger, FakeTeacher(answer=lambda _: garbled), reasks=0)
    asks = (asker.ask(request(number)) for number in range(30, 60))
    with pytest.raises(TooManyFailedError, match="no choices"):
        await asyncio.gather(*asks)
    await asker.drain()


async def test_samples_are_drawn_in_calls_of_several_choices(ledger: Ledger) -> None:
    teacher = says("yes", choices=3)
    asker = asker_of(ledger, teacher)
    await asker.ask(request(sample=1), is_yes)
    answers = await asker.ask_samples(request(), 8, is_yes)
    assert len(answers) == 8
    # Seven are missing: two calls of three, and one of one.
    assert (teacher.calls, asker.progress.calls) == (1 + 3, 1 + 3)
    recorded = [exchange for exchange in ledger.exchanges() if exchange.request.sample != 1]
    assert sorted(exchange.request.sample for exchange in recorded) == [0, 2, 3, 4, 5, 6, 7]
    assert [exchange.completion.choice for exchange in recorded] == [0, 1, 2, 0, 1, 2, 0]
    again = asker_of(ledger, teacher)
    assert await again.ask_samples(request(), 8, is_yes) == answers
    assert (teacher.calls, again.progress.cached) == (4, 8)


async def test_a_malformed_choice_is_asked_again_by_itself(ledger: Ledger) -> None:
    teacher = says("yes", "no", "yes", choices=3)
    answers = await asker_of(ledger, teacher).ask_samples(request(), 3, is_yes)
    assert [answer.text for answer in answers] == ["yes"] * 3
    assert teacher.calls == 2
    assert sorted(outcomes(ledger)) == ["answered"] * 3 + ["malformed"]


async def test_draining_says_how_many_are_waited_for(ledger: Ledger) -> None:
    seen: list[int] = []
    teacher = FakeTeacher(latency_s=0.05)
    asker = asker_of(ledger, teacher, changed=lambda progress: seen.append(progress.draining))
    asks = [asyncio.ensure_future(asker.ask(request(number))) for number in range(3)]
    await asyncio.sleep(0.01)
    for ask in asks:
        ask.cancel()
    await asker.drain()
    assert 3 in seen
    assert asker.progress.draining == 0
    assert outcomes(ledger) == ["answered"] * 3


async def test_sent_and_uncommitted_are_at_most_the_width(ledger: Ledger) -> None:
    """Where the ledger commits nothing, no more is sent than can be repeated after a kill."""
    teacher = FakeTeacher()
    asker = asker_of(ledger, teacher)
    held: list[asyncio.Future[int]] = []

    async def put(exchange: Exchange) -> asyncio.Future[int]:
        held.append(asyncio.get_running_loop().create_future())
        return held[-1]

    ledger.put = put  # type: ignore[method-assign]
    asks = [asyncio.ensure_future(asker.ask(request(number))) for number in range(30)]
    await asyncio.sleep(0.05)
    assert teacher.calls == len(held) == 8  # twice the concurrency: in flight, and uncommitted
    while not all(ask.done() for ask in asks):
        for commit in held:
            if not commit.done():
                commit.set_result(1)
        await asyncio.sleep(0)
    assert teacher.calls == 30
