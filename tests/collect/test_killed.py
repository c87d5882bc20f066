"""kill -9 at any moment loses no committed answer, and repeats no more than was in the air."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from counting_server import CountingServer, last_words
from mortal_collector import RECIPE, request

from overproof.clients.connect import connect
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.config.load import parse_recipe
from overproof.records.ledger import Ledger

KILLS = 50
CONCURRENCY = 16
REQUESTS = 2000
MOST_BEFORE_A_KILL = 25
MOST_AFTER_IT_S = 0.01
SUPPORT = Path(__file__).parent.parent / "support"


@contextmanager
def helper(path: Path, url: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """A process that forks a collector for each line it is told; what to tell it, what it says."""
    words = [str(path), url, str(REQUESTS), str(CONCURRENCY)]
    command = [sys.executable, str(SUPPORT / "mortal_collector.py"), *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.stdin.close()


def live(
    told: IO[str], said: IO[str], answers: int | None, seconds: float = 0.0
) -> tuple[list[int], bool]:
    """One life, ended by SIGKILL so long after so many answers, ``None`` for a natural end.

    Returns:
        Numbers of the requests whose answers were reported as committed, and whether the child
        came to its natural end.
    """
    told.write("go\n")
    done: list[int] = []
    child = 0
    for line in said:
        word, number = line.split()
        if word == "life":
            child = int(number)
        elif word == "done":
            done.append(int(number))
        else:
            return done, int(number) == 0
        if child and answers is not None and len(done) >= answers:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            answers = None
    raise AssertionError("the helper ended")


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_repeat_little(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    chance = random.Random(20261123)
    committed: set[int] = set()
    kills = 0
    repeats: list[int] = []
    with CountingServer() as server, helper(path, server.url) as (told, said):
        for _ in range(KILLS):
            answers, after = (
                chance.randrange(MOST_BEFORE_A_KILL),
                chance.uniform(0, MOST_AFTER_IT_S),
            )
            before = server.repeats
            done, ended = live(told, said, answers, after)
            kills += not ended
            repeats.append(server.repeats - before)
            assert not committed & set(done), "a committed answer was asked for again"
            committed |= set(done)
            if not path.exists():  # killed before there was a ledger
                continue
            with Ledger.open(path) as ledger:
                report = ledger.verify()
                assert report.ok, report.problems
                there = {entry.key for entry in ledger.entries()}
            lost = [number for number in done if request(number).key not in there]
            assert not lost
        assert kills == KILLS, "the work was done too soon"
        done, ended = live(told, said, None)
        assert ended
        with Ledger.open(path) as ledger:
            assert ledger.verify().ok
            assert all(ledger.lookup(request(n).key) for n in range(REQUESTS))
            assert len(ledger) == REQUESTS
        assert len(server.came) == REQUESTS
        # Each kill can lose what was in flight and what was received but not committed.
        assert max(repeats) <= CONCURRENCY + CONCURRENCY
        assert server.most_in_flight <= 2 * CONCURRENCY
        print(f"\n{KILLS} kills, {REQUESTS} requests, {server.repeats} repeats")


async def test_identical_requests_in_flight_are_sent_once(tmp_path: Path) -> None:
    with CountingServer(answer=last_words) as server:
        recipe = parse_recipe(RECIPE.format(url=server.url, concurrency=8))
        with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
            async with connect(recipe.teacher) as teacher:
                asker = Asker(recipe, teacher, ledger, check_terms(recipe.teacher))
                completions = await asyncio.gather(
                    *(asker.ask(request(number % 4)) for number in range(40))
                )
                again = [await asker.ask(request(number)) for number in range(4)]
                await asker.drain()
            assert [c.text for c in completions] == [f"question {n % 4}" for n in range(40)]
            assert [c.text for c in again] == [c.text for c in completions[:4]]
            assert len(ledger) == 4
        assert sorted(server.came.values()) == [1, 1, 1, 1]
