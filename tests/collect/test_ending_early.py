"""A run that ends before its end: nothing more is sent, and what failed is said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from collecting import use
from texting import collected, last, recipe, says

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Meter
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.budget import Budget
from overproof.collect.meter import RequestMeter
from overproof.errors import BudgetError, TooManyFailedError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request
from overproof.records.ledger import Ledger

ROWS = [{"text": f"{chr(97 + i % 26) * 7} {i * 7919} please"} for i in range(120)]


def asked(number: int) -> Request:
    return Request(
        model="fake",
        messages=(Message(role="user", content=f"prompt {number}"),),
        parameters=Parameters(max_tokens=8),
    )


async def test_once_a_run_is_ending_nothing_more_is_sent(tmp_path: Path) -> None:
    release = asyncio.Event()

    class Slow(FakeTeacher):
        async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
            self.calls += 1
            await release.wait()
            return says("fine")(request)

    loaded = recipe(tmp_path)
    teacher = Slow()
    with Ledger.open(tmp_path / "l.sqlite", write=True) as ledger:
        asker = Asker(loaded.recipe, teacher, ledger, check_terms(loaded.recipe.teacher))
        asks = [asyncio.ensure_future(asker.ask(asked(n))) for n in range(40)]
        await asyncio.sleep(0.05)
        sent = teacher.calls
        assert sent == loaded.recipe.teacher.width
        told = []
        asker._changed = lambda progress: told.append(progress.draining)
        draining = asyncio.ensure_future(asker.drain())
        await asyncio.sleep(0.05)
        release.set()
        await draining
        await asyncio.gather(*asks, return_exceptions=True)
        assert teacher.calls == sent
        assert max(told) == sent  # only what was sent is waited for
        assert len(ledger) == sent


async def test_a_request_that_waits_for_its_retry_holds_no_place(tmp_path: Path) -> None:
    places = asyncio.Semaphore(1)
    with Ledger.open(tmp_path / "l.sqlite", write=True) as ledger:
        budget = Budget(recipe(tmp_path).recipe, ledger)
        meter = RequestMeter(budget, asked(0), places=places)
        await meter.resume()
        assert places.locked()
        meter.pause()
        assert not places.locked()
        await meter.resume()
        assert places.locked()
        meter.leave()
        meter.leave()  # once is enough
        await places.acquire()
        assert places.locked()


def test_a_run_that_is_given_up_lists_its_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Completion:
        if int(last(request).split()[1]) % 2:
            return Completion(outcome=Outcome.FAILED, status=402, error="HTTP 402: pay")
        return says("fine")(request)

    use(monkeypatch, FakeTeacher(answer=answer))
    loaded = recipe(tmp_path, "[drift]\ncanaries = 0\n", rows=ROWS)
    with pytest.raises(TooManyFailedError) as caught:
        collected(loaded)
    assert caught.value.outcomes["so far"]["failed"] >= 20
    failures = [json.loads(x) for x in (loaded.run_dir / "failed.jsonl").read_text().splitlines()]
    assert len(failures) >= 20
    assert all(each["reason"] == "HTTP 402: pay" for each in failures)
    assert all(each["text"] in {row["text"] for row in ROWS} for each in failures)


def test_a_cap_ends_a_run_with_a_count_of_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeTeacher(answer=says("fine")))
    loaded = recipe(tmp_path, "[drift]\ncanaries = 0\n[budget]\nmax_calls = 7\n", rows=ROWS)
    with pytest.raises(BudgetError) as caught:
        collected(loaded)
    assert caught.value.outcomes == {"so far": {"answered": 7}}
    assert not (loaded.run_dir / "failed.jsonl").exists()
