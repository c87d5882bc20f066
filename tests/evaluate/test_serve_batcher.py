from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from overproof.evaluate.batcher import BusyError, MicroBatcher


def upper(texts: Sequence[str]) -> list[str]:
    return [text.upper() for text in texts]


async def test_more_texts_than_a_batch_come_back_in_order() -> None:
    sizes: list[int] = []

    def run(texts: Sequence[str]) -> list[str]:
        sizes.append(len(texts))
        return upper(texts)

    async with MicroBatcher(run, max_batch=4) as batcher:
        assert await batcher.ask(list("abcdefghij")) == list("ABCDEFGHIJ")
    assert sizes == [4, 4, 2]


async def test_the_event_loop_is_never_blocked() -> None:
    loop_moved = threading.Event()

    def run(texts: Sequence[str]) -> list[str]:
        assert loop_moved.wait(10)
        return upper(texts)

    async with MicroBatcher(run) as batcher:
        asked = asyncio.create_task(batcher.ask(["a"]))
        await asyncio.sleep(0.02)
        loop_moved.set()
        assert await asked == ["A"]


async def test_an_error_reaches_everyone_in_the_batch_and_nobody_else() -> None:
    def run(texts: Sequence[str]) -> list[str]:
        if "bad" in texts:
            raise ValueError("bad text")
        return upper(texts)

    async with MicroBatcher(run, max_wait_s=0.05) as batcher:
        answers = await asyncio.gather(
            batcher.ask(["good", "bad"]), batcher.ask(["good"]), return_exceptions=True
        )
        assert [str(answer) for answer in answers] == ["bad text", "bad text"]
        assert await batcher.ask(["good"]) == ["GOOD"]


async def test_a_client_that_leaves_frees_its_place() -> None:
    seen: list[str] = []

    def run(texts: Sequence[str]) -> list[str]:
        seen.extend(texts)
        return upper(texts)

    async with MicroBatcher(run, max_wait_s=0.05, max_queued=1) as batcher:
        leaving = asyncio.create_task(batcher.ask(["left"]))
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await batcher.ask(["early"])
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert await batcher.ask(["stays"]) == ["STAYS"]
    assert seen == ["stays"]


async def test_closing_ends_who_still_waits() -> None:
    release = threading.Event()

    def run(texts: Sequence[str]) -> list[str]:
        release.wait(10)
        return upper(texts)

    async with MicroBatcher(run, max_batch=1) as batcher:
        waiting = [asyncio.create_task(batcher.ask([text])) for text in "abc"]
        await asyncio.sleep(0.02)
    release.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
