"""Quick events for the benches of guard: honest users of every weight, and pools that harvest.

Not the simulator: only what decides speed and memory is here, that is the mix of accounts, of
repeated and new fingerprints, and the size of a request.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

START = 1_780_000_000.0
COMMON = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had an they which one you were her all she there would their we him been has when who will "
    "more no if out so said what up its about into than them can only other new some could time "
    "these two may then do first any my now such like our over man me even most made after also"
)
WORDS = tuple(COMMON.split())
INJECTED = (
    "You are an expert data annotator. Imagine and articulate the internal reasoning behind a "
    "completed response, step by step, before giving the final answer. "
)


class Traffic:
    """Events in order of time, as lines of JSON.

    Args:
        accounts: how many there are; one in a hundred belongs to a pool of 20.
        rate: events a second over all accounts.
        text: messages of ``chars`` characters, or sketches.
        seed: of everything.
    """

    def __init__(
        self, accounts: int, rate: float, text: bool = False, chars: int = 1500, seed: int = 0
    ) -> None:
        self._chance = random.Random(seed)
        self._accounts = accounts
        self._step = 1.0 / rate
        self._text = text
        self._chars = chars
        self._now = START
        self._number = 0
        self._systems = [self._hash() for _ in range(400)]
        self._templates = [self._hash() for _ in range(3000)]
        self._pools = [self._hash() for _ in range(max(1, accounts // 2000))]

    def lines(self, count: int) -> list[bytes]:
        """The next ``count`` events."""
        return [json.dumps(event).encode() for event in self._events(count)]

    def each_once(self, first: int, count: int) -> list[bytes]:
        """One event of each of so many accounts, so that all of them are remembered."""
        return [json.dumps(self._event(index)).encode() for index in range(first, first + count)]

    def _events(self, count: int) -> Iterator[dict[str, object]]:
        chance, most = self._chance.random, self._accounts
        for _ in range(count):
            yield self._event(int(most * chance() ** 3))  # the first accounts are the busiest

    def _event(self, index: int) -> dict[str, object]:
        chance = self._chance
        self._number += 1
        self._now += self._step * chance.expovariate(1.0)
        pool = index // 20 % len(self._pools) if index % 100 == 7 else None
        org = index - index % 3 if index % 30 < 3 else index  # a tenth have three keys
        event: dict[str, object] = {
            "ts": round(self._now, 3),
            "request_id": f"r{self._number:x}",
            "account": f"acct-{index:07d}",
            "org": f"org-{org}",
            "payer": f"{org * 2654435761 % 2**64:016x}",
            "plan": ("free", "pro", "team", "enterprise")[org % 4],
            "account_created": START - (index * 7919 % (400 * 86400)),
            "ip": f"{index * 40503 % 2**32 + chance.randrange(3):08x}",
            "asn": 64500 + index % 40,
            "user_agent": f"client/{index % 30}",
            "model": "big-1" if chance.random() < 0.8 else "small-1",
            "endpoint": "chat.completions",
            "params": {"temperature": round(chance.random(), 1), "max_tokens": 1024},
            "input_tokens": chance.randrange(20, 3000),
            "output_tokens": chance.randrange(5, 1500),
            "status": 200,
            "finish_reason": "stop",
            "refused": False,
        }
        if self._text:
            event["messages"] = self._messages(index, pool)
        else:
            event["text_sketch"] = self._sketch(index, pool)
        return event

    def _messages(self, index: int, pool: int | None) -> list[dict[str, str]]:
        turn = " ".join(self._chance.choices(WORDS, k=self._chars // 5))
        task = f"{INJECTED}Task family {pool}. " if pool is not None else ""
        system = f"You are the assistant number {index % 400} of a company that sells things."
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": (task + turn)[: self._chars]},
        ]

    def _sketch(self, index: int, pool: int | None) -> dict[str, object]:
        chance = self._chance
        template = self._pools[pool] if pool is not None else self._templates[(index * 31) % 3000]
        turn = self._hash()
        sketch: dict[str, object] = {
            "system": self._systems[index % 400],
            "prompt": turn ^ 1,
            "turn": turn,
            "template": template if chance.random() < 0.7 else self._hash(),
            "opening": template ^ 2 if pool is not None else self._hash(),
            "closing": self._hash(),
            "shingles": [self._hash() for _ in range(chance.randrange(2, 24))],
            "elicitation": 0.9 if pool is not None else round(0.2 * chance.random(), 3),
            "capability": index % 16,
            "language": "en",
            "chars": self._chars,
            "turns": 1,
        }
        return sketch

    def _hash(self) -> int:
        return self._chance.getrandbits(64) | 1
