"""Whom a verdict about many reaches: members, latecomers, organisations, upheld appeals."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from ladder_findings import CONFIG, DAY_S, HOUR_S, KEY, Account, found, knowing, together

from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.guard.ladder import Ladder
from overproof.guard.parts import Decision
from overproof.records.traffic import Action, TrafficVerdict


def driven(
    ladder: Ladder, members: Sequence[Account], since: float, until: float
) -> list[TrafficVerdict]:
    """The verdicts of a pass every six hours, ``since`` and ``until`` in days, both included."""
    said = []
    for step in range(round(since * 4), round(until * 4) + 1):
        said += ladder.community(together(step * 6 * HOUR_S), members, reported=True)
    return said


def uphold(appeals: Appeals, account: str, day: float) -> None:
    appeals.decide(
        account, day * DAY_S, outcome=AppealOutcome.UPHELD, action=Action.BLOCK,
        decided_by="Ada", reason="a benchmark",
    )  # fmt: skip


# ------------------------------------------------------------ organisations


def test_an_organisation_is_not_blocked_for_some_of_its_accounts() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    others = [Account(i, f"k{i}", "acme") for i in range(4, 12)]
    ladder = knowing(members, others)
    last = driven(ladder, members, 0, 10)[-1]
    assert (last.action, last.subject.kind, last.subject.id) == (Action.BLOCK, "community", "c1")
    assert all(ladder.decision(one, 11 * DAY_S).action is Action.BLOCK for one in members)
    assert all(ladder.decision(one, 11 * DAY_S) == Decision() for one in others)
    new_key = Account(50, "k50", "acme", known_since=10.5 * DAY_S)
    assert ladder.decision(new_key, 11 * DAY_S) == Decision()


def test_without_knowing_all_accounts_no_organisation_is_blocked() -> None:
    ladder = Ladder(CONFIG)
    last = driven(ladder, [Account(i, f"k{i}", "acme") for i in range(4)], 0, 10)[-1]
    assert (last.action, last.subject.kind) == (Action.BLOCK, "community")


def test_a_blocked_organisation_holds_its_new_keys_and_nobody_known_before() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    moved = Account(4, "k4", "elsewhere")
    ladder = knowing(members, [moved])
    last = driven(ladder, members, 0, 9)[-1]
    assert (last.action, last.subject.kind, last.subject.id) == (Action.BLOCK, "org", "acme")
    moved.org = "acme"  # known before the block, in another organisation
    new_key = Account(50, "k50", "acme", known_since=9.5 * DAY_S)
    assert ladder.decision(moved, 10 * DAY_S) == Decision()
    assert ladder.decision(new_key, 10 * DAY_S).action is Action.BLOCK
    kept = Ladder(CONFIG)
    kept.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(ladder.state())))
    assert kept.decision(moved, 10 * DAY_S) == Decision()
    assert kept.decision(new_key, 10 * DAY_S).action is Action.BLOCK


def test_a_new_key_does_not_keep_the_block_of_its_organisation_from_being_renewed() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    new_key = Account(50, "k50", "acme", known_since=9.5 * DAY_S)
    ladder = knowing(members, [new_key])
    ladder.known = list(members)
    driven(ladder, members, 0, 9)
    ladder.known = [*members, new_key]
    said = driven(ladder, members, 9.75, 60)
    assert {one.subject.kind for one in said} == {"org"}
    held = ladder.decision(new_key, 140 * DAY_S)  # ninety days from day 60
    assert (held.action, held.since) == (Action.BLOCK, 9 * DAY_S)


def test_the_block_of_an_organisation_is_said_even_if_its_members_are_blocked_already() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    idle = Account(4, "k4", "acme")
    ladder = knowing(members, [idle])
    assert driven(ladder, members, 0, 10)[-1].subject.kind == "community"
    ladder.known = list(members)  # the fifth was forgotten
    said = driven(ladder, members, 10.25, 11)
    assert [(one.decided_at / DAY_S, one.subject.kind) for one in said] == [(10.25, "org")]


# ------------------------------------------------------------ latecomers


def test_a_latecomer_has_all_its_days_to_answer() -> None:
    old = [Account(i, f"k{i}") for i in range(3)]
    late = Account(9, "k9")
    ladder = knowing(old, [late])
    driven(ladder, old, 0, 4.75)
    came: dict[Action, float] = {}
    for step in range(5 * 4, 20 * 4):
        at = step * 6 * HOUR_S
        ladder.community(together(at), [*old, late], reported=True)
        decision = ladder.decision(late, at)
        came.setdefault(decision.action, at / DAY_S)
        assert decision.since == came[decision.action] * DAY_S
        expected = Action.BLOCK if at >= 9 * DAY_S else Action.VERIFY
        assert ladder.decision(old[0], at).action is expected
    assert came == {Action.SOFTEN: 5, Action.WITHHOLD: 6, Action.VERIFY: 7, Action.BLOCK: 14}


def test_who_joins_at_the_lowest_rung_climbs_a_day_after_joining() -> None:
    old, late = [Account(i, f"k{i}") for i in range(3)], Account(9, "k9")
    ladder = knowing(old, [late])
    driven(ladder, old, 0, 0.25)
    driven(ladder, [*old, late], 0.5, 1.25)
    assert ladder.decision(old[0], 1.25 * DAY_S).action is Action.WITHHOLD
    assert ladder.decision(late, 1.25 * DAY_S).action is Action.SOFTEN
    driven(ladder, [*old, late], 1.5, 1.5)
    assert ladder.decision(late, 1.5 * DAY_S) == Decision(
        Action.WITHHOLD, 1.5 * DAY_S, 15.5 * DAY_S, ladder.decision(late, 1.5 * DAY_S).reasons
    )


# ------------------------------------------------------------ upheld appeals


@pytest.mark.parametrize("again", [False, True])
def test_an_upheld_appeal_ends_a_block_for_good(again: bool) -> None:
    appeals = Appeals(KEY)
    ladder = Ladder(CONFIG, appeals=appeals)
    one = Account(0, "k0")
    for day in (0, 1, 9):
        ladder.account(found(day * DAY_S, 0.00005), one)
    assert ladder.decision(one, 9 * DAY_S).action is Action.BLOCK
    assert ladder.stands(one, 9 * DAY_S)
    uphold(appeals, "k0", 10)
    if again:  # a look meanwhile, at which it is spared
        ladder.account(found(16 * DAY_S, 0.00005), one)
    for day in (10, 39, 41, 60, 98):
        assert ladder.decision(one, day * DAY_S).action.rung < Action.SOFTEN.rung
        assert not ladder.stands(one, day * DAY_S)
    # What the appeal was about is no new evidence, however strong it was once.
    ladder.account(found(42 * DAY_S, 0.00005, p_now=0.4), one)
    assert ladder.decision(one, 42 * DAY_S).action is Action.WATCH
    said = ladder.account(found(43 * DAY_S, 0.0005), one)
    assert said is not None
    assert (said.action, ladder.decision(one, 43 * DAY_S).since) == (Action.SOFTEN, 43 * DAY_S)


def test_an_upheld_appeal_ends_what_company_brought_and_the_climb_begins_anew() -> None:
    appeals = Appeals(KEY)
    ladder = Ladder(CONFIG, appeals=appeals)
    members = [Account(i, f"k{i}") for i in range(4)]
    driven(ladder, members, 0, 10)
    uphold(appeals, "k0", 10.1)
    said = driven(ladder, members, 10.25, 60)
    assert ladder.decision(members[1], 60 * DAY_S).action is Action.BLOCK
    told = [(one.decided_at / DAY_S, one.action) for one in said if "k0" in one.subject.members]
    # Spared for thirty days; then each rung in its turn, and each is said.
    assert [pair for pair in told if pair[0] < 52] == [
        (40.25, Action.SOFTEN), (41.25, Action.WITHHOLD), (42.25, Action.VERIFY),
        (49.25, Action.BLOCK),
    ]  # fmt: skip


def test_the_upheld_appeal_of_a_member_ends_the_block_of_its_organisation() -> None:
    appeals = Appeals(KEY)
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    new_key = Account(50, "n0", "acme", known_since=9.5 * DAY_S)
    ladder = Ladder(CONFIG, appeals=appeals)
    ladder.known = list(members)
    assert driven(ladder, members, 0, 9)[-1].subject.kind == "org"
    assert ladder.decision(new_key, 9.75 * DAY_S).action is Action.BLOCK
    uphold(appeals, "k2", 10)
    resumed = Ladder(CONFIG, appeals=appeals)
    resumed.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(ladder.state())))
    for one in (ladder, resumed):
        assert one.decision(new_key, 10.25 * DAY_S) == Decision()
        assert one.decision(members[2], 10.25 * DAY_S) == Decision()
        assert one.decision(members[0], 10.25 * DAY_S).action is Action.BLOCK
    said = driven(ladder, members, 10.25, 30)  # renewed against three of four
    assert {one.subject.kind for one in said} <= {"community"}
    assert ladder.decision(new_key, 30 * DAY_S) == Decision()


def test_an_upheld_appeal_frees_an_account_from_the_block_of_its_organisation() -> None:
    appeals = Appeals(KEY)
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    new_keys = [Account(50 + i, f"n{i}", "acme", known_since=9.5 * DAY_S) for i in range(2)]
    ladder = Ladder(CONFIG, appeals=appeals)
    ladder.known = [*members]
    assert driven(ladder, members, 0, 9)[-1].subject.kind == "org"
    ladder.known = [*members, *new_keys]
    uphold(appeals, "n0", 10)
    driven(ladder, members, 10, 50)
    kept = Appeals(KEY)
    kept.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(appeals.state())))
    resumed = Ladder(CONFIG, appeals=kept)
    resumed.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(ladder.state())))
    for one in (ladder, resumed):
        assert one.decision(new_keys[0], 50 * DAY_S) == Decision()
        assert one.decision(new_keys[1], 50 * DAY_S).action is Action.BLOCK
