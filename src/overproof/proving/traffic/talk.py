"""Conversations of people: sessions of a few turns, at the hours when people are awake.

WildChat: 2.5 turns a conversation at the mean, five conversations a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from overproof.proving.traffic.arrivals import Shape, arrivals
from overproof.proving.traffic.identity import Job
from overproof.proving.traffic.lengths import Lengths
from overproof.proving.traffic.texts import Bank

__all__ = ["MEAN_TURNS", "Talk", "chatter"]

MEAN_TURNS = 2.5
SAID = Lengths(60, 129, 1.1, 0.9)
HISTORY = 4
REPLY_CHARS = 90
# How often somebody puts an own sentence before or after what others ask in the same words.
OWN_WORDS = 0.5


class Talk:
    """What people say in one language.

    Args:
        reason: share of conversations that ask for steps; nobody's attack.
    """

    def __init__(self, bank: Bank, language: str, reason: float = 0.07) -> None:
        self.language = language
        self._bank = bank
        self._reason = reason
        self._open = bank.lines("open", language)
        self._more = bank.lines("more", language)
        self._steps = bank.lines("reason", language)

    def conversation(
        self,
        rng: Random,
        model: str,
        params: dict[str, Any],
        system: str | None = None,
        turns: int | None = None,
    ) -> Iterator[Job]:
        """The requests of one conversation; each carries the latest turns before it."""
        random = rng.random
        history: list[dict[str, str]] = []
        into = 0
        if turns is None:
            turns = 1
            while random() > 1.0 / MEAN_TURNS:
                turns += 1
        for turn in range(turns):
            first = self._steps if not turn and random() < self._reason else self._open
            lines = self._more if turn else first
            said = lines[int(random() * len(lines))].fill(rng)
            if turn == 0 and random() < OWN_WORDS:
                own = self._bank.payload(rng, 1, self.language)
                said = f"{own} {said}" if random() < 0.5 else f"{said} {own}"
            more, out = SAID.draw(rng)
            into += more
            messages = [*history[-HISTORY:], {"role": "user", "content": said}]
            if system is not None:
                messages.insert(0, {"role": "system", "content": system})
            yield Job(model, messages, params, into, out)
            if turn + 1 < turns:
                reply = self._bank.payload(rng, REPLY_CHARS, self.language)
                history += (messages[-1], {"role": "assistant", "content": reply})
                into += out


def chatter(
    talk: Talk,
    rng: Random,
    span: tuple[float, float],
    conversations_a_day: float,
    shape: Shape,
    *,
    model: Callable[[float], str],
    params: dict[str, Any] | None = None,
    system: str | None = None,
) -> Iterator[tuple[float, Job]]:
    """Somebody's conversations over time; a turn follows the last by what thinking takes."""
    free = 0.0
    for begin in arrivals(rng, *span, conversations_a_day, shape):
        ts = max(begin, free)
        for job in talk.conversation(rng, model(ts), params or {}, system):
            if ts >= span[1]:
                return
            yield ts, job
            ts += 8.0 + rng.lognormvariate(3.8, 0.9)
        free = ts
