"""Small worlds of accounts whose events go through AccountState and SharedEvidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from overproof.guard.accounts import AccountState
from overproof.guard.communities import find_communities
from overproof.guard.parts import Community
from overproof.guard.shared import SharedEvidence
from overproof.records.traffic import Event, Sketch

START = 1_760_000_000.0 // 86400 * 86400
DAY_S = 86400.0


def key(*parts: object) -> int:
    """A 64-bit hash of words, the same in any process."""
    raw = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") | 1


@dataclass
class World:
    """Accounts and what they will send."""

    seed: int = 0
    days: float = 6.0
    rows: list[tuple[float, dict[str, Any], Sketch | None]] = field(default_factory=list)
    who: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = START + self.days * DAY_S

    def send(self, ts: float, account: str, sketch: Sketch | None, **more: Any) -> None:
        self.rows.append((ts, {"account": account, "model": "old", **more}, sketch))

    def hours(self, count: float, peak: float) -> list[float]:
        """Times of about ``count`` requests, around an hour of the day."""
        times = []
        for day in range(int(self.days)):
            for _ in range(round(self.random.expovariate(1) * count / self.days)):
                hour = self.random.gauss(peak, 3) % 24
                times.append(START + day * DAY_S + hour * 3600)
        return times

    def person(self, name: str, tenure_days: float, **more: Any) -> dict[str, Any]:
        return {
            "account": name,
            "org": f"org-{name}",
            "payer": f"card-{name}",
            "ip": f"ip-{name}",
            "device": f"device-{name}",
            "account_created": START - tenure_days * DAY_S,
            **more,
        }

    def chats(self, number: int, requests: float = 25) -> None:
        """Unrelated people; now and then they say what many say."""
        common = [key("common", at) for at in range(40)]
        for at in range(number):
            name = f"chat{at}"
            self.who.setdefault("chat", []).append(name)
            person = self.person(name, self.random.uniform(-3, 400))
            peak = self.random.uniform(0, 24)
            for ts in self.hours(self.random.lognormvariate(0, 1) * requests, peak):
                made = person["account_created"]
                if ts < made:
                    continue
                same = self.random.random()
                turn = common[int(self.random.paretovariate(1)) % 40] if same < 0.1 else None
                said = turn or key(name, ts)
                sketch = Sketch(
                    system=key("app", at % 60),
                    prompt=key(name, ts, "p"),
                    turn=said,
                    template=said,
                    opening=key("opening", self.random.randrange(3000)),
                    closing=said ^ 3,
                    shingles=tuple(key(name, ts, part) & ~3 for part in range(3)),
                    capability=self.random.randrange(6),
                )
                self.send(ts, sketch=sketch, **person)

    def pool(
        self,
        number: int,
        requests: float = 60,
        frames: int = 1,
        name: str = "pool",
        mix: float = 1.0,
        **more: Any,
    ) -> list[str]:
        """One operator's accounts, each with its own payer, on one queue of work."""
        members = [f"{name}{at}" for at in range(number)]
        self.who[name] = members
        people = [self.person(one, self.random.uniform(0, 1.5), **more) for one in members]
        total = int(number * requests)
        for at in range(total):
            ts = START + self.days * DAY_S * (at + self.random.random()) / total
            frame = key(name, "frame", self.random.randrange(frames))
            own = self.random.random() >= mix
            sketch = Sketch(
                prompt=key(name, at, "p"),
                turn=key(name, at),
                template=key(name, at, "own") if own else frame,
                opening=key(name, at, "open") if own else frame ^ 5,
                closing=key(name, at, "close"),
                shingles=(key(name, at, 1) & ~3,) if own else (frame & ~3,),
                elicitation=0.0 if own else 0.9,
                capability=9,
            )
            self.send(ts, sketch=sketch, **self.random.choice(people))
        return members

    def framework(self, number: int, share_new: float = 0.3) -> None:
        """Users of one framework: its system prompt, their own questions; most are old tenants."""
        for at in range(number):
            name = f"framework{at}"
            self.who.setdefault("framework", []).append(name)
            new = self.random.random() < share_new
            person = self.person(name, 1.0 if new else self.random.uniform(100, 500))
            for ts in self.hours(30, self.random.uniform(0, 24)):
                said = key(name, ts)
                sketch = Sketch(
                    system=key("framework"), turn=said, template=said, opening=key("framework", 1)
                )
                self.send(ts, sketch=sketch, **person)

    def company(self, number: int) -> None:
        """One organisation and payer with many keys and one template."""
        for at in range(number):
            name = f"company{at}"
            self.who.setdefault("company", []).append(name)
            person = self.person(name, 5 + at, org="org-company", payer="card-company")
            for ts in self.hours(60 * self.random.lognormvariate(0, 1), 13):
                turn = key(name, ts)
                sketch = Sketch(turn=turn, template=key("company"), opening=key("company", 1))
                self.send(ts, sketch=sketch, **person)

    def evaluators(self, number: int, questions: int = 40) -> None:
        """Unrelated teams that run the same new benchmark, all of it, each in one go."""
        for at in range(number):
            name = f"evaluator{at}"
            self.who.setdefault("evaluator", []).append(name)
            person = self.person(name, self.random.uniform(0, 20))
            start = START + self.random.uniform(0, self.days - 1) * DAY_S
            for question in range(questions):
                turn = key("benchmark", question)
                sketch = Sketch(
                    prompt=key(turn), turn=turn, template=key("benchmark"), opening=key("bench", 1)
                )
                self.send(start + question * 20.0, sketch=sketch, **person)

    def move(self, names: Sequence[str], at: float, model: str = "new") -> None:
        """From ``at`` on these accounts use another model."""
        chosen = set(names)
        for ts, row, _ in self.rows:
            if row["account"] in chosen and ts >= at:
                row["model"] = model

    def run(
        self,
        shared: SharedEvidence | None = None,
        order: Callable[[tuple[float, int]], Any] = lambda item: item,
        until: float | None = None,
    ) -> tuple[SharedEvidence, list[AccountState]]:
        """Send everything, in order of time."""
        shared = shared or SharedEvidence()
        accounts: dict[str, AccountState] = {}
        for ts, at in sorted(((row[0], at) for at, row in enumerate(self.rows)), key=order):
            if until is not None and ts >= until:
                continue
            _, row, sketch = self.rows[at]
            event = Event(ts=ts, request_id=str(at), endpoint="messages", **row)
            account = accounts.get(event.account)
            if account is None:
                account = AccountState(len(accounts), event.account, ts)
                accounts[event.account] = account
            account.add(event, sketch)
            shared.add(account, event, sketch)
        return shared, list(accounts.values())

    def communities(self) -> list[Community]:
        shared, accounts = self.run()
        return find_communities(shared, accounts, self.now)


def names(community: Community) -> set[str]:
    """The members' names."""
    return {one.account for one in community.members}


def closest(found: Sequence[Community], members: Sequence[str]) -> Community:
    """The community with the most of these members."""
    return max(found, key=lambda one: len(names(one) & set(members)))
