"""Small logs for the tests of guard's engine, and a judge that decides about everybody."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overproof.guard.judging import Judged
from overproof.guard.parts import Community, Decision
from overproof.records.traffic import Action, Evidence, Subject, TrafficVerdict

START = 1_780_000_000.0
HOUR = 3600.0


def rows(
    accounts: int = 40, hours: float = 60.0, count: int = 3000, seed: int = 0, text: bool = False
) -> list[dict[str, Any]]:
    """Events in order of time; every fifth account belongs to one pool with one injection."""
    chance = random.Random(seed)
    times = sorted(chance.uniform(0, hours * HOUR) for _ in range(count))
    return [_row(number, START + at, chance, accounts, text) for number, at in enumerate(times)]


def _row(
    number: int, ts: float, chance: random.Random, accounts: int, text: bool
) -> dict[str, Any]:
    who = chance.randrange(accounts)
    pool = who % 5 == 0
    row: dict[str, Any] = {
        "ts": round(ts, 3),
        "request_id": f"r{number}",
        "account": f"a{who}",
        "org": f"o{who}",
        "payer": f"p{who}",
        "plan": "pro" if who % 2 else "free",
        "account_created": START - 3600 if pool else START - 90 * 86400,
        "ip": f"10.0.0.{who}",
        "model": "big",
        "endpoint": "messages",
        "input_tokens": 100,
        "output_tokens": 50,
        "status": 200,
    }
    task = f"Task {chance.getrandbits(40):x} of {chance.getrandbits(40):x}."
    if text:
        said = f"Imagine and articulate the reasoning behind the answer. {task}" if pool else task
        row["messages"] = [{"role": "user", "content": said}]
    else:
        row["text_sketch"] = {
            "prompt": chance.getrandbits(63) | 1,
            "turn": chance.getrandbits(63) | 1,
            "template": 77 if pool else chance.getrandbits(63) | 1,
            "opening": 78 if pool else chance.getrandbits(63) | 1,
            "shingles": [chance.getrandbits(63) | 1 for _ in range(4)],
            "elicitation": 0.9 if pool else 0.1,
            "chars": 400,
            "turns": 1,
        }
    return row


def shuffled(events: Sequence[dict[str, Any]], by_s: float, seed: int = 1) -> list[dict[str, Any]]:
    """The same events, each at most ``by_s`` late."""
    chance = random.Random(seed)
    keyed = [(row["ts"] + chance.uniform(0, by_s), at) for at, row in enumerate(events)]
    return [events[at] for _, at in sorted(keyed)]


def write_log(path: Path, events: Sequence[dict[str, Any]]) -> Path:
    """A JSON Lines log."""
    path.write_text("".join(json.dumps(row) + "\n" for row in events))
    return path


class BusyJudge:
    """Watches every account at every look, and every community at every pass.

    What it says depends on all that it was told before, so that a lost or repeated look shows.
    """

    def __init__(self, name: str = "busy") -> None:
        self.name = name
        self.told = 0
        self.since: dict[int, float] = {}
        self.gone: list[int] = []

    def identity(self) -> dict[str, str]:
        return {"calibration": self.name}

    def begin_anew(self, index: int) -> None:
        self.since.pop(index, None)

    def account(self, account: Any, look: int, at: float, vector: Any) -> Judged | None:
        self.told += 1
        self.since.setdefault(account.index, at)
        subject = Subject("account", account.account, (account.account,))
        detail = f"look {look}, told {self.told}, {account.requests} requests"
        return Judged([self._verdict(subject, at, detail, account.tokens_out)])

    def communities(
        self, names: Sequence[str], found: Sequence[Community], vectors: Sequence[Any], at: float
    ) -> Judged:
        verdicts, banned = [], []
        for name, community in zip(names, found, strict=True):
            self.told += 1
            members = tuple(member.account for member in community.members)
            subject = Subject("community", name, members)
            detail = f"told {self.told}, {len(community.edges)} edges"
            verdicts.append(self._verdict(subject, at, detail, 0))
            banned += [member.index for member in community.members[:1]]
        return Judged(verdicts, frozenset(names), tuple(banned))

    def decision(self, account: Any, now: float) -> Decision:
        since = self.since.get(account.index)
        return Decision() if since is None else Decision(Action.WATCH, since)

    def meet(self, accounts: Any) -> None:
        """Holds nobody to anything, so that whoever is idle may be forgotten."""

    def forget(self, indices: Sequence[int]) -> None:
        self.gone += indices

    def notes(self, now: float) -> list[str]:
        return []

    def spared(self) -> list[dict[str, Any]]:
        return []

    def state(self) -> Any:
        return [self.told, self.since, self.gone]

    def restore(self, state: Any) -> None:
        self.told, self.since, self.gone = state[0], dict(state[1]), list(state[2])

    @staticmethod
    def _verdict(subject: Subject, at: float, detail: str, tokens: int) -> TrafficVerdict:
        evidence = (Evidence("test", "text", detail),)
        return TrafficVerdict(subject, at, Action.WATCH, 0.5, 1.0, 9, evidence, tokens)
