"""A collector to be killed: python mortal_collector.py LEDGER URL REQUESTS CONCURRENCY.

For each line on its input it forks a child that collects, so that only the first one pays for the
imports. It prints ``life PID`` for a child, the child prints ``done NUMBER`` after each answer that
was committed, and ``end STATUS`` follows when the child is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from overproof.clients.connect import connect
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.config.load import parse_recipe
from overproof.records.exchange import Message, Parameters, Request
from overproof.records.ledger import Ledger

RECIPE = """
[run]
name = "mortal"
dir = "run"
[data]
file = "data.csv"
[task]
labels = ["yes", "no"]
[drift]
canaries = 0
[teacher]
kind = "openai"
model = "m"
base_url = "{url}"
concurrency = {concurrency}
[teacher.terms]
training = "attested"
attestation = "it is a test"
"""


def request(number: int) -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=f"question {number}"),),
        parameters=Parameters(max_tokens=4),
    )


async def collect(path: Path, url: str, requests: int, concurrency: int) -> None:
    recipe = parse_recipe(RECIPE.format(url=url, concurrency=concurrency))
    numbers = iter(range(requests))
    with Ledger.open(path, write=True, queue_size=concurrency) as ledger:
        async with connect(recipe.teacher) as teacher:
            asker = Asker(recipe, teacher, ledger, check_terms(recipe.teacher))

            async def worker() -> None:
                for number in numbers:
                    asked = asker.progress.calls
                    await asker.ask(request(number))
                    if asker.progress.calls > asked:
                        os.write(1, b"done %d\n" % number)

            await asyncio.gather(*(worker() for _ in range(2 * concurrency)))
            await asker.drain()


def main() -> None:
    path, url, requests, concurrency = sys.argv[1:]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(collect(Path(path), url, int(requests), int(concurrency)))
                status = 0
            finally:
                os._exit(status)
        os.write(1, b"life %d\n" % child)
        _, status = os.waitpid(child, 0)
        os.write(1, b"end %d\n" % status)


if __name__ == "__main__":
    main()
