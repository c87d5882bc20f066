"""One pass over the events: when each attacking account asked, and what it was given.

What leaked before a decision needs every request's time, so these are kept for attackers only: 16
bytes a request. Of honest accounts the number of requests is enough.

Shapes: N requests of one account.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overproof.guard.reading import read_log
from overproof.records.traffic import Event, Truth

__all__ = ["AttackTraffic", "Totals", "read_totals"]


@dataclass(frozen=True)
class AttackTraffic:
    """One attacking account's requests in order of time.

    Attributes:
        at: seconds since the epoch, N.
        served: output tokens served up to and with each request, N; an answer with status 400 or
            above serves none.
    """

    at: npt.NDArray[np.float64]
    served: npt.NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Served in all."""
        return int(self.served[-1]) if len(self.served) else 0

    def until(self, time: float) -> tuple[int, int]:
        """Requests and tokens up to and with a time."""
        n = int(np.searchsorted(self.at, time, side="right"))
        return n, int(self.served[n - 1]) if n else 0


@dataclass(frozen=True)
class Totals:
    """What a log holds, as far as a score needs it.

    Attributes:
        attackers: traffic by account.
        requests: of every account, attackers included.
        unlabelled: accounts of the log that the truth does not name.
        events: of the log.
    """

    attackers: dict[str, AttackTraffic]
    requests: dict[str, int]
    unlabelled: int = 0
    events: int = 0


@dataclass
class _Growing:
    at: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[int] = field(default_factory=lambda: array("q"))

    def finish(self) -> AttackTraffic:
        at = np.asarray(self.at, dtype=np.float64)
        order = np.argsort(at, kind="stable")  # logs may be minutes out of order
        served = np.cumsum(np.asarray(self.tokens, dtype=np.int64)[order])
        return AttackTraffic(at[order], served)


def read_totals(
    events: Path | Iterable[Event], truth: Mapping[str, Truth], *, most_bad_lines: float = 0.01
) -> Totals:
    """Totals of a log, or of events from anywhere.

    Raises:
        DataError: the log cannot be read.
    """
    source: Iterable[Event] = (
        read_log(events, most_bad_lines=most_bad_lines) if isinstance(events, Path) else events
    )
    attackers = {
        account: _Growing() for account, told in truth.items() if told.campaign is not None
    }
    requests: dict[str, int] = {}
    count = 0
    for event in source:
        count += 1
        requests[event.account] = requests.get(event.account, 0) + 1
        growing = attackers.get(event.account)
        if growing is not None:
            served = event.status is None or event.status < 400
            growing.at.append(event.ts)
            growing.tokens.append((event.output_tokens or 0) if served else 0)
    return Totals(
        attackers={account: growing.finish() for account, growing in attackers.items()},
        requests=requests,
        unlabelled=sum(account not in truth for account in requests),
        events=count,
    )
