"""Communities: who is found together, who is left alone, and that it is the same every time."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from crowds import DAY_S, START, World, closest, key, names
from msgspec.structs import replace

from overproof.config.guard import CommunityConfig
from overproof.guard.accounts import AccountState
from overproof.guard.communities import find_communities
from overproof.guard.identities import CommunityIds
from overproof.guard.parts import Community
from overproof.guard.shared import SharedEvidence
from overproof.guard.signals.community_succession import SIGNAL
from overproof.records.traffic import Event


@pytest.fixture(scope="module")
def mixed() -> tuple[World, list[Community]]:
    """Chats and a framework around a pool, a paraphrasing pool, a company and evaluators."""
    world = World(seed=1, days=5)
    world.chats(300, requests=12)
    world.pool(25)
    world.pool(40, requests=80, frames=40, name="paraphrase", mix=0.5)
    world.framework(60)
    world.company(15)
    world.evaluators(10)
    return world, world.communities()


@pytest.mark.parametrize("pool", ["pool", "paraphrase", "company"])
def test_a_crowd_is_found_whole_and_alone(mixed: tuple[World, list[Community]], pool: str) -> None:
    world, found = mixed
    members = set(world.who[pool])
    mine = names(closest(found, world.who[pool]))
    assert len(mine & members) / len(members) >= 0.95
    assert len(mine & members) / len(mine) >= 0.95


def test_evaluators_are_found_so_that_honest_communities_can_calibrate(
    mixed: tuple[World, list[Community]],
) -> None:
    world, found = mixed
    assert names(closest(found, world.who["evaluator"])) <= set(world.who["evaluator"])


def test_chats_and_framework_users_are_tied_to_nobody(
    mixed: tuple[World, list[Community]],
) -> None:
    world, found = mixed
    alone = set(world.who["chat"]) | set(world.who["framework"])
    assert not alone & set().union(*map(names, found))


def test_unrelated_users_make_no_community() -> None:
    world = World(seed=2, days=4)
    world.chats(1000, requests=6)
    assert world.communities() == []


def test_edges_are_few_and_between_members(mixed: tuple[World, list[Community]]) -> None:
    for community in mixed[1]:
        indices = {one.index for one in community.members}
        assert 0 < len(community.edges) <= 8 * len(indices)
        assert all({edge.a, edge.b} <= indices and edge.a != edge.b for edge in community.edges)
        assert all(edge.weight > 0 for edge in community.edges)
        order = [one.index for one in community.members]
        assert order == sorted(order)


def test_the_order_of_events_within_a_second_changes_nothing() -> None:
    world = World(seed=3, days=3)
    world.chats(60)
    world.pool(12)
    world.company(6)
    found = []
    for order in (lambda row: (int(row[0]), row[1]), lambda row: (int(row[0]), -row[1])):
        shared, accounts = world.run(order=order)
        communities = find_communities(shared, accounts, world.now)
        found.append({frozenset(names(one)) for one in communities})
    assert found[0] == found[1]
    assert found[0]


def test_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    world = World(seed=4, days=3)
    world.chats(80)
    world.pool(12)
    straight, accounts = world.run()
    half = START + 1.5 * DAY_S
    before, _ = world.run(until=half)
    state = before.state()
    for things in state["things"].values():
        things["things"] = list(things["things"])
    again = SharedEvidence()
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(state)))
    by_name = {one.account: one for one in accounts}
    for ts, row, sketch in sorted(world.rows, key=lambda one: one[0]):
        if ts >= half:
            event = Event(ts=ts, request_id="", endpoint="messages", **row)
            again.add(by_name[event.account], event, sketch)
    one = find_communities(straight, accounts, world.now)
    two = find_communities(again, accounts, world.now)
    assert one
    assert [names(found) for found in one] == [names(found) for found in two]
    assert [found.edges for found in one] == [found.edges for found in two]


def test_a_pool_without_text_is_found_by_its_payer() -> None:
    world = World(seed=5, days=3)
    world.chats(100)
    world.pool(10, payer="one card")
    world.rows = [(ts, row, None) for ts, row, _ in world.rows]
    found = world.communities()
    assert names(closest(found, world.who["pool"])) == set(world.who["pool"])
    assert {edge.kind for edge in found[0].edges} >= {"payer"}


def test_accounts_that_wake_together_are_found_without_text_or_payer() -> None:
    """One queue that starts and stops; the same payer of nothing, no text at all."""
    world = World(seed=11, days=7)
    world.chats(150, requests=60)
    pool = world.pool(12, requests=400)
    world.rows = [
        (ts, row, None)
        for ts, row, _ in world.rows
        if row["account"] not in pool or key("burst", ts // 7200) % 5 == 0
    ]
    found = world.communities()
    assert {frozenset(names(one)) for one in found} == {frozenset(pool)}
    assert {edge.kind for edge in found[0].edges} == {"synchrony"}


def test_without_creation_dates_rare_things_still_tie() -> None:
    world = World(seed=6, days=3)
    world.chats(600, requests=6)
    world.pool(6)
    for _, row, _ in world.rows:
        row["account_created"] = None
    assert names(closest(world.communities(), world.who["pool"])) == set(world.who["pool"])


def test_nobody_and_one_account() -> None:
    shared = SharedEvidence()
    assert find_communities(shared, [], START) == []
    world = World(seed=7, days=1)
    world.chats(1, requests=50)
    assert world.communities() == []


def test_fewer_than_the_least_members_are_no_community() -> None:
    world = World(seed=8, days=3)
    world.chats(100)
    world.pool(5)
    shared, accounts = world.run()
    five = find_communities(shared, accounts, world.now, CommunityConfig(least_members=5))
    six = find_communities(shared, accounts, world.now, CommunityConfig(least_members=6))
    assert [len(one.members) for one in five] == [5]
    assert six == []


def test_blocked_accounts_successors_are_known_by_what_they_take_up() -> None:
    world = World(seed=9, days=6)
    world.chats(150)
    first = world.pool(8)
    world.rows = [
        row for row in world.rows if row[1]["account"] not in first or row[0] < START + 2 * DAY_S
    ]
    heirs = world.pool(8, name="heir")
    frame, old = key("heir", "frame", 0), key("pool", "frame", 0)
    for at, (ts, row, sketch) in enumerate(world.rows):
        if row["account"] in heirs and sketch is not None and sketch.template == frame:
            row["account_created"] = START + 3 * DAY_S
            world.rows[at] = (ts, row, replace(sketch, template=old, opening=old ^ 5))
    world.rows = [
        row for row in world.rows if row[1]["account"] not in heirs or row[0] > START + 3 * DAY_S
    ]
    shared, accounts = world.run(until=START + 2.5 * DAY_S)
    banned = [one.index for one in accounts if one.account in first]
    assert shared.ban(banned, START + 2.5 * DAY_S) > 0
    by_name = {one.account: one for one in accounts}
    for ts, row, sketch in sorted(world.rows, key=lambda one: one[0]):
        if ts >= START + 2.5 * DAY_S:
            event = Event(ts=ts, request_id="", endpoint="messages", **row)
            if event.account not in by_name:
                by_name[event.account] = AccountState(len(by_name), event.account, ts)
            by_name[event.account].add(event, sketch)
            shared.add(by_name[event.account], event, sketch)
    found = find_communities(shared, by_name.values(), world.now)
    community = closest(found, heirs)
    assert set(heirs) <= names(community)
    assert "succession" in {edge.kind for edge in community.edges}
    assert SIGNAL.measure(community) == pytest.approx(1.0)


def test_names_last_while_most_members_stay() -> None:
    world = World(seed=10, days=3)
    world.chats(60)
    world.pool(10)
    world.company(6)
    found = world.communities()
    ids = CommunityIds()
    first = ids.match(found)
    assert len(set(first)) == len(found) >= 2
    shrunk = [
        Community(one.members[1:], one.edges, one.now + DAY_S, one.facts) for one in found[::-1]
    ]
    assert ids.match(shrunk) == first[::-1]
    again = CommunityIds()
    again.restore(ids.state())
    assert again.match(found) == first
    other = Community(world.run()[1][:3], (), found[0].now)
    assert again.match([other])[0] not in first


def test_facts_are_the_members_own(mixed: tuple[World, list[Community]]) -> None:
    world, found = mixed
    community = closest(found, world.who["company"])
    facts = community.facts
    assert facts is not None
    assert np.unique(facts.owners).size == 1
    assert facts.active.sum() == sum(one.requests for one in community.members)
    assert facts.totals.sum() == facts.active.sum()
