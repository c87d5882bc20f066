from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from overproof.collect.canaries import Canaries, canary_of, distance
from overproof.config.running import DriftConfig
from overproof.errors import BudgetError, LedgerError
from overproof.records.drift import CANARY_SAMPLE, VersionSeen, is_canary, versions_of
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    ToolCall,
    TopLogprob,
)
from overproof.records.ledger import Ledger

EVERY = 10
START = datetime(2026, 1, 1, tzinfo=UTC)


def request(i: int, **parameters: object) -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=f"prompt {i}"),),
        parameters=Parameters.model_validate(parameters),
    )


def first_token(probability: float) -> tuple[TokenLogprob, ...]:
    top = (
        TopLogprob(token="A", logprob=math.log(probability)),
        TopLogprob(token="B", logprob=math.log(1 - probability)),
    )
    return (TokenLogprob(token="A", logprob=top[0].logprob, top=top),)


class Teacher:
    """Answers through a ledger, as an asker does, by what ``says`` makes of request and age."""

    def __init__(self, ledger: Ledger | None, says: Callable[[Request, int], Completion]) -> None:
        self.ledger, self.says = ledger, says
        self.age = 0
        self.asked: list[Request] = []
        self.hold: asyncio.Event | None = None

    async def ask(self, asked: Request, check: object = None) -> Completion:
        if self.ledger is not None and (known := self.ledger.lookup(asked.key)):
            return known.completion
        self.asked.append(asked)
        if self.hold is not None:
            await self.hold.wait()
        completion = self.says(asked, self.age)
        if self.ledger is not None:
            moment = START + timedelta(seconds=len(self.asked))
            await self.ledger.append(
                Exchange(
                    request=asked,
                    completion=completion,
                    teacher="m@here",
                    created_at=moment.isoformat(timespec="milliseconds"),
                )
            )
        return completion


def steady(asked: Request, age: int) -> Completion:
    return Completion(outcome=Outcome.ANSWERED, text=asked.messages[0].content.upper(), model="m-1")


def scattering(asked: Request, age: int) -> Completion:
    """Every asking says one of three things, as a busy server's greedy answers may."""
    digest = hashlib.sha256(f"{asked.messages}{asked.sample}".encode()).digest()
    return Completion(outcome=Outcome.ANSWERED, text="abc"[digest[0] % 3])


def changing(asked: Request, age: int) -> Completion:
    return Completion(outcome=Outcome.ANSWERED, text=f"version {age // 2}")


async def run(
    teacher: Teacher,
    rounds: int,
    *,
    ledger: Ledger | None = None,
    config: DriftConfig | None = None,
) -> tuple[Canaries, object]:
    canaries = Canaries(config or DriftConfig(canaries=4, every=EVERY), teacher.ask, ledger)
    await canaries.baseline([request(i) for i in range(20)])
    await canaries.maybe(1)
    for number in range(rounds):
        teacher.age += 1
        await canaries.maybe(1 + EVERY * (number + 1))
        if canaries._task is not None:
            await canaries._task
    return canaries, await canaries.finish()


async def test_a_steady_teacher() -> None:
    teacher = Teacher(None, steady)
    _, report = await run(teacher, 4)
    assert report.changed == "no"
    assert report.p_value == 1.0
    assert (report.canaries, report.rounds) == (4, 4)
    assert len(teacher.asked) == 4 * (2 + 4)
    assert "no proof" in " ".join(report.statements)


async def test_a_changed_teacher_is_reported() -> None:
    _, report = await run(Teacher(None, changing), 4)
    assert report.changed == "yes"
    assert report.p_value is not None
    assert report.p_value <= report.alpha == 0.01
    assert "4 of 4 differ" in " ".join(report.statements)


async def test_scatter_is_no_change() -> None:
    _, report = await run(Teacher(None, scattering), 6)
    assert report.changed == "no"
    assert report.p_value is not None
    assert report.p_value > 0.01


async def test_too_little_is_said_to_be_too_little() -> None:
    _, report = await run(Teacher(None, changing), 1)
    assert report.changed == "cannot say"
    assert report.smallest_p == pytest.approx(1 / 81)
    assert "Too little to tell" in " ".join(report.statements)
    _, report = await run(Teacher(None, steady), 0)
    assert report.changed == "cannot say"
    assert report.p_value is None


