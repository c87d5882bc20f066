"""The table of accounts: who is known, under which index, and who has been forgotten.

Memory is bounded twice: an account idle for ``forget_days`` is forgotten, and beyond
``most_accounts`` the longest idle goes first. Both are counted, as a forgotten past is a past that
no finding can rest on. Whoever stands under something is passed over, however long idle, and makes
room only where nobody else is left: else silence would end a block before its time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from math import isnan
from typing import Any

from overproof.errors import DataError
from overproof.guard.account import AccountState
from overproof.guard.account_snapshot import FIELDS, plain_account, restored_account
from overproof.records.traffic import Event

__all__ = ["AccountState", "Accounts"]

DAY_S = 86400.0
SWEEP_S = 3600.0
PAGE = 512  # indexes a page: a list of them is smaller than a dict, and can be given back


class Accounts:
    """Accounts by name and by index, the longest idle first.

    Args:
        forget_days: idle days after which an account is forgotten.
        most_accounts: how many are held at once.
        on_forget: told of each account that is forgotten, so that what others remember under its
            index can go too. An index is never given twice.

    Attributes:
        forgotten_idle: accounts forgotten for being idle.
        forgotten_full: accounts forgotten to make room.
        keeps: whether an account stands under something at a time; None where nobody does.
    """

    def __init__(
        self,
        forget_days: float = 45.0,
        most_accounts: int = 1_000_000,
        on_forget: Callable[[AccountState], None] | None = None,
    ) -> None:
        self.forget_s = forget_days * DAY_S
        self.most_accounts = most_accounts
        self.on_forget = on_forget
        self.forgotten_idle = 0
        self.forgotten_full = 0
        self.keeps: Callable[[AccountState, float], bool] | None = None
        self._by_name: OrderedDict[str, AccountState] = OrderedDict()
        self._passed: dict[str, AccountState] = {}  # passed over: idle for longer than all others
        self._pages: dict[int, list[AccountState | None]] = {}
        self._next = 0
        self._swept = float("-inf")
        self._changed_before = 0  # by accounts since forgotten

    def __len__(self) -> int:
        return len(self._by_name) + len(self._passed)

    def __iter__(self) -> Iterator[AccountState]:
        """The longest idle first."""
        return chain(self._passed.values(), self._by_name.values())

    def __contains__(self, account: str) -> bool:
        return account in self._by_name or account in self._passed

    def get(self, event: Event) -> AccountState:
        """The account that sent this event, made if it is new or was forgotten.

        The event is not counted; that is `AccountState.add`.
        """
        ts = event.ts
        state = self._by_name.get(event.account)
        if state is None and event.account in self._passed:
            state = self._by_name[event.account] = self._passed.pop(event.account)
        if state is not None and (ts - state.last_seen <= self.forget_s or self._kept(state, ts)):
            self._by_name.move_to_end(event.account)
        else:
            if state is not None:
                self._forget(state)
                self.forgotten_idle += 1
            state = self._make(event)
        if ts - self._swept >= SWEEP_S:
            self._sweep(ts)
        return state

    def begin_anew(self, state: AccountState, ts: float) -> AccountState:
        """The account, last found by `get`, with its past left behind, under the same index.

        Whose it is stays, what it did does not.
        """
        fresh = AccountState(state.index, state.account, ts)
        fresh.org, fresh.payer, fresh.plan = state.org, state.payer, state.plan
        fresh.declared_use = state.declared_use
        fresh.known_since = state.known_since
        # It was made, at the latest, when it was first seen.
        fresh.created = state.known_since if isnan(state.created) else state.created
        fresh.changed, fresh.changes = state.changed, state.changes
        self._by_name[state.account] = fresh
        self._place(fresh)
        return fresh

    def find(self, account: str) -> AccountState | None:
        """The account by name, None if it is not known (any more)."""
        return self._by_name.get(account) or self._passed.get(account)

    def at(self, index: int) -> AccountState | None:
        """The account by index, None if it has been forgotten."""
        page = self._pages.get(index // PAGE)
        return None if page is None or index < 0 else page[index % PAGE]

    def turn_back(self, now: float) -> None:
        """Clocks were wrong: it is only ``now``. Who was not seen before is forgotten."""
        self._swept = min(self._swept, now)
        for state in [state for state in self if state.last_seen > now]:
            if state.first_seen > now:  # else its looks would wait for that time
                self._forget(state)
            else:
                state.last_seen = now

    @property
    def changed(self) -> int:
        """How often an account changed its organisation or payer, forgotten accounts included."""
        return self._changed_before + sum(state.changed for state in self)

    def _make(self, event: Event) -> AccountState:
        while len(self) >= self.most_accounts:
            self._forget(self._least_missed(event.ts))
            self.forgotten_full += 1
        state = AccountState(self._next, event.account, event.ts)
        self._next += 1
        self._by_name[event.account] = state
        self._place(state)
        return state

    def _place(self, state: AccountState) -> None:
        number, at = divmod(state.index, PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = [None] * PAGE
        page[at] = state

    def _kept(self, state: AccountState, now: float) -> bool:
        return self.keeps is not None and self.keeps(state, now)

    def _least_missed(self, now: float) -> AccountState:
        """The longest idle of those who stand under nothing; of the others, if there are none."""
        while self._by_name:
            state = next(iter(self._by_name.values()))
            if not self._kept(state, now):
                return state
            self._passed[state.account] = self._by_name.pop(state.account)
        return next(iter(self._passed.values()))

    def _sweep(self, ts: float) -> None:
        """Forgets whoever is idle too long; once an hour of event time."""
        self._swept = ts
        free = [state.account for state in self._passed.values() if not self._kept(state, ts)]
        for account in reversed(free):
            self._by_name[account] = self._passed.pop(account)
            self._by_name.move_to_end(account, last=False)
        while self._by_name:
            state = next(iter(self._by_name.values()))
            if ts - state.last_seen <= self.forget_s:
                return
            if self._kept(state, ts):
                self._passed[state.account] = self._by_name.pop(state.account)
                continue
            self._forget(state)
            self.forgotten_idle += 1

    def _forget(self, state: AccountState) -> None:
        if self._by_name.pop(state.account, None) is None:
            del self._passed[state.account]
        number, at = divmod(state.index, PAGE)
        page = self._pages[number]
        page[at] = None
        if not any(page):
            del self._pages[number]
        self._changed_before += state.changed
        if self.on_forget is not None:
            self.on_forget(state)

    def state(self) -> dict[str, Any]:
        """Plain values; the settings and the listener are not among them."""
        return {
            "fields": list(FIELDS),
            "accounts": [plain_account(state) for state in self],
            "passed": len(self._passed),
            "next": self._next,
            "swept": self._swept,
            "forgotten": [self.forgotten_idle, self.forgotten_full, self._changed_before],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes the place of what is held now.

        Raises:
            DataError: the snapshot is another version's or is damaged.
        """
        if list(state.get("fields", ())) != list(FIELDS):
            raise DataError(
                "snapshot: accounts",
                "was written by another version of overproof",
                "replay the log from its beginning",
            )
        try:
            held = [restored_account(values) for values in state["accounts"]]
            counts = [int(count) for count in state["forgotten"]]
            following, swept = int(state["next"]), float(state["swept"])
            passed = int(state.get("passed", 0))
            self.forgotten_idle, self.forgotten_full, self._changed_before = counts
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "snapshot: accounts",
                f"is damaged ({error})",
                "replay the log from its beginning",
            ) from error
        self._passed = {one.account: one for one in held[:passed]}
        self._by_name = OrderedDict((one.account, one) for one in held[passed:])
        self._pages = {}
        for one in held:
            self._place(one)
        self._next, self._swept = following, swept
