"""What accounts have in common, kept as requests come in; `find_communities` reads it.

Kinds of evidence: novel system prompts, templates, openings, closings and shingles of the text;
payers, devices and addresses; and, from `Activity`, hours and models. Who uses a thing is kept
here. Whether it is *rare*, and so ties its users together, is judged at a pass, against those
accounts that were customers long before it appeared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overproof.config.guard import CommunityConfig
from overproof.errors import DataError
from overproof.guard.activity import Activity
from overproof.guard.things import Banned, Things
from overproof.records.traffic import Event, Sketch

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["KINDS", "NETWORK_KINDS", "TEXT_KINDS", "SharedEvidence"]

TEXT_KINDS = ("system", "template", "opening", "closing", "shingle")
NETWORK_KINDS = ("payer", "device", "address")
KINDS = TEXT_KINDS + NETWORK_KINDS

SHINGLE_SAMPLE = 3  # of all shingles, those whose lowest two bits are 0: the same for everybody
MOST_NAMES = 1 << 17
SWEEP = 4096  # forgotten accounts that wait for one sweep
HOUR_S = 3600.0
NOWHERE = (None, None, None)


class SharedEvidence:
    """Everything that accounts may have in common; bounded memory, about 10 µs a request.

    Args:
        config: how long evidence is remembered, and what is rare.
        trusted: names of accounts and organisations that count as long-standing tenants whatever
            their age: contract customers, verified ones.
        most_things: the most shared things kept of each kind; beyond it those with the fewest
            users go first.

    Accounts are known by a row, given again once an account is forgotten: `row`.

    Attributes:
        banned_rows: of blocked accounts.
    """

    def __init__(
        self,
        config: CommunityConfig | None = None,
        trusted: Iterable[str] = (),
        most_things: int = 200_000,
    ) -> None:
        self.config = config or CommunityConfig()
        self.trusted = frozenset(trusted)
        self.activity = Activity()
        self.banned_rows: set[int] = set()
        self._rows: dict[int, int] = {}
        self._free: list[int] = []
        self._gone: list[int] = []
        self._origins: list[tuple[str | None, str | None, str | None]] = []  # saves look-ups
        self._banned = Banned()
        self.things = {kind: Things(self._banned, most_things) for kind in KINDS}
        self._touch = tuple(self.things[kind].touch for kind in TEXT_KINDS)
        self._names: dict[str, int] = {}
        self._newest = float("-inf")

    def add(self, account: AccountState, event: Event, sketch: Sketch | None) -> None:
        """Take in one request of an account.

        ``sketch`` is None where neither the text nor its fingerprints are known.
        """
        ts = event.ts
        row = self._rows.get(account.index)
        if row is None:
            row = self._take(account.index)
        if ts > self._newest:  # noqa: PLR1730 - a call costs more
            self._newest = ts
        self.activity.add(row, ts, event.model)
        if sketch is not None:
            self._add_text(row, ts, sketch)
        origin = (event.payer, event.device, event.ip)
        if self._origins[row] != origin:
            self._origins[row] = origin
            for kind, name in zip(NETWORK_KINDS, origin, strict=True):
                if name:
                    self.things[kind].touch(self._names.get(name) or self._name(name), row, ts)

    def turn_back(self, now: float) -> None:
        """A clock was wrong: it is ``now``, and what is rare or over is judged as of that."""
        self._newest = min(self._newest, now)

    def _add_text(self, row: int, ts: float, sketch: Sketch) -> None:
        system, template, opening, closing, touch = self._touch
        if sketch.system:
            system(sketch.system, row, ts)
        if sketch.template:
            template(sketch.template, row, ts)
        if sketch.opening:
            opening(sketch.opening, row, ts)
        if sketch.closing:
            closing(sketch.closing, row, ts)
        for shingle in sketch.shingles:
            if not shingle & SHINGLE_SAMPLE:
                touch(shingle, row, ts)

    def _name(self, text: str) -> int:
        """A 64-bit key of a payer, device or address; the dictionary only saves hashing."""
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = self._names[text] = int.from_bytes(raw, "big")
        return key

    def _take(self, index: int) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = len(self._origins)
            self._origins.append(NOWHERE)
        self._rows[index] = row
        return row

    def row(self, account: AccountState) -> int | None:
        """Where an account's evidence is kept; None if it has made no request."""
        return self._rows.get(account.index)

    def rows(self, accounts: Sequence[AccountState]) -> npt.NDArray[np.int64]:
        """`row` of each of N accounts, (N,); -1 where there is none."""
        row = self._rows.get
        return np.fromiter((row(one.index, -1) for one in accounts), np.int64, len(accounts))

    @property
    def size(self) -> int:
        """Rows ever given out: every row is below it."""
        return len(self._origins)

    def forget(self, indices: Iterable[int]) -> None:
        """Drop accounts by index, one or many. What they used goes with the next sweep."""
        for index in indices:
            row = self._rows.pop(index, None)
            if row is not None:
                self._gone.append(row)
        if len(self._gone) >= SWEEP:
            self.expire(self._newest)

    def expire(self, now: float) -> None:
        """Sweep out forgotten accounts and what nobody has used within the window."""
        gone = set(self._gone)
        for kind, things in self.things.items():
            # A payer is the account's as long as the account is there: no window for it.
            window_h = self.config.window_h if kind in TEXT_KINDS else float("inf")
            things.forget(gone, now - window_h * HOUR_S)
        for row in gone:
            self._origins[row] = NOWHERE
        self.activity.forget(gone)
        self.banned_rows -= gone
        self._free += sorted(gone, reverse=True)
        self._gone.clear()

    def ban(self, members: Iterable[int], at: float | None = None) -> int:
        """These accounts were blocked: whoever takes up their things is their successor.

        Args:
            members: account indices.
            at: event time of the ban; the newest event's if None.

        Returns:
            How many keys were remembered.
        """
        banned = {self._rows[index] for index in members if index in self._rows}
        self.banned_rows |= banned
        when = self._newest if at is None else at
        return sum(things.ban(banned, when) for things in self.things.values()) if banned else 0

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot; long lists are iterators."""
        return {
            "newest": self._newest,
            "rows": [list(self._rows), list(self._rows.values())],
            "free": list(self._free),
            "gone": list(self._gone),
            "made": len(self._origins),
            "activity": self.activity.state(),
            "banned": self._banned.state(),
            "banned_rows": sorted(self.banned_rows),
            "things": {kind: things.state() for kind, things in self.things.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take a snapshot's values.

        Raises:
            DataError: it is another version's, or damaged.
        """
        try:
            self._newest = state["newest"]
            self._rows = dict(zip(*state["rows"], strict=True))
            self._free, self._gone = list(state["free"]), list(state["gone"])
            self._origins = [NOWHERE] * state["made"]
            self.activity.restore(state["activity"])
            self._banned.restore(state["banned"])
            self.banned_rows = set(state["banned_rows"])
            for kind, things in self.things.items():
                things.restore(state["things"][kind])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "snapshot: shared evidence",
                f"is damaged or another version's ({error!r})",
                "replay the log from its beginning",
            ) from error
