"""Which members of a reported community are held: those who stand out by themselves too."""

from __future__ import annotations

import pytest
from crowds import World, closest

from overproof.config.guard import GuardConfig, LadderConfig
from overproof.guard.instruments import SHIPPED, Instruments
from overproof.guard.judging import Judge
from overproof.guard.parts import Community, Edge


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
    for name in ("apart", "so_far"):
        monkeypatch.setattr(judge._accounts, name, lambda index, *_: p_values[place[index]])
    alike, spared = judge._own_conduct(community, community.now)
    return alike, {place[index] for index in spared}


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