@pytest.mark.parametrize("count", [0, 4])
async def test_no_canary_where_none_is_wanted_or_the_run_is_short(count: int) -> None:
    teacher = Teacher(None, steady)
    canaries = Canaries(DriftConfig(canaries=4 - count, every=EVERY), teacher.ask)
    await canaries.baseline([request(i) for i in range(count)])
    await canaries.maybe(1000)
    report = await canaries.finish()
    assert teacher.asked == []
    assert report.changed == "cannot say"
    assert "No canary" in report.statements[-1]


async def test_canaries_are_greedy_short_and_entries_of_their_own() -> None:
    teacher = Teacher(None, steady)
    wanted = {"temperature": 0.9, "top_p": 0.5, "seed": 3, "top_logprobs": 5, "prompt_logprobs": 1}
    canaries = Canaries(DriftConfig(canaries=3, every=EVERY), teacher.ask)
    pool = [request(i, max_tokens=500, **wanted) for i in range(12)]
    await canaries.baseline(list(reversed(pool)))
    asked = teacher.asked
    assert {each.sample for each in asked} == {CANARY_SAMPLE, CANARY_SAMPLE + 1}
    assert len({each.key for each in asked}) == 6
    for each in asked:
        assert is_canary(each)
        assert each.parameters == Parameters(max_tokens=64, temperature=0.0, top_logprobs=5)
    chosen = sorted(pool, key=lambda each: each.key)[:3]
    assert {each.messages for each in asked} == {each.messages for each in chosen}
    assert not is_canary(pool[0])
    assert canary_of(request(1, max_tokens=1)).parameters.max_tokens == 1


async def test_a_round_runs_beside_the_collection_one_at_a_time() -> None:
    teacher = Teacher(None, steady)
    canaries = Canaries(DriftConfig(canaries=2, every=EVERY), teacher.ask)
    await canaries.baseline([request(i) for i in range(20)])
    await canaries.maybe(1)
    teacher.hold = asyncio.Event()
    await canaries.maybe(11)  # returns though nobody has answered
    await asyncio.sleep(0.01)
    assert len(teacher.asked) == 4 + 2
    await canaries.maybe(31)
    await asyncio.sleep(0.01)
    assert len(teacher.asked) == 4 + 2
    teacher.hold.set()
    report = await canaries.finish()  # 20 calls since the last round: one more
    assert len(teacher.asked) == 4 + 2 + 2
    assert report.rounds == 2


async def test_logprobs_betray_a_change_that_the_text_hides() -> None:
    def shifting(asked: Request, age: int) -> Completion:
        wobble = int(asked.key[-3:], 16) / 4096 / 100
        probability = 0.8 + wobble - (0.05 if age > 2 else 0)
        return Completion(outcome=Outcome.ANSWERED, text="A", logprobs=first_token(probability))

    _, report = await run(Teacher(None, shifting), 5)
    assert report.changed == "yes"


def test_distances() -> None:
    def said(text: str = "A", probability: float | None = None, **more: object) -> Completion:
        logprobs = None if probability is None else first_token(probability)
        return Completion(outcome=Outcome.ANSWERED, text=text, logprobs=logprobs, **more)

    assert distance(said("A"), said("A")) == (0.0, 0.0)
    assert distance(said("A"), said("B")) == (1.0, 0.0)
    assert distance(said("A"), said("A", tool_calls=(ToolCall(name="f"),)))[0] == 1.0
    assert distance(said(probability=0.7), said(probability=0.6))[1] == pytest.approx(0.1)
    refused = Completion(outcome=Outcome.REFUSED, text="A")
    assert distance(said("A"), refused)[0] == 1.0


async def test_a_resumed_run_goes_on_with_its_baseline(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, write=True) as ledger:
        teacher = Teacher(ledger, changing)
        await run(teacher, 2, ledger=ledger)
        assert len(teacher.asked) == 4 * 4
    with Ledger.open(path, write=True) as ledger:
        resumed = Teacher(ledger, changing)
        resumed.age = 2
        canaries = Canaries(DriftConfig(canaries=4, every=EVERY), resumed.ask, ledger)
        # The prompts have grown meanwhile; the canaries stay.
        await canaries.baseline([request(i) for i in range(40)])
        assert resumed.asked == []
        await canaries.maybe(1)
        await canaries.maybe(11)
        report = await canaries.finish()
        assert {each.sample for each in resumed.asked} == {CANARY_SAMPLE + 4}
        assert report.rounds == 3
        assert report.changed == "yes"
        notes = list(ledger.notes("drift"))
        assert [note["rounds"] for note in notes] == [2, 3]
        assert notes[-1]["statements"] == list(report.statements)
        assert len(list(ledger.notes("canaries"))) == 1
        assert ledger.verify().ok


