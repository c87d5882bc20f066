"""Speed and memory of guard: python bench/guard_speed.py [--quick] [--json] [--million] [--long].

Targets, on one core: 20,000 events a second where they come with sketches and 8,000 where their
text has to be sketched, parsing included; a request waits for guard at most 0.1 ms in the middle
and 2 ms in 99 of 100 cases; 4 KB an account, and a million accounts in 8 GB; and the cost of an
event does not grow with how many came before. The community pass is measured by itself: it runs
beside the requests, not on their path. Nothing measured waits for a disk or a network, so seconds
are CPU seconds: what an idle core takes, whatever else the machine is doing.

``--million`` remembers a million accounts, ``--long`` goes on to ten million events; both take
minutes. Without a fitted judge its look-up is not in the figures, which say so.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from time import process_time as clock
from typing import Any

from guard_events import Traffic
from overproof.config.guard import GuardConfig
from overproof.guard.engine import Guard
from overproof.guard.events import decode_line
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.garbage import rare_collections
from overproof.guard.ordering import ReorderBuffer
from overproof.records.traffic import Event

KEY = b"a key of the bench, 32 bytes long"
PIECE = 20_000
QUICK_ACCOUNTS, ACCOUNTS = 5_000, 50_000
SPAN_S = 12 * 3600.0  # of a speed run, so that a pass or two fall into it


class Run:
    """Events through a guard in pieces, made beforehand, with the time that each piece took."""

    def __init__(self, traffic: Traffic, guard: Guard, reorder: bool = True) -> None:
        self.traffic, self.guard = traffic, guard
        self.order = ReorderBuffer(guard.config.late_s).add if reorder else one
        self.passes: list[float] = []
        self.steps: list[tuple[int, float]] = []  # events so far, µs an event in this piece
        self.done = 0

    def replay(self, count: int) -> float:
        """Seconds for so many lines: parse, order, observe; passes are timed apart."""
        with rare_collections():  # as a replay does
            return self._replay(count)

    def _replay(self, count: int) -> float:
        spent = 0.0
        for size in pieces(count):
            took = self.take(self.traffic.lines(size))
            self.done += size
            self.steps.append((self.done, took / size * 1e6))
            spent += took
        return spent

    def take(self, lines: list[bytes]) -> float:
        """Seconds for these lines, without the passes that came due."""
        guard, add, aside = self.guard, self.order, 0.0
        start = clock()
        for line in lines:
            event = decode_line(line)
            assert isinstance(event, Event)
            if event.messages is not None and guard.sketcher is not None:
                event.text_sketch, event.messages = guard.sketcher.sketch(event), None
            for due in add(event):
                while guard.due(due.ts):
                    before = clock()
                    guard.run_pass()
                    self.passes.append(clock() - before)
                    aside += self.passes[-1]
                guard.observe(due)
        guard.verdicts()
        return clock() - start - aside

    def inline(self, count: int) -> list[float]:
        """Seconds of each of so many calls of `Guard.observe`, as a gateway makes them."""
        guard, times = self.guard, []
        for size in pieces(count):
            events = [decode_line(line) for line in self.traffic.lines(size)]
            for event in events:
                assert isinstance(event, Event)
                while guard.due(event.ts):
                    guard.run_pass()
                start = clock()
                guard.observe(event, strict=False)
                times.append(clock() - start)
            self.done += size
        return sorted(times)


def one(event: Event) -> list[Event]:
    return [event]


def pieces(count: int) -> list[int]:
    whole, rest = divmod(count, PIECE)
    return [PIECE] * whole + ([rest] if rest else [])


def guard(text: bool = False) -> Guard:
    return Guard(GuardConfig(), sketcher=Fingerprinter(KEY) if text else None)


def speed_rows(count: int, accounts: int) -> list[dict[str, Any]]:
    rows = []
    for text, target, part in ((False, 20_000, count), (True, 8_000, count // 4)):
        run = Run(Traffic(accounts, part / SPAN_S, text), guard(text))
        seconds = run.replay(part)
        what = "with text of 1,500 characters" if text else "with sketches"
        rows.append(row(f"events {what}, one core", part / seconds, target, "events/s"))
        if not text:
            worst = max(run.passes, default=0.0)
            metric = f"longest community pass, {len(run.guard.accounts):,} accounts"
            rows.append(row(metric, worst, None, "s", why="no target: not on a request's path"))
    return rows


def inline_rows(count: int, accounts: int) -> list[dict[str, Any]]:
    rows = []
    for text in (False, True):
        part = count // 4 if text else count
        run = Run(Traffic(accounts, part / SPAN_S, text), guard(text))
        run.inline(part // 5)  # the first ones fill the tables
        gc.collect()
        times = run.inline(part)
        what = "with text" if text else "with a sketch"
        half, most = statistics.median(times), times[int(0.99 * len(times))]
        rows.append(row(f"a request {what} waits, median", half * 1e3, 0.1, "ms", lower=True))
        rows.append(row(f"a request {what} waits, 99 % below", most * 1e3, 2, "ms", lower=True))
    return rows


def flat_rows(marks: list[int], accounts: int) -> list[dict[str, Any]]:
    """µs an event around each of the marks; the last against the first."""
    run = Run(Traffic(accounts, 50.0), guard())
    costs = []
    for mark in marks:
        run.replay(mark - run.done)
        near = [cost for done, cost in run.steps if 0.5 * mark < done <= mark]
        costs.append(statistics.median(near))
    rows = [
        row(f"cost of an event after {mark:,}", cost, 50, "µs", lower=True)
        for mark, cost in zip(marks, costs, strict=True)
    ]
    metric = f"cost after {marks[-1]:,} events over that after {marks[0]:,}"
    return [*rows, row(metric, costs[-1] / costs[0], 1.5, "", lower=True)]


def memory_of(accounts: int, each: int) -> dict[str, float]:
    """In a process of its own: see `remember`."""
    done = subprocess.run(
        [sys.executable, __file__, "--remember", str(accounts), str(each)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def remember(accounts: int, each: int) -> dict[str, float]:
    """So many accounts, each seen once, then ``each`` events an account, the busy ones most often.

    Bytes that guard holds, the largest resident size of the process, and the longest pass.
    """
    run = Run(Traffic(accounts, accounts * (each + 1) / SPAN_S), guard(), reorder=False)
    gc.collect()
    before = resident()
    left = accounts
    while left:
        size = min(left, PIECE)
        run.take(run.traffic.each_once(accounts - left, size))
        left -= size
    run.replay(each * accounts)
    gc.collect()
    return {
        "bytes": resident() - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
        "pass": max(run.passes, default=0.0),
    }


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def memory_rows(million: bool, quick: bool) -> list[dict[str, Any]]:
    """One more account's bytes: what guard holds whatever it sees (tables, ids) is left out.

    It is in the resident size.
    """
    few, many, each = (15_000, 45_000, 2) if quick else (50_000, 150_000, 5)
    less, more = memory_of(few, each), memory_of(many, each)
    more_each = (more["bytes"] - less["bytes"]) / (many - few)
    rows = [
        row(f"memory of one more account, {few:,} to {many:,}", more_each, 4096, "bytes",
            lower=True),
        row(f"largest resident size at {many:,} accounts", more["peak"] / 2**30, 8, "GiB",
            lower=True),
    ]  # fmt: skip
    metric = "largest resident size at 1,000,000 accounts"
    if not million:
        return [*rows, row(metric, None, 8, "GiB", why="takes minutes: --million measures it")]
    found = memory_of(1_000_000, 2)
    return [
        *rows,
        row("memory an account, of 1,000,000, all told", found["bytes"] / 1e6, 4096, "bytes",
            lower=True),
        row(metric, found["peak"] / 2**30, 8, "GiB", lower=True),
        row("longest community pass, 1,000,000 accounts", found["pass"], None, "s",
            why="no target: not on a request's path"),
    ]  # fmt: skip


def row(
    metric: str,
    value: float | None,
    target: float | None,
    unit: str,
    *,
    lower: bool = False,
    why: str | None = None,
) -> dict[str, Any]:
    met = None
    if value is not None and target is not None:
        met = value <= target if lower else value >= target
    rounded = None if value is None else float(f"{value:.4g}")
    made = {"metric": metric, "value": rounded, "target": target, "unit": unit, "met": met,
            "peer": None}  # fmt: skip
    return made | ({"why": why} if met is None else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--remember", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.remember:
        print(json.dumps(remember(*chosen.remember)))
        return
    accounts = QUICK_ACCOUNTS if chosen.quick else ACCOUNTS
    count = 60_000 if chosen.quick else 400_000
    marks = [100_000, 300_000] if chosen.quick else [100_000, 1_000_000]
    if chosen.long:
        marks.append(10_000_000)
    rows = [
        *speed_rows(count, accounts),
        *inline_rows(count // 2, accounts),
        *flat_rows(marks, accounts),
        *memory_rows(chosen.million, chosen.quick),
    ]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(),
               "processor": platform.machine()}  # fmt: skip
    if chosen.json:
        print(json.dumps({"bench": "guard_speed", "machine": machine, "rows": rows}, indent=2))
        return
    for each in rows:
        met = {True: "met", False: "MISSED", None: each.get("why", "")}[each["met"]]
        print(
            f"{each['metric']:<58} {each['value']} {each['unit']} (target {each['target']}) {met}"
        )


if __name__ == "__main__":
    main()
