"""Collecting through a batch API: one switch in the recipe, stopped and picked up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from collecting import RECIPE, make_recipe
from fake_batches import FakeOpenAIBatches, Fate

from overproof.collect.collect import collect
from overproof.config.load import LoadedRecipe
from overproof.records.dataset import DatasetManifest
from overproof.records.exchange import Outcome
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

TEACHER = """\
kind = "openai"
model = "fake"
base_url = "{url}/v1"
top_logprobs = 5
supports_prefill = false
batch = true
batch_size = 40
batch_poll_s = 0.02
price = {{ input = 2.0, output = 4.0 }}
terms = {{ training = "allowed", licence = "ours" }}
"""
COLLECT = """\
import asyncio, sys
from pathlib import Path
from overproof.collect.collect import collect
from overproof.config.load import load_recipe
asyncio.run(collect(load_recipe(Path(sys.argv[1]))))
"""


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAIBatches]:
    server = FakeOpenAIBatches()
    await server.start()
    yield server
    await server.stop()


def batch_recipe(directory: Path, server: FakeOpenAIBatches, more: str = "") -> LoadedRecipe:
    before, after = RECIPE.split('kind = "fake"\nmodel = "fake"\n')
    return make_recipe(directory, before + TEACHER.format(url=server.url) + after + more)


def answers_of(loaded: LoadedRecipe) -> list[tuple[Outcome, float | None, str | None]]:
    with Ledger.open(RunPaths(loaded.run_dir).ledger) as ledger:
        assert ledger.verify().ok
        return [(e.completion.outcome, e.cost_usd, e.completion.batch) for e in ledger.exchanges()]


async def collected(loaded: LoadedRecipe) -> DatasetManifest:
    async with asyncio.timeout(30):
        return await collect(loaded)


async def test_a_recipe_goes_through_batches_at_half_the_price(
    tmp_path: Path, server: FakeOpenAIBatches
) -> None:
    loaded = batch_recipe(tmp_path, server)
    manifest = await collected(loaded)
    assert manifest.outcomes["train"] == {"answered": 60}
    assert set(server.accepted.values()) == {1}
    assert max(len(items) for items in server.items.values()) == 40
    answers = answers_of(loaded)
    assert len(answers) == server.accepted.total()
    assert {batch for _, _, batch in answers} == set(server.batches)
    for outcome, cost, _ in answers:
        assert outcome is Outcome.ANSWERED
        assert cost == pytest.approx((10 * 2.0 + 1 * 4.0) / 1e6 / 2)


async def interrupted(loaded: LoadedRecipe, server: FakeOpenAIBatches) -> None:
    """Collect, and be interrupted while a batch is under way."""
    server.hold = True
    run = asyncio.create_task(collect(loaded))
    async with asyncio.timeout(10):
        while not server.batches:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    began = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - began < 10, "it waits for nothing"
    server.hold = False


async def test_an_interrupted_batch_is_picked_up_and_no_failure_is_recorded(
    tmp_path: Path, server: FakeOpenAIBatches
) -> None:
    loaded = batch_recipe(tmp_path, server)
    await interrupted(loaded, server)
    assert answers_of(loaded) == []
    await collected(loaded)
    assert set(server.accepted.values()) == {1}
    assert {outcome for outcome, _, _ in answers_of(loaded)} == {Outcome.ANSWERED}


async def test_an_interrupted_batch_fits_into_a_cap_that_just_suffices(
    tmp_path: Path, server: FakeOpenAIBatches
) -> None:
    calls = 60 + 12 + 20 + 10 + 10
    loaded = batch_recipe(tmp_path, server, f"[budget]\nmax_calls = {calls}\n")
    await interrupted(loaded, server)
    await collected(loaded)
    assert server.accepted.total() == calls


async def test_expiry_and_passing_errors_leave_no_gap(
    tmp_path: Path, server: FakeOpenAIBatches
) -> None:
    loaded = batch_recipe(tmp_path, server)
    server.fates = [Fate(word="expired", only=10), Fate(word="cancelled", only=40)]
    server.creates = ["lost", (429, {"Retry-After": "0"})]
    manifest = await collected(loaded)
    assert manifest.outcomes["train"] == {"answered": 60}
    assert {outcome for outcome, _, _ in answers_of(loaded)} == {Outcome.ANSWERED}


@pytest.mark.slow
async def test_killed_at_random_moments_nothing_is_submitted_twice(
    tmp_path: Path, server: FakeOpenAIBatches
) -> None:
    loaded = batch_recipe(tmp_path, server)
    server.looks = 4
    rng = random.Random(0)
    script = tmp_path / "collect.py"
    script.write_text(COLLECT)
    kills = 0
    for _ in range(30):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(tmp_path), env={**os.environ}
        )
        count = len(server.seen)
        async with asyncio.timeout(30):  # the start of Python is no moment to be killed in
            while process.returncode is None and len(server.seen) == count:
                await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(rng.uniform(0.0, 0.4)):
                assert await process.wait() == 0
                break
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            kills += 1
    else:
        await collected(loaded)
    assert kills >= 1
    assert set(server.accepted.values()) == {1}
    assert len(answers_of(loaded)) == server.accepted.total()