async def test_another_model_in_the_same_ledger_gets_canaries_of_its_own(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        teacher = Teacher(ledger, steady)
        await run(teacher, 1, ledger=ledger)
        canaries = Canaries(DriftConfig(canaries=2, every=EVERY), teacher.ask, ledger)
        others = [Request(model="n", messages=request(i).messages) for i in range(20)]
        before = len(teacher.asked)
        await canaries.baseline(others)
        assert {each.model for each in teacher.asked[before:]} == {"n"}
        await canaries.finish()


async def test_a_spent_budget_stops_only_the_canaries() -> None:
    def spent(asked: Request, age: int) -> Completion:
        if age >= 2:
            raise BudgetError("budget.max_calls", "is reached", "raise it")
        return steady(asked, age)

    teacher = Teacher(None, spent)
    _, report = await run(teacher, 4)
    assert len(teacher.asked) == 4 * 4  # the third asking fails, and there is no fourth
    assert "budget.max_calls: is reached" in report.statements[0]
    broken = Teacher(None, lambda asked, age: (_ for _ in ()).throw(LedgerError("l", "is full")))
    with pytest.raises(LedgerError):
        await run(broken, 1)


async def test_failed_askings_are_missing_and_no_change() -> None:
    def failing(asked: Request, age: int) -> Completion:
        if age == 2:
            return Completion(outcome=Outcome.FAILED, error="HTTP 500")
        return steady(asked, age)

    _, report = await run(Teacher(None, failing), 4)
    assert report.changed == "no"
    _, report = await run(
        Teacher(None, lambda asked, age: Completion(outcome=Outcome.FAILED, error="x")), 4
    )
    assert report.changed == "cannot say"


def exchange(second: int, model: str | None, fingerprint: str | None, **more: object) -> Exchange:
    given = {"source": "collected", "outcome": Outcome.ANSWERED} | more
    return Exchange(
        request=request(second),
        completion=Completion(
            outcome=given["outcome"], model=model, system_fingerprint=fingerprint
        ),
        teacher="m@here",
        created_at=(START + timedelta(seconds=second)).isoformat(timespec="milliseconds"),
        source=str(given["source"]),
    )


async def _versions_report(tmp_path: Path, exchanges: list[Exchange]) -> tuple[str, str]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        for each in exchanges:
            await ledger.append(each)
        report = await Canaries(DriftConfig(canaries=0), Teacher(None, steady).ask, ledger).finish()
    return report.changed, " ".join(report.statements)


async def test_versions_are_facts(tmp_path: Path) -> None:
    def report(name: str, *exchanges: Exchange) -> asyncio.Future[tuple[str, str]]:
        (tmp_path / name).mkdir()
        return asyncio.ensure_future(_versions_report(tmp_path / name, list(exchanges)))

    same = [exchange(i, "m-1", "fp1") for i in range(4)]
    assert (await report("same", *same))[0] == "cannot say"
    changed, said = await report("model", *same, exchange(9, "m-2", "fp1"))
    assert changed == "yes"
    assert "m-2 (fp1): 1 answers" in said
    changed, said = await report("print", *same, exchange(9, "m-1", "fp2"))
    assert changed == "yes"
    assert "changed its fingerprint" in said
    turns = [exchange(i, "m-1", f"fp{i % 2}") for i in range(6)]
    changed, said = await report("turns", *turns)
    assert changed == "cannot say"
    assert "several machines" in said
    nameless = [*same, exchange(5, None, None), exchange(6, "m-1", "fp1")]
    assert (await report("nameless", *nameless))[0] == "cannot say"


def test_versions_of_a_ledger() -> None:
    exchanges = [
        exchange(3, "m-1", "a"), exchange(1, "m-1", "a"), exchange(2, "m-2", None),
        exchange(4, "old", "x", source="imported:file"),
        exchange(5, None, None, outcome=Outcome.FAILED),
    ]  # fmt: skip
    found = versions_of(exchanges)
    assert [(v.model, v.fingerprint, v.answers) for v in found] == [
        ("m-1", "a", 2), ("m-2", None, 1)
    ]  # fmt: skip
    assert isinstance(found[0], VersionSeen)
    assert found[0].first.startswith("2026-01-01T00:00:01")
    assert found[0].last.startswith("2026-01-01T00:00:03")
    assert versions_of([]) == ()
