"""Speed and size of the ledger: python bench/ledger.py [--quick] [--json].

Targets: an asker with 32 requests in flight against a teacher that answers in 0.1 s makes 320
calls a second, so 320 appends a second keep the ledger out of its way; a look-up is on the path of
every request, and 1 ms of it is 1 % of such a call; a million exchanges shall be verified within
five minutes. A collector has one CPU second for 1,000 calls, of which the ledger may take a fifth
at 128 in flight, where commits are shared. An answer waits for its commit at most 20 ms, one fsync
and a turn of the event loop. The peer commits each exchange by itself, with the same file, sealing
and durability.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import seal_exchange
from overproof.records.ledger_file import INSERT, connect, last_row, row_values
from overproof.records.ledger_merge import merge_ledgers

IN_FLIGHT = 32
TOP = 20


class Load(NamedTuple):
    """Appends a second, CPU seconds a thousand of them, and milliseconds that 99 % wait less."""

    rate: float
    cpu_s: float
    wait_ms: float


def exchange(number: int) -> Exchange:
    """A label request of some 600 characters, answered by one token with 20 alternatives."""
    prompt = f"Review {number}: " + "a film that says what it means and means it. " * 12
    top = tuple(TopLogprob(token=f" {chr(65 + k)}", logprob=-0.37 * k - 0.1) for k in range(TOP))
    return Exchange(
        request=Request(
            model="bench",
            messages=(
                Message(role="system", content="Answer with one letter."),
                Message(role="user", content=prompt),
            ),
            parameters=Parameters(max_tokens=1, temperature=0.0, top_logprobs=TOP),
        ),
        completion=Completion(
            outcome=Outcome.ANSWERED,
            text=" A",
            finish_reason="length",
            logprobs=(TokenLogprob(token=" A", logprob=-0.1, top=top),),
            usage=Usage(input_tokens=150, output_tokens=1),
            latency_s=0.1,
        ),
        teacher="bench",
        created_at="2026-01-01T00:00:00+00:00",
        cost_usd=0.0001,
    )


async def append_all(ledger: Ledger, exchanges: list[Exchange]) -> float:
    """Seconds to append everything with 32 appends in flight."""
    source = iter(exchanges)

    async def work() -> None:
        for item in source:
            await ledger.append(item)

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - start


async def under_load(ledger: Ledger | None, exchanges: list[Exchange], width: int) -> Load:
    """Append what a teacher answers in 50 ± 20 ms, so many in flight; or only wait for it."""
    source, chance, waits = iter(exchanges), random.Random(1), []

    async def work() -> None:
        for item in source:
            await asyncio.sleep(chance.uniform(0.03, 0.07))
            if ledger is not None:
                start = time.perf_counter()
                await ledger.append(item)
                waits.append(time.perf_counter() - start)

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(width)))
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    longest = sorted(waits)[int(0.99 * len(waits))] if waits else 0.0
    return Load(len(exchanges) / elapsed, cpu / len(exchanges) * 1000, longest * 1000)


def load_rows(folder: Path, exchanges: list[Exchange], width: int) -> list[dict[str, Any]]:
    exchanges = exchanges[: 30 * width]
    idle = asyncio.run(under_load(None, exchanges, width))
    with Ledger.open(folder / f"{width}.sqlite", write=True, queue_size=width) as ledger:
        load = asyncio.run(under_load(ledger, exchanges, width))
    at = f"at {width} in flight, teacher of 50 ± 20 ms"
    cpu = load.cpu_s - idle.cpu_s
    return [
        row(f"CPU of 1,000 appends {at}", cpu, 0.2 if width > 32 else 0.4, "s", lower=True),
        row(f"wait for the commit {at}, 99 % below", load.wait_ms, 30, "ms", lower=True),
    ]


def commit_each(path: Path, exchanges: list[Exchange]) -> float:
    """Seconds to write the same rows with one commit a call."""
    connection = connect(path, write=True)
    head = last_row(path, connection)
    start = time.perf_counter()
    for item in exchanges:
        sealed = seal_exchange(item)
        values, head = row_values(sealed, head)
        connection.execute(INSERT, values)
    elapsed = time.perf_counter() - start
    connection.close()
    return elapsed


def lookups(ledger: Ledger, exchanges: list[Exchange]) -> float:
    """Median microseconds of a look-up that finds its answer."""
    times = []
    for item in exchanges:
        start = time.perf_counter()
        found = ledger.lookup(item.request.key)
        times.append(time.perf_counter() - start)
        if found != item:
            raise SystemExit("a look-up did not give back what was written")
    return statistics.median(times) * 1e6


def merge_rate(folder: Path, source: Path, rows: int) -> float:
    """Rows a second that are verified and joined to a new ledger."""
    start = time.perf_counter()
    merged = merge_ledgers(folder / "merged.sqlite", [source])
    elapsed = time.perf_counter() - start
    if merged.rows != rows:
        raise SystemExit(f"{merged.rows} of {rows} rows were merged")
    return rows / elapsed


def measure(size: int) -> list[dict[str, Any]]:
    exchanges = [exchange(number) for number in range(size)]
    for item in exchanges:  # the key is made by the asker, before it asks
        _ = item.request.key
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with Ledger.open(path, write=True, queue_size=IN_FLIGHT) as ledger:
            appended = asyncio.run(append_all(ledger, exchanges))
            found_us = lookups(ledger, exchanges[:: max(1, size // 1000)])
            start = time.perf_counter()
            report = ledger.verify()
            verified = time.perf_counter() - start
        if not report.ok or report.rows != size + 1:
            raise SystemExit(f"the ledger does not verify: {report}")
        peer = commit_each(Path(folder) / "peer.sqlite", exchanges)
        row_bytes = path.stat().st_size / size
        merged = merge_rate(Path(folder), path, size + 1)
        loads = [line for width in (32, 128) for line in load_rows(Path(folder), exchanges, width)]
        plain = sum(len(item.model_dump_json()) for item in exchanges) / size
    return [
        row("appends at 32 in flight", size / appended, 320, "1/s", peer=size / peer),
        row("look-up that finds its answer, median", found_us, 1000, "µs", lower=True),
        row("verify", report.rows / verified, 3334, "rows/s"),
        row("merge, verifying first", merged, 3334, "rows/s"),
        *loads,
        row("size of an exchange on disk", row_bytes, 2 * plain, "bytes", lower=True, peer=plain),
    ]


def row(
    metric: str,
    value: float,
    target: float,
    unit: str,
    *,
    lower: bool = False,
    peer: float | None = None,
) -> dict[str, Any]:
    met = value <= target if lower else value >= target
    return {
        "metric": metric,
        "value": round(value, 1 if abs(value) >= 1 else 3),
        "target": round(target, 1),
        "unit": unit,
        "met": met,
        "peer": None
        if peer is None
        else {"name": PEERS[metric], "value": round(peer, 1), "unit": unit},
    }


PEERS = {
    "appends at 32 in flight": "one SQLite commit a call, same durability",
    "size of an exchange on disk": "the same exchange as a line of JSON, without any index",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 exchanges instead of 20,000")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = measure(2_000 if options.quick else 20_000)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"bench": "ledger", "machine": machine, "rows": rows}))
        return
    print(machine)
    for item in rows:
        met = "met" if item["met"] else "MISSED"
        peer = item["peer"]
        beside = f"; peer {peer['value']:,.1f} ({peer['name']})" if peer else ""
        print(
            f"{item['metric']:<40} {item['value']:>12,} {item['unit']:<7} target "
            f"{item['target']:,.1f} {met}{beside}"
        )


if __name__ == "__main__":
    main()
