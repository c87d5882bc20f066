from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from ladder_findings import (
    CONFIG,
    DAY_S,
    HOUR_S,
    KEY,
    ONE,
    TWO,
    Account,
    found,
    knowing,
    together,
)

from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.guard.exemptions import Exemptions, sign
from overproof.guard.ladder import Ladder
from overproof.guard.parts import Decision, Family
from overproof.records.traffic import Action, TrafficVerdict

A = Account(0, "k0", "acme")


def community(ladder: Ladder, *told: Any, **how: Any) -> TrafficVerdict | None:
    """The only verdict of a finding about a community, if there is one."""
    said = ladder.community(*told, **how)
    assert len(said) <= 1
    return said[0] if said else None


@pytest.mark.parametrize(
    ("p", "families", "action"),
    [
        (0.5, TWO, None),
        (0.0101, TWO, None),
        (0.01, TWO, Action.WATCH),
        (0.00101, TWO, Action.WATCH),
        (0.001, TWO, Action.SOFTEN),
        (0.001, ONE, Action.WATCH),  # however small, one family alone
        (1e-9, ONE, Action.WATCH),
        (0.0001, TWO, Action.WITHHOLD),
    ],
)
def test_the_first_rung_follows_from_strength_and_families(
    p: float, families: dict[Family, float], action: Action | None
) -> None:
    ladder = Ladder(CONFIG)
    verdict = ladder.account(found(0.0, p, families), A)
    assert (verdict.action if verdict else None) == action
    assert ladder.decision(A, 1.0).action == (action or Action.LOG)


def test_one_family_never_goes_above_watch_however_often_it_is_renewed() -> None:
    ladder = Ladder(CONFIG)
    members = [Account(i, f"k{i}") for i in range(5)]
    for day in range(60):
        at = day * DAY_S
        ladder.account(found(at, 1e-6, ONE), A)
        community(ladder, together(at, 1e-6, ONE), members, reported=True)
        assert ladder.decision(A, at).action is Action.WATCH


def test_a_verdict_says_all_that_a_human_must_check() -> None:
    verdict = Ladder(CONFIG).account(found(100.0), A)
    assert verdict is not None
    assert verdict.subject.kind == "account"
    assert (verdict.subject.id, verdict.subject.members) == ("k0", ("k0",))
    assert [one.signal for one in verdict.evidence] == ["injection", "hours"]  # strongest first
    assert (verdict.p_value, verdict.e_value, verdict.n_calibration) == (0.0005, 50.0, 5000)
    assert verdict.assumption == "exchangeable"
    assert verdict.tokens_before == 1000
    assert verdict.expires_at == 100.0 + 7 * DAY_S


def test_renewed_evidence_climbs_and_only_strong_evidence_blocks_an_account() -> None:
    ladder = Ladder(CONFIG)

    def climb(p: float, days: list[float]) -> list[Action]:
        ladder = Ladder(CONFIG)
        for day in days:
            ladder.account(found(day * DAY_S, p), A)
        return [ladder.decision(A, days[-1] * DAY_S).action]

    assert climb(0.0005, [0, 0.5]) == [Action.SOFTEN]  # too soon
    assert climb(0.0005, [0, 1]) == [Action.WITHHOLD]
    assert climb(0.0005, [0, 1, 2]) == [Action.VERIFY]
    assert climb(0.0005, [0, 1, 2, 8, 16, 32]) == [Action.VERIFY]  # never by its own conduct alone
    assert climb(0.00005, [0, 1, 2]) == [Action.VERIFY]
    assert climb(0.00005, [0, 1, 9]) == [Action.BLOCK]  # verify unanswered for a week
    # What is not strange any more by itself renews nothing, whatever it once was.
    ladder.account(found(0.0), A)
    assert ladder.account(found(DAY_S, p_now=0.4), A) is None
    assert ladder.decision(A, DAY_S).action is Action.SOFTEN


def test_it_lapses_to_watch_and_then_off_the_ladder() -> None:
    ladder = Ladder(CONFIG)
    ladder.account(found(0.0), A)
    assert ladder.decision(A, 6.9 * DAY_S) == Decision(
        Action.SOFTEN, 0.0, 7 * DAY_S, ("one opening in 90 % of requests", "24 of 24 hours")
    )
    assert ladder.decision(A, 7 * DAY_S).action is Action.WATCH
    assert ladder.decision(A, 37 * DAY_S) == Decision()
    again = ladder.account(found(40 * DAY_S), A)
    assert again is not None
    assert again.action is Action.SOFTEN  # from the start


