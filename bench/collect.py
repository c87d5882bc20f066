"""Calls a second: python bench/collect.py [--quick] [--json] [--peer-python NAME=PATH ...].

A server in its own process answers after 50 ± 20 ms (``latency_server.py``). It is asked by a bare
client (aiohttp and nothing else: post, read, parse), by overproof's whole road (asker, budget,
ledger on disk, OpenAI client), and by the peers that are installed, each in an environment of its
own: ``--peer-python distill_slm=…/bin/python``, ``--peer-python curator=…/bin/python`` (run as
``peers/NAME.py`` says). All in one run, in turns, each asking 10,000 prompts at 8, 32 and 128 in
flight.

Targets: 95 % of the bare client's calls a second at 8 and 32 in flight and 90 % at 128; one second
of CPU for 1,000 calls, the ledger's thread included; and as many calls in the first second as the
bare client makes, to the same share. The ceiling that the latency sets is in_flight / 0.05 s. A
peer's calls are timed by the server, from its first to its last, so that starting up costs it
nothing; ours and the bare client's by a clock around everything, opening and closing included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.secrets import redaction_of
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.garbage import rare_collections
from overproof.config.load import parse_recipe
from overproof.records.exchange import Message, Outcome, Parameters, Request
from overproof.records.ledger import Ledger
from overproof.records.redact import Redactor

HERE = Path(__file__).resolve().parent
IN_FLIGHT = (8, 32, 128)
SHARE = {8: 0.95, 32: 0.95, 128: 0.90}
PROMPT = "a film that says what it means and means it. " * 12
CPU_TARGET_S = 1.0
MEAN_LATENCY_S = 0.05
KEY_VARIABLE = "BENCH_COLLECT_KEY"  # a run has a key, and keeps it out of its ledger


@dataclass
class Run:
    """What one client did in one turn, or in all of them."""

    calls: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    first_second: list[int] = field(default_factory=list)
    why: str = ""

    @property
    def rate(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0

    def add(self, other: Run) -> None:
        self.calls += other.calls
        self.seconds += other.seconds
        self.cpu_s += other.cpu_s
        self.first_second += other.first_second


class Server:
    """The server's process."""

    def __init__(self, home: Path) -> None:
        port_file = home / "port"
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "latency_server.py"), str(port_file)]
        )
        for _ in range(600):
            if port_file.exists():
                break
            time.sleep(0.05)
        self.root = f"http://127.0.0.1:{port_file.read_text()}"
        self.url = self.root + "/v1"

    def told(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.root + path) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class Clock:
    """Counts answers, those of the first second apart."""

    def __init__(self) -> None:
        self.answers = self.first_second = 0
        self.started, self.cpu = time.perf_counter(), time.process_time()

    def tick(self) -> None:
        self.answers += 1
        if time.perf_counter() - self.started < 1.0:
            self.first_second += 1

    def stop(self) -> Run:
        seconds = time.perf_counter() - self.started
        return Run(self.answers, seconds, time.process_time() - self.cpu, [self.first_second])


async def crowd(numbers: Iterator[int], work: Callable[[int], Awaitable[None]], width: int) -> None:
    """Do ``work`` on every number, ``width`` at a time."""

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(width)))


async def bare(url: str, numbers: range, in_flight: int) -> Run:
    """As little as a client can do."""
    clock = Clock()
    target = url + "/chat/completions"
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {os.environ[KEY_VARIABLE]}",
    }
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def call(number: int) -> None:
            body = {
                "model": "served-model",
                "messages": [{"role": "user", "content": f"Review {number}: {PROMPT}"}],
                "max_tokens": 256,
            }
            async with session.post(
                target, data=json.dumps(body).encode(), headers=headers
            ) as response:
                answer = json.loads(await response.read())
            if answer["choices"][0]["message"]["content"]:
                clock.tick()

        await crowd(iter(numbers), call, in_flight)
    return clock.stop()


