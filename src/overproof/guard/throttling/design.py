"""Which accounts are refused when: a two-stage randomised design, recomputable from a secret.

An experiment has R rounds. In each round the community is split at random into two halves: the
*throttled* half, and the *watched* half, which is never refused in that round. The round's windows
are switched on or off by independent fair coins; in a window that is on, every account of the
throttled half is refused. In the next round the halves change places, so that no account bears the
cost alone. This is a saturation design (Hudgens and Halloran, JASA 2008, 103(482), section 4) with
the saturations nought and one half.

Why the watched half stays the same within a round: under the null hypothesis "an account's traffic
depends on its own throttling alone" everything that the watched accounts send is then *the same
under every outcome of the coins*, however the throttled accounts wait, retry, give up or carry a
backlog into the next window. That is what makes the randomisation distribution of a statistic of
watched traffic exact (focal units: Athey, Eckles and Imbens, JASA 2018, 113(521), section 3;
conditional randomisation: Basse, Feller and Toulis, Biometrika 2019, 106(2)). With fresh halves in
every window an account's own backlog would move with the coins and the test would not be exact.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import cached_property

from overproof.errors import ConfigError

__all__ = ["Budget", "Design"]

DAY_S = 86_400.0
_LEAST_SECRET = 16


@dataclass(frozen=True)
class Budget:
    """What the experiment may cost one account in a day of 24 hours from its start.

    Attributes:
        most_refusals: answers 429.
        most_delay_s: seconds of waiting asked for: of each window the Retry-After of its first
            refusal.

    An account whose budget is spent is served again for the rest of the day: less power, never a
    wrong p-value, for it is its own past that spent it.
    """

    most_refusals: int = 50
    most_delay_s: float = 4 * 3600.0

    def __post_init__(self) -> None:
        if self.most_refusals < 1 or not self.most_delay_s > 0:
            raise ConfigError(
                "the budget of a throttling experiment",
                f"{self.most_refusals} refusals and {self.most_delay_s:g} s allow no experiment",
                "allow at least one refusal and some seconds, or do not run it",
            )


@dataclass(frozen=True)
class Design:
    """One experiment on one suspected community.

    Attributes:
        name: of the experiment; another name gives other coins from the same secret.
        secret: at least 16 bytes, drawn for this experiment; whoever has it can recompute every
            assignment. `commitment` may be published beforehand.
        accounts: of the community, N of them; their order does not matter.
        start: seconds since the epoch.
        windows: W in all, divided evenly over the rounds.
        rounds: R; 2 lets every account be throttled in one round and watched in the other.
        window_s: length of a window.
        wash_out_s: length of the rest before every window, in which nobody is refused; its last
            ``window_s`` seconds are the window's baseline.
        resurface_s: how long after a refusal its prompt is looked for under another account.
        memory_s: a prompt that a watched account sent in this time before is not looked for.

    Raises:
        ConfigError: a setting that allows no experiment.
    """

    name: str
    secret: bytes = field(repr=False)
    accounts: tuple[str, ...] = field(repr=False)
    start: float
    windows: int = 20
    rounds: int = 2
    window_s: float = 1800.0
    wash_out_s: float = 1800.0
    resurface_s: float = 1800.0
    memory_s: float = 6 * 3600.0
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"throttling experiment {self.name!r}", *problem)

    def _problem(self) -> tuple[str, str] | None:
        if len(self.secret) < _LEAST_SECRET:
            return f"its secret has {len(self.secret)} bytes", "draw 16 or more at random"
        if len(set(self.accounts)) != len(self.accounts):
            return "an account is named twice", "name every account once"
        if len(self.accounts) < 4:
            return f"{len(self.accounts)} accounts make no two halves", "take at least 4"
        if self.rounds < 1 or self.windows % self.rounds or self.windows < 4 * self.rounds:
            return (
                f"{self.windows} windows cannot be shared by {self.rounds} rounds",
                "take the same number of windows for every round, at least 4",
            )
        if not 0 < self.window_s <= self.wash_out_s:
            return (
                f"a window of {self.window_s:g} s after a rest of {self.wash_out_s:g} s "
                "has no baseline",
                "make the rest at least as long as the window",
            )
        if not 0 < self.resurface_s <= self.wash_out_s:
            return (
                f"prompts are looked for over {self.resurface_s:g} s, into the next window",
                f"take at most the rest between windows, {self.wash_out_s:g} s",
            )
        if not (self.memory_s >= 0 and abs(self.start) < 1e12):
            return "memory_s or start is no time", "set both in seconds"
        return None

    @property
    def period_s(self) -> float:
        """From the start of one rest to the start of the next."""
        return self.window_s + self.wash_out_s

    @property
    def end(self) -> float:
        """When the last prompt has been waited for; an analysis before has no stated error."""
        return self.start + self.windows * self.period_s + self.resurface_s

    @property
    def per_round(self) -> int:
        """Windows of one round."""
        return self.windows // self.rounds

    @property
    def commitment(self) -> str:
        """SHA-256 of name, secret and accounts: shows later that nothing was chosen afterwards."""
        parts = [
            _raw(self.name),
            self.secret,
            *map(_raw, self.order),
        ]
        return hashlib.sha256(b"".join(map(_framed, parts))).hexdigest()

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The accounts in the order in which tables name them: sorted."""
        return tuple(sorted(self.accounts))

    @cached_property
    def coins(self) -> tuple[bool, ...]:
        """Which windows are on, W independent fair coins."""
        return tuple(bool(self._draw("coin", str(w))[0] & 1) for w in range(self.windows))

    @cached_property
    def halves(self) -> tuple[frozenset[str], ...]:
        """The throttled half of every round; odd rounds take the other half of the one before."""
        halves: list[frozenset[str]] = []
        for each in range(self.rounds):
            if each % 2:
                halves.append(frozenset(self.accounts) - halves[-1])
                continue
            drawn = sorted(self.accounts, key=lambda name: self._draw("split", str(each), name))
            halves.append(frozenset(drawn[: len(drawn) // 2]))
        return tuple(halves)

    def watched(self, round_: int) -> tuple[str, ...]:
        """The accounts that are never refused in a round, sorted."""
        return tuple(name for name in self.order if name not in self.halves[round_])

    def window_start(self, window: int) -> float:
        """Seconds since the epoch."""
        return self.start + window * self.period_s + self.wash_out_s

    def window_at(self, at: float) -> int | None:
        """The window that a time lies in, None in a rest and outside of the experiment."""
        window, into = divmod(at - self.start, self.period_s)
        if into < self.wash_out_s or not 0 <= window < self.windows:
            return None
        return int(window)

    def treated(self, account: str, at: float) -> float | None:
        """Seconds to ask an account to wait (Retry-After), None where it is to be served.

        A pure function of the secret: budget and bookkeeping are `Experiment`'s.
        """
        window = self.window_at(at)
        if window is None or not self.coins[window]:
            return None
        if account not in self.halves[window // self.per_round]:
            return None
        return self.window_start(window) + self.window_s - at

    def _draw(self, *what: str) -> bytes:
        message = b"".join(_framed(_raw(part)) for part in (self.name, *what))
        return hmac.new(self.secret, message, hashlib.sha256).digest()


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _framed(part: bytes) -> bytes:
    """With its length in front, so that no two lists of parts give one message."""
    return len(part).to_bytes(8, "big") + part
