"""Small streams of requests for accounts in tests: honest people and harvesters."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from overproof.guard.accounts import AccountState
from overproof.records.traffic import Event, Sketch

HOUR = 3600.0
DAY = 86400.0
MONDAY = 1_700_438_400.0  # Monday 20 November 2023, 0:00 UTC


def hashed(*parts: object) -> int:
    """A 64-bit number that stands for a keyed hash; the same for the same parts."""
    return random.Random(repr(parts)).getrandbits(64) | 1


def event(ts: float = MONDAY, **fields: Any) -> Event:
    """One request with the required fields filled in."""
    required: dict[str, Any] = {
        "request_id": "r", "account": "a", "model": "m", "endpoint": "chat.completions",
    }  # fmt: skip
    return Event(ts=ts, **(required | fields))


def sketch(turn: object, **fields: Any) -> Sketch:
    """The sketch of a request whose text is all new, but for what is given."""
    new = {
        name: hashed(name, turn) for name in ("prompt", "turn", "template", "opening", "closing")
    }
    return Sketch(**({"system": 7, "capability": 14} | new | fields))


def account(requests: Iterable[tuple[Event, Sketch | None]]) -> AccountState:
    """The account after these requests."""
    state: AccountState | None = None
    for one, text in requests:
        if state is None:
            state = AccountState(0, one.account, one.ts)
        state.add(one, text)
    assert state is not None
    return state


def daytime(days: int, a_day: int, start: float = MONDAY) -> Iterator[float]:
    """Times between 8:00 and 18:00 UTC, evenly."""
    for day in range(days):
        for number in range(a_day):
            yield start + day * DAY + 8 * HOUR + number * 10 * HOUR / a_day


def all_day(days: int, a_day: int, start: float = MONDAY) -> Iterator[float]:
    """Times around the clock, evenly."""
    for number in range(days * a_day):
        yield start + number * DAY / a_day


def person(days: int = 4, a_day: int = 20, **fields: Any) -> AccountState:
    """Somebody who chats in the daytime and says nothing twice."""
    return account(
        (event(ts, **fields), sketch(("person", number)))
        for number, ts in enumerate(daytime(days, a_day))
    )