def recipe(url: str, in_flight: int) -> str:
    return f"""
        [run]
        name = "bench"
        dir = "run"
        [data]
        file = "data.csv"
        [task]
        labels = ["yes", "no"]
        [teacher]
        kind = "openai"
        model = "served-model"
        base_url = "{url}"
        api_key_env = "{KEY_VARIABLE}"
        concurrency = {in_flight}
        [teacher.price]
        input = 0.15
        output = 0.6
        [teacher.terms]
        training = "allowed"
        licence = "none"
        """


async def ours(url: str, numbers: range, in_flight: int, home: Path) -> Run:
    """The whole road of a request: asker, budget, client, and its commit in the ledger."""
    said = parse_recipe(recipe(url, in_flight))
    path = home / f"ledger-{in_flight}-{numbers.start}.sqlite"
    clock = Clock()
    redactor = Redactor(redaction_of(said.teacher))
    with Ledger.open(path, write=True, queue_size=in_flight, redactor=redactor) as ledger:
        async with OpenAICompatibleTeacher(said.teacher) as teacher:
            asker = Asker(said, teacher, ledger, check_terms(said.teacher))

            async def call(number: int) -> None:
                request = Request(
                    model=teacher.model,
                    messages=(Message(role="user", content=f"Review {number}: {PROMPT}"),),
                    parameters=Parameters(max_tokens=256),
                )
                completion = await asker.ask(request)
                if completion.outcome is Outcome.ANSWERED:
                    clock.tick()

            await crowd(iter(numbers), call, said.teacher.width)
            await asker.drain()
    run = clock.stop()
    if run.calls != len(numbers):
        raise RuntimeError(f"{run.calls} of {len(numbers)} prompts have an answer")
    return run


