"""Silence does not end a block: who stands under something is not forgotten before it lapses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from account_traffic import DAY, MONDAY, event
from guard_logs import BusyJudge
from ladder_findings import CONFIG, found

from overproof.guard.accounts import Accounts, AccountState
from overproof.guard.engine import Guard
from overproof.guard.judging import Judge
from overproof.guard.ladder import Ladder
from overproof.guard.parts import Decision
from overproof.records.traffic import Action


class LadderJudge(BusyJudge):
    """A judge with a real ladder, which is told what to think."""

    meet = Judge.meet  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.ladder = Ladder(CONFIG)

    def decision(self, account: Any, now: float) -> Decision:
        return self.ladder.decision(account, now)

    def forget(self, indices: Sequence[int]) -> None:
        self.ladder.forget(indices)


def seen(guard: Guard, name: str, day: float) -> Decision:
    at = MONDAY + day * DAY
    while guard.due(at):
        guard.run_pass()
    return guard.observe(event(at, account=name, request_id=f"{name} {day}"))


def block(judge: LadderJudge, account: AccountState, day: float) -> None:
    """Let an account come to ``block`` on a day, by strong evidence that was renewed."""
    for before in (9, 8, 0):
        judge.ladder.account(found(MONDAY + (day - before) * DAY, 0.00005), account)


def test_a_block_outlives_silence_and_not_its_own_term() -> None:
    judge = LadderJudge()
    guard = Guard(CONFIG, judge=judge)  # type: ignore[arg-type]
    for name in ("blocked", "returning", "idle"):
        seen(guard, name, 9)
    for name in ("blocked", "returning"):
        account = guard.accounts.find(name)
        assert account is not None
        block(judge, account, 10)
    for day in range(10, 99):
        seen(guard, "somebody else", day)
        assert ("idle" in guard.accounts) == (day - 9 <= CONFIG.forget_days)
    assert "blocked" in guard.accounts
    assert seen(guard, "returning", 99).action is Action.BLOCK
    seen(guard, "somebody else", 100.1)  # ninety days after the block
    assert "blocked" not in guard.accounts
    assert seen(guard, "blocked", 101) == Decision()


def test_who_stands_under_nothing_makes_room_first() -> None:
    accounts = Accounts(most_accounts=4)
    held = {"a", "b"}
    accounts.keeps = lambda state, now: state.account in held
    for number, name in enumerate("abcdef"):
        accounts.get(event(MONDAY + number, account=name))
    assert [state.account for state in accounts] == ["a", "b", "e", "f"]
    held |= {"e", "f"}
    accounts.get(event(MONDAY + 7, account="a"))
    accounts.get(event(MONDAY + 8, account="g"))  # all are held: the longest idle goes
    assert [state.account for state in accounts] == ["e", "f", "a", "g"]
    assert all(accounts.at(state.index) is state for state in accounts)
    assert (len(accounts), accounts.forgotten_full, accounts.find("b")) == (4, 3, None)


@pytest.mark.parametrize("at", [30, 150, 290])
def test_a_table_with_standing_accounts_goes_on_from_a_snapshot(at: int) -> None:
    def new() -> Accounts:
        table = Accounts(forget_days=2, most_accounts=12)
        # Each stands for five days of six, and they differ in which.
        table.keeps = lambda state, now: (now // DAY + state.index) % 6 > 0
        return table

    whole, half = new(), new()
    for number in range(300):
        one = event(MONDAY + number * 9000, account=f"a{number * number % 29}")
        whole.get(one).add(one, None)
        if number == at:
            half.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(whole.state())))
        elif number > at:
            half.get(one).add(one, None)
    assert repr(half.state()) == repr(whole.state())
    assert whole.forgotten_full > 0
    assert whole.forgotten_idle > 0
