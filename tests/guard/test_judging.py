"""Which members of a reported community are held: those who stand out by themselves too."""

from __future__ import annotations

import pytest
from crowds import World, closest
from ladder_findings import together

from overproof.config.guard import GuardConfig, LadderConfig
from overproof.guard.conduct import Conduct, conduct_of
from overproof.guard.instruments import SHIPPED, Instruments
from overproof.guard.judging import Judge
from overproof.guard.parts import Community, Edge, Family


@pytest.fixture(scope="module")
def company() -> Community:
    world = World(seed=1, days=3)
    world.chats(200, requests=12)
    world.company(6)
    found = closest(world.communities(), world.who["company"])
    for one in found.members:
        one.requests = 100  # enough to tell
    return found


def judged(
    monkeypatch: pytest.MonkeyPatch, community: Community, p_values: list[float], **rules: float
) -> tuple[bool, set[int]]:
    """Whether it is acted on, and the positions of members spared, given their own p-values."""
    config = GuardConfig(ladder=LadderConfig.model_validate(rules))
    judge = Judge(config, Instruments(SHIPPED))
    place = {one.index: i for i, one in enumerate(community.members)}
    own = judge._accounts
    monkeypatch.setattr(own, "apart", lambda index, *_: (p_values[place[index]], {}))
    monkeypatch.setattr(own, "so_far", lambda index: p_values[place[index]])
    conduct = conduct_of(community, community.now, own, config)
    return conduct.alike, {place[index] for index in conduct.quiet}


def tied(community: Community, things: list[int]) -> Community:
    """The same members, each sharing so many things with a stranger."""
    edges = [
        Edge(-1, one.index, "shingle", 1.0)
        for one, n in zip(community.members, things, strict=True)
        for _ in range(n)
    ]
    return Community(community.members, edges, community.now)


def test_ties_are_the_things_shared(company: Community) -> None:
    assert company.facts is not None
    things = company.facts.things
    assert {"payer"} <= {one.kind for one in things}
    expected = [sum(i in one.users for one in things) for i in range(len(company.members))]
    assert company.ties() == expected
    assert min(expected) > 0
    assert tied(company, [0, 3, 2, 1, 0, 1]).ties() == [0, 3, 2, 1, 0, 1]


def test_members_who_do_not_stand_out_are_spared(
    monkeypatch: pytest.MonkeyPatch, company: Community
) -> None:
    closely = tied(company, [3] * 6)
    p = [0.001, 0.05, 0.051, 0.03, 0.9, 0.04]
    assert judged(monkeypatch, closely, p) == (True, {2, 4})
    assert judged(monkeypatch, closely, [0.01, 0.02, *[0.2] * 4])[0] is False
    assert judged(monkeypatch, closely, p, member_share=0.9)[0] is False


def test_who_is_tied_by_little_must_stand_out_more(
    monkeypatch: pytest.MonkeyPatch, company: Community
) -> None:
    p = [0.02, 0.02, 0.02, 0.004, 0.003, 0.001]
    loosely = tied(company, [20, 30, 3, 3, 20, 0])
    assert judged(monkeypatch, loosely, p) == (True, {2, 3})
    assert judged(monkeypatch, loosely, p, ties=0) == (True, set())
    assert judged(monkeypatch, loosely, p, loose_p=0.02) == (True, set())
    # Laxer than for the others it never is.
    assert judged(monkeypatch, loosely, [0.06] * 6, loose_p=0.9)[1] == set(range(6))


def test_who_sent_too_little_to_tell_counts_on_neither_side(
    monkeypatch: pytest.MonkeyPatch, company: Community
) -> None:
    closely = tied(company, [3] * 6)
    quiet = company.members[5]
    monkeypatch.setattr(quiet, "requests", 1)
    assert judged(monkeypatch, closely, [0.01] * 3 + [0.5] * 2 + [0.001]) == (True, {3, 4, 5})


@pytest.mark.parametrize(
    ("network", "text", "own", "counts"),
    [
        (0.001, 0.08, [0.01, 0.04, 0.9], True),
        (0.001, 0.08, [0.01, 0.06, 0.9], False),  # the middle member does not stand out
        (0.001, 0.02, [0.01, 0.04, 0.9], False),  # nor any more than the community does
        (0.06, 0.08, [0.01, 0.04, 0.9], False),  # strangers who share nothing but their work
        (0.001, 0.08, [], False),  # nobody has sent enough to tell
    ],
)
def test_what_members_ask_agrees_with_what_they_share(
    network: float, text: float, own: list[float], counts: bool
) -> None:
    families = {Family.NETWORK: network, Family.TEXT: text, Family.USE: 0.6}
    company = together(0.0, families=families)
    by_family = {Family.TEXT: own, Family.USE: [0.001] * 3}
    told = Conduct(alike=True, families=by_family).told(company, 0.05)
    # Unless half of them stand out in all, nothing of what they do counts.
    assert Conduct(alike=False, families=by_family).told(company, 0.05) == company
    if not counts:
        assert told == company
        return
    assert told.families == families | {Family.TEXT: 0.04}
    assert told.p_value == company.p_value
    said = told.evidence[-1]
    assert (said.signal, said.family, said.p_value) == ("own_text", "text", 0.04)
    assert said.detail == "what 2 of 3 members ask stands out by itself as well"
