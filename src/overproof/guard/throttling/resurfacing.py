"""Does a refused prompt come back under another account?

For every throttled account and window its *first* attempt is followed: does a watched account send
the same prompt within ``resurface_s``? In windows that are on that first attempt was refused, in
windows that are off it was served.

**Null hypothesis**: what an account sends does not depend on whether others are refused. **What is
fixed**: the watched accounts' traffic, under every outcome of the coins. The first attempts are
not: an account that was refused in an earlier window may give up, or come with its old prompt. But
each depends on *earlier* coins alone. So given the past, a window's number of resurfaced prompts
says nothing of this window's coin, and neither does whether it is more or less than the past would
predict. Guess "on" where it is more and "off" where it is less: under the null every guess is
right with probability one half, independently of all guesses before (Doob 1936: no gambling system
beats a fair coin). The number of right guesses is binomial, exactly, whatever accounts do about
their own refusals: evaluators of one public benchmark, who send the same prompts anyway, included.

**The effect** is the share of first attempts that come back *because* they were refused; its
interval holds every share that the same test does not reject once it is taken off.

Shapes: W windows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from overproof.guard.throttling.design import Design
from overproof.guard.throttling.observations import Observations, first_attempts
from overproof.guard.throttling.randomisation import TwoSided, binomial_tails
from overproof.stats.intervals import Estimate

__all__ = ["Followed", "Resurfacing", "guess_tails", "resurfacing", "resurfacing_of"]

_GRID = np.linspace(-1, 1, 201)
# Before anything was seen: a quarter of what one refused prompt that came back would say.
_PRIOR_SHARE, _PRIOR_WEIGHT = 0.25, 1.0


@dataclass(frozen=True)
class Followed:
    """One window: its coin, the first attempts followed, and how many of them resurfaced."""

    on: bool
    followed: int
    resurfaced: int


@dataclass(frozen=True)
class Resurfacing:
    """Refused prompts that came back under another account, against served ones.

    Attributes:
        p_value: one-sided, exact.
        floor: 2^-W.
        right: guesses that were right, of ``windows``.
        on: (resurfaced, followed) of refused first attempts.
        off: (resurfaced, followed) of served ones.
        share: of prompts that come back because they were refused, with its interval.
    """

    p_value: float
    floor: float
    right: int
    windows: int
    on: tuple[int, int]
    off: tuple[int, int]
    share: Estimate


def resurfacing(design: Design, seen: Observations, *, confidence: float = 0.95) -> Resurfacing:
    """Test whether refused prompts come back under watched accounts.

    Raises:
        DataError: the record was cut off.
    """
    seen.check()
    sent = _watched_prompts(design, seen)
    followed, came_back = [0] * design.windows, [0] * design.windows
    for index in first_attempts(design, seen):
        times = sent[index.window // design.per_round].get(index.prompt, ())
        first = bisect_left(times, index.at - design.memory_s)
        now = bisect_right(times, index.at)
        if first < now:
            continue  # the watched accounts sent it anyway: it could tell nothing
        followed[index.window] += 1
        came_back[index.window] += bisect_right(times, index.at + design.resurface_s) > now
    windows = [Followed(*each) for each in zip(design.coins, followed, came_back, strict=True)]
    return resurfacing_of(windows, confidence=confidence)


def resurfacing_of(windows: Sequence[Followed], *, confidence: float = 0.95) -> Resurfacing:
    """`resurfacing` on counts already made."""
    right, found = guess_tails(windows, 0.0)
    on = _pooled(windows, True)
    off = _pooled(windows, False)
    tail = (1 - confidence) / 2
    both = [(float(share), guess_tails(windows, float(share))[1]) for share in _GRID]
    kept = [share for share, p in both if min(p.upper, p.lower) > tail]
    estimate = (on[0] / on[1] if on[1] else 0.0) - (off[0] / off[1] if off[1] else 0.0)
    return Resurfacing(
        p_value=found.upper,
        floor=2.0 ** -len(windows),
        right=right,
        windows=len(windows),
        on=on,
        off=off,
        share=Estimate(
            estimate,
            min(kept, default=-1.0),
            max(kept, default=1.0),
            confidence,
            "guessed coins, inverted",
            on[1] + off[1],
        ),
    )


def guess_tails(windows: Sequence[Followed], share: float) -> tuple[int, TwoSided]:
    """How many coins are guessed right once ``share`` of refused prompts is taken off.

    Returns:
        Right guesses, and both p-values.
    """
    right = 0
    seen, back = _PRIOR_WEIGHT, _PRIOR_SHARE * _PRIOR_WEIGHT
    for window in windows:
        value = window.resurfaced - (share * window.followed if window.on else 0.0)
        expected = window.followed * back / seen
        right += (value > expected) == window.on
        seen += window.followed
        back += value
    return right, binomial_tails(right, len(windows))


def _pooled(windows: Sequence[Followed], on: bool) -> tuple[int, int]:
    chosen = [window for window in windows if window.on == on]
    return sum(w.resurfaced for w in chosen), sum(w.followed for w in chosen)


def _watched_prompts(design: Design, seen: Observations) -> list[dict[int, list[float]]]:
    """When each prompt was sent by an account that is watched in a round, for every round."""
    sent: list[dict[int, list[float]]] = [{} for _ in range(design.rounds)]
    throttled = [
        {i for i, name in enumerate(design.order) if name in half} for half in design.halves
    ]
    length = design.per_round * design.period_s
    for at, account, prompt in zip(seen.at, seen.account, seen.prompt, strict=True):
        if not prompt:
            continue
        for each in range(design.rounds):
            begins = design.start + each * length
            if begins <= at < begins + length + design.resurface_s and (
                account not in throttled[each]
            ):
                sent[each].setdefault(prompt, []).append(at)
    return sent