def test_a_community_climbs_to_block_its_organisation() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    ladder = knowing(members)
    said = []
    for step in range(4 * 14):  # every six hours for two weeks
        verdict = community(ladder, together(step * 6 * HOUR_S), members, reported=True)
        if verdict is not None:
            said.append((verdict.action, verdict.subject.kind, verdict.decided_at / DAY_S))
    assert said == [
        (Action.SOFTEN, "community", 0.0),
        (Action.WITHHOLD, "community", 1.0),
        (Action.VERIFY, "community", 2.0),
        (Action.BLOCK, "org", 9.0),
    ]
    new_key = Account(99, "k99", "acme", known_since=9.5 * DAY_S)
    assert ladder.decision(new_key, 10 * DAY_S).action is Action.BLOCK
    assert ladder.decision(Account(98, "k98", "other"), 10 * DAY_S) == Decision()
    mixed = [Account(i, f"m{i}", f"org{i}") for i in range(10, 14)]
    ladder = Ladder(CONFIG)
    for day in (0, 1, 2, 9):
        verdict = community(ladder, together(day * DAY_S), mixed, reported=True)
    assert verdict is not None
    assert (verdict.action, verdict.subject.kind, verdict.subject.id) == (
        Action.BLOCK, "community", "c1",
    )  # fmt: skip


def test_a_community_that_is_not_reported_is_at_most_watched() -> None:
    ladder = Ladder(CONFIG)
    verdict = community(ladder, together(0.0, 1e-4), [A], reported=False)
    assert verdict is not None
    assert verdict.action is Action.WATCH
    assert community(ladder, together(0.0, 0.2, subject="c2"), [A], reported=False) is None


def test_new_members_are_said_and_those_who_left_lapse() -> None:
    ladder = Ladder(CONFIG)
    first, second, third = (Account(i, f"k{i}") for i in range(3))
    assert community(ladder, together(0.0), [first, second], reported=True)
    assert community(ladder, together(6 * HOUR_S), [first, second], reported=True) is None
    grown = community(ladder, together(12 * HOUR_S), [first, third], reported=True)
    assert grown is not None
    assert grown.subject.members == ("k0", "k2")
    assert grown.tokens_before == 2000
    late = 6 * HOUR_S + 7 * DAY_S
    assert ladder.decision(second, late).action is Action.WATCH
    assert ladder.decision(third, late).action is Action.SOFTEN


def test_own_conduct_and_company_together_weigh_more() -> None:
    ladder = Ladder(CONFIG)
    community(ladder, together(0.0), [A, Account(1, "k1")], reported=True)
    verdict = ladder.account(found(HOUR_S), A)
    assert verdict is not None
    assert verdict.action is Action.WITHHOLD
    assert ladder.decision(Account(1, "k1"), HOUR_S).action is Action.SOFTEN


def test_permitted_use_is_spared_and_the_sparing_recorded() -> None:
    entry = sign(
        {"org": "acme", "use": "evaluation", "until": "2030-01-01", "signed_by": "Ada"}, KEY
    )
    ladder = Ladder(CONFIG, Exemptions([entry], KEY))
    for day in (0, 1, 2):
        verdict = ladder.account(found(day * DAY_S), replace(A, declared_use="evaluation"))
    assert ladder.decision(A, DAY_S) == Decision()
    first = Ladder(CONFIG, Exemptions([entry], KEY)).account(found(0.0), A)
    assert first is not None
    assert first.action is Action.WATCH
    assert first.evidence[-1].family == "exemption"
    assert "permitted by Ada" in first.evidence[-1].detail
    assert verdict is None or verdict.action is Action.WATCH
    assert [(one.account, one.action) for one in ladder.spared] == [("k0", Action.SOFTEN)]
    # Another use than the permitted one is not spared.
    other = replace(A, index=5, account="k5", declared_use="synthetic-data")
    judged = ladder.account(found(0.0), other)
    assert judged is not None
    assert judged.action is Action.SOFTEN
    # In a community the others bear it.
    crowd = community(ladder, together(0.0), [A, Account(7, "k7", "x")], reported=True)
    assert crowd is not None
    assert crowd.action is Action.SOFTEN
    assert crowd.subject.members == ("k7",)
    assert crowd.evidence[-1].detail.startswith("k0 is spared: evaluation")