def peer(name: str, python: str, server: Server, numbers: range, in_flight: int) -> Run:
    """A peer under its own Python, timed by the server."""
    server.told("/reset")
    with tempfile.TemporaryDirectory() as home:
        prompts, out = Path(home) / "prompts.json", Path(home) / "answers.json"
        prompts.write_text(json.dumps([f"Review {number}: {PROMPT}" for number in numbers]))
        before = os.times()
        ended = subprocess.run(
            [
                python,
                str(HERE / "peers" / f"{name}.py"),
                server.url,
                str(prompts),
                str(out),
                str(in_flight),
                home,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        after = os.times()
        if ended.returncode != 0:
            said = ended.stderr.strip().splitlines() or ["it says nothing"]
            return Run(why=f"it ended with: {' '.join(said[-3:])[:200]}")
        answers = json.loads(out.read_text())
    told = server.told("/stats")
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return Run(sum(answer is not None for answer in answers), told["seconds"], cpu_s)


def measure(
    server: Server, home: Path, turns: dict[int, list[range]], peers: dict[str, str]
) -> dict[int, dict[str, Run]]:
    """Everybody in turns, so that what else the machine does meets all of them."""
    found: dict[int, dict[str, Run]] = {}
    asyncio.run(bare(server.url, range(200), 8))  # imports, caches
    asyncio.run(ours(server.url, range(200), 8, home))
    for in_flight, parts in turns.items():
        runs = found[in_flight] = {"bare": Run(), "ours": Run()}
        for turn, numbers in enumerate(parts):
            order = ["bare", "ours"] if turn % 2 == 0 else ["ours", "bare"]
            for who in order:
                gc.collect()
                if who == "bare":
                    runs[who].add(asyncio.run(bare(server.url, numbers, in_flight)))
                else:
                    with rare_collections():  # as the commands do
                        runs[who].add(asyncio.run(ours(server.url, numbers, in_flight, home)))
        whole = range(parts[0].start, parts[-1].stop)
        for name, python in peers.items():
            runs[name] = peer(name, python, server, whole, in_flight)
    return found


def rows_of(found: dict[int, dict[str, Run]], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for in_flight, runs in found.items():
        one, other = runs["ours"], runs["bare"]
        share = SHARE[in_flight]
        beside = {name: column(name, runs.get(name)) for name in names}
        bare_column = {"name": "bare client", "value": round(other.rate, 1), "unit": "1/s"}
        where = f"at {in_flight} in flight"
        rows += [
            row(f"calls a second {where}", one.rate, share * other.rate, "1/s",
                peers=[bare_column, *beside.values()]),
            row(f"share of the bare client's calls {where}", one.rate / other.rate, share, ""),
            row(f"CPU for 1,000 calls {where}", 1000 * one.cpu_s / one.calls, CPU_TARGET_S, "s",
                lower=True, peers=[{"name": "bare client", "unit": "s",
                                    "value": round(1000 * other.cpu_s / other.calls, 3)}]),
            row(f"calls in the first second {where}, share of the bare client's",
                sum(one.first_second) / max(sum(other.first_second), 1), share, ""),
            row(f"share of what the latency allows {where}",
                one.rate * MEAN_LATENCY_S / in_flight, None, "",
                peers=[{"name": "bare client", "unit": "",
                        "value": round(other.rate * MEAN_LATENCY_S / in_flight, 3)}]),
        ]  # fmt: skip
    return rows


def column(name: str, run: Run | None) -> dict[str, Any]:
    """A peer's calls a second, or why there are none."""
    if run is None:
        return {"name": name, "value": None, "why": f"run with --peer-python {name}=PATH"}
    if run.why:
        return {"name": name, "value": None, "why": run.why}
    return {"name": name, "value": round(run.rate, 1), "unit": "1/s"}


def row(
    metric: str,
    value: float,
    target: float | None,
    unit: str,
    *,
    lower: bool = False,
    peers: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    met = None
    if target is not None:
        met = value <= target if lower else value >= target
    found: dict[str, Any] = {
        "metric": metric,
        "value": round(value, 1 if abs(value) >= 10 else 3),
        "target": None if target is None else round(target, 3),
        "unit": unit,
        "met": met,
        "peer": peers or None,
    }
    if target is None:
        found["why"] = "told beside the rest; it has no target"
    return found


def parts_of(size: int, turns: int) -> list[range]:
    step = size // turns
    return [range(1000 + step * turn, 1000 + step * (turn + 1)) for turn in range(turns)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer calls: 1,600, 4,800 and 12,000")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", type=int, choices=IN_FLIGHT, help="one number in flight alone")
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="NAME=PATH", help="see above"
    )
    options = parser.parse_args()
    sizes = {8: 1600, 32: 4800, 128: 12_000} if options.quick else dict.fromkeys(IN_FLIGHT, 10_000)
    if options.only:
        sizes = {options.only: sizes[options.only]}
    turns = {in_flight: parts_of(size, 4) for in_flight, size in sizes.items()}
    peers = dict(pair.split("=", 1) for pair in options.peer_python)
    os.environ[KEY_VARIABLE] = "sk-bench-0123456789abcdefghijklmnop"
    with tempfile.TemporaryDirectory() as home:
        server = Server(Path(home))
        with contextlib.ExitStack() as stack:
            stack.callback(server.stop)
            found = measure(server, Path(home), turns, peers)
            told = server.told("/stats")
    rows = rows_of(found, ["curator", "distill_slm"])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"bench": "collect", "machine": machine, "rows": rows}))
        return
    print(machine)
    print(f"server: {1e6 * told['cpu_s'] / max(told['calls'], 1):.0f} µs of CPU a call")
    for item in rows:
        met = {True: "met", False: "MISSED", None: ""}[item["met"]]
        beside = "; ".join(f"{p['name']} {p['value'] or p['why']}" for p in item["peer"] or [])
        target = "" if item["target"] is None else f"target {item['target']:,}"
        print(
            f"{item['metric']:<66} {item['value']:>9,} {item['unit']:<4} {target} {met}  {beside}"
        )


if __name__ == "__main__":
    main()