def test_an_upheld_appeal_ends_a_rung_and_spares_for_its_days() -> None:
    appeals = Appeals(KEY, spare_days=5)
    ladder = Ladder(CONFIG, appeals=appeals)
    ladder.account(found(0.0, 0.00005), A)
    stood = ladder.decision(A, 1.0).action
    appeals.decide(
        "k0", 1.0, outcome=AppealOutcome.UPHELD, action=stood, decided_by="Ada", reason="a mistake"
    )
    assert stood is Action.WITHHOLD
    assert ladder.decision(A, 2.0) == Decision()
    again = ladder.account(found(DAY_S, 0.00005), A)
    assert again is not None
    assert again.action is Action.WATCH
    later = ladder.account(found(6 * DAY_S, 0.00005), A)
    assert later is not None
    assert later.action is Action.WITHHOLD


def test_what_lapsed_is_not_kept() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    ladder = knowing(members)
    for day in (0, 1, 2, 9):
        community(ladder, together(day * DAY_S), members, reported=True)
    other = Account(50, "k50", "acme", known_since=9.5 * DAY_S)
    assert ladder.decision(other, 10 * DAY_S).action is Action.BLOCK
    ladder.account(found(400 * DAY_S, 0.005), Account(60, "k60"))
    state = ladder.state()
    assert [key for key, *_ in state["standings"]] == ["a:60"]
    assert [index for index, _ in state["holds"]] == [60]


def test_snapshots_give_the_same_ladder() -> None:
    members = [Account(i, f"k{i}", "acme") for i in range(4)]
    entry = sign({"account": "k3", "use": "x", "until": "2030-01-01", "signed_by": "Ada"}, KEY)

    def new() -> Ladder:
        return Ladder(CONFIG, Exemptions([entry], KEY))

    ladder, resumed = new(), new()
    for step in range(50):
        at = step * 8 * HOUR_S
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(ladder.state()))
        resumed = new()
        resumed.restore(kept)
        for one in (ladder, resumed):
            one.account(found(at, 0.0003), A)
        finding = together(at)
        verdicts = [community(one, finding, members, reported=True) for one in (ladder, resumed)]
        assert verdicts[0] == verdicts[1]
        assert resumed.state() == ladder.state()
        for member in members:
            assert resumed.decision(member, at) == ladder.decision(member, at)
    ladder.forget([0, 1, 2, 3])
    assert ladder.state()["holds"] == []


def test_a_community_is_acted_on_only_where_members_stand_out_too() -> None:
    members = [Account(i, f"k{i}") for i in range(4)]
    ladder = Ladder(CONFIG)
    watched = community(ladder, together(0.0), members, reported=True, alike=False)
    assert watched is not None
    assert watched.action is Action.WATCH
    verdict = community(ladder, together(DAY_S), members, reported=True, inconspicuous={3})
    assert verdict is not None
    assert verdict.action is Action.SOFTEN
    assert verdict.subject.members == ("k0", "k1", "k2")
    assert all(one.family != "exemption" for one in verdict.evidence)
    assert ladder.decision(members[3], DAY_S).action is not Action.SOFTEN
    assert [(one.account, one.reason) for one in ladder.spared] == [
        ("k3", "its own conduct did not stand out at that time")
    ]


def test_who_was_spared_is_not_blocked_with_the_organisation() -> None:
    members = [Account(i, f"x{i}", "acme") for i in range(3)]
    ladder = knowing(members)
    for day in (0, 1, 2, 9):
        verdict = community(
            ladder, together(day * DAY_S), members, reported=True, inconspicuous={2}
        )
    assert verdict is not None
    assert (verdict.action, verdict.subject.kind) == (Action.BLOCK, "community")
    assert verdict.subject.members == ("x0", "x1")
    assert ladder.decision(members[2], 10 * DAY_S).action is Action.LOG
    assert ladder.decision(Account(9, "x9", "acme"), 10 * DAY_S) == Decision()


def test_who_comes_to_a_blocked_community_has_all_the_time_to_answer() -> None:
    ladder = Ladder(CONFIG)
    old = [Account(i, f"k{i}") for i in range(3)]
    for day in (0, 1, 2, 9):
        ladder.community(together(day * DAY_S), old, reported=True)
    late = Account(7, "late")
    said = []
    for step in range(9 * 4, 9 * 4 + 4 * 12):
        at = (step + 1) * 6 * HOUR_S
        for verdict in ladder.community(together(at), [*old, late], reported=True):
            if "late" in verdict.subject.members:
                said.append((verdict.action, verdict.subject.members, verdict.decided_at / DAY_S))
        assert ladder.decision(old[0], at).action is Action.BLOCK
    assert said == [
        (Action.SOFTEN, ("late",), 9.25),
        (Action.WITHHOLD, ("late",), 10.25),
        (Action.VERIFY, ("late",), 11.25),
        (Action.BLOCK, ("k0", "k1", "k2", "late"), 18.25),
    ]
