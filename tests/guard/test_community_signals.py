"""Community signals: each on what it is about, and none on how many there are."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from crowds import DAY_S, START, World, closest

from overproof.guard.accounts import AccountState
from overproof.guard.activity import SLOTS
from overproof.guard.communities import find_communities
from overproof.guard.facts import CommunityFacts, Population, SharedThing
from overproof.guard.parts import Community
from overproof.guard.signals.communities import COMMUNITY_SIGNALS, community_vector
from overproof.records.traffic import Event, Sketch

SIGNALS = {signal.name: signal for signal in COMMUNITY_SIGNALS}
NOW = START + 7 * DAY_S
NAN = float("nan")


@pytest.fixture(scope="module")
def crowds() -> dict[str, Community]:
    world = World(seed=1, days=5)
    world.chats(200, requests=15)
    world.pool(25)
    world.pool(40, requests=80, frames=40, name="paraphrase", mix=0.5)
    world.company(15)
    world.evaluators(10)
    found = world.communities()
    kinds = ("pool", "paraphrase", "company", "evaluator")
    return {kind: closest(found, world.who[kind]) for kind in kinds}


def by_hand(members: list[AccountState], active: np.ndarray, **more: object) -> Community:
    """A community whose facts the test states."""
    count = len(members)
    everybody = Population(1000, np.zeros(28), np.ones(SLOTS), np.full(16, 1 / 16))
    facts = CommunityFacts(
        active=active,
        away=np.zeros((count, 28), dtype=np.uint8),
        totals=np.zeros((count, 28), dtype=np.int64),
        owners=np.arange(count),
        banned=np.zeros(count, dtype=np.bool_),
        things=(),
        population=everybody,
    )
    return Community(members, (), NOW, replace(facts, **more))  # type: ignore[arg-type]


def accounts(count: int, **fields: object) -> list[AccountState]:
    made = [AccountState(at, f"a{at}", START) for at in range(count)]
    for one in made:
        one.requests = 100
        one.last_seen = NOW
        for name, value in fields.items():
            setattr(one, name, value)
    return made


def quiet(count: int) -> np.ndarray:
    return np.zeros((count, SLOTS), dtype=np.uint8)


def measure(name: str, community: Community) -> float:
    return SIGNALS[name].measure(community)


def test_the_vector_has_one_finite_number_or_nan_a_signal(crowds: dict[str, Community]) -> None:
    assert len(SIGNALS) == len(COMMUNITY_SIGNALS) == 23
    for community in crowds.values():
        vector = community_vector(community)
        assert vector.shape == (23,)
        assert vector.dtype == np.float64
        assert not np.isinf(vector).any()
        for signal in COMMUNITY_SIGNALS:
            text = signal.detail(community)
            assert text
            assert len(text) < 200


@pytest.mark.parametrize(
    ("name", "pool", "honest"),
    [
        ("injection", "pool", "company"),
        ("shared_text", "paraphrase", "company"),
        ("group_elicitation", "pool", "evaluator"),
        ("load_balance", "pool", "company"),
        ("rates_alike", "paraphrase", "company"),
        ("creation_burst", "pool", "evaluator"),
        ("org_spread", "pool", "company"),
        ("partition", "pool", "evaluator"),
        ("partition", "pool", "company"),
        ("disjoint_turns", "pool", "evaluator"),
        ("round_the_clock", "pool", "company"),
    ],
)
def test_a_pool_stands_above_its_honest_look_alike(
    crowds: dict[str, Community], name: str, pool: str, honest: str
) -> None:
    assert measure(name, crowds[pool]) > measure(name, crowds[honest]) + 0.05


@pytest.mark.parametrize("kind", ["pool", "company"])
def test_no_signal_is_a_function_of_size(kind: str) -> None:
    """Four times the members, alike in everything else, make no signal much higher."""
    vectors = []
    for number in (12, 48):
        world = World(seed=2, days=4)
        world.chats(150, requests=6)
        getattr(world, kind)(number)
        found = closest(world.communities(), world.who[kind])
        assert len(found.members) >= 0.9 * number
        vectors.append(community_vector(found))
    small, large = vectors
    log_scale = {"rates_alike", "creation_burst", "load_balance", "rarity", "one_capability"}
    for signal, one, four in zip(COMMUNITY_SIGNALS, small, large, strict=True):
        if not np.isnan(one + four):
            most = 1.2 if signal.name in log_scale else 0.15
            assert four - one < most, f"{signal.name}: {one:.2f} at 12, {four:.2f} at 48"


def test_empty_members_measure_nothing_and_break_nothing() -> None:
    bare = accounts(3, requests=0)
    for community in (by_hand(bare, quiet(3)), Community(bare, (), NOW)):
        vector = community_vector(community)
        assert not np.isinf(vector).any()
        for signal in COMMUNITY_SIGNALS:
            assert isinstance(signal.detail(community), str)


@pytest.mark.parametrize("seed", range(3))
def test_synchrony_is_beyond_habit_and_beyond_everybody(seed: int) -> None:
    draw = np.random.default_rng(seed)
    hour = np.arange(SLOTS) % 48
    habit = np.where((hour > 16) & (hour < 36), 0.4, 0.02)
    honest = (draw.random((30, SLOTS)) < habit).astype(np.uint8)
    bursts = (draw.random(SLOTS) < 0.3) * 0.6
    driven = (draw.random((30, SLOTS)) < bursts).astype(np.uint8)
    alone = measure("synchrony", by_hand(accounts(30), honest))
    together = measure("synchrony", by_hand(accounts(30), driven))
    assert abs(alone) < 0.03  # the same office hours are no synchrony
    assert together > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_balance_is_near_nothing_for_independent_accounts_of_any_number(seed: int) -> None:
    draw = np.random.default_rng(seed)
    for count in (5, 80):
        active = draw.poisson(draw.lognormal(0, 1, (count, 1)), (count, SLOTS))
        community = by_hand(accounts(count), np.minimum(active, 255).astype(np.uint8))
        assert abs(measure("load_balance", community)) < 0.6
    dealt = draw.multinomial(20, np.full(20, 1 / 20), SLOTS).T.astype(np.uint8)
    assert measure("load_balance", by_hand(accounts(20), dealt)) > 1.5


def test_a_pivot_is_beyond_what_everybody_does_on_release_day() -> None:
    totals = np.full((20, 28), 10)
    away = np.zeros((20, 28), dtype=np.uint8)
    away[:10, 20:] = 10  # half of the group moves within six hours
    moved = by_hand(accounts(20), quiet(20), away=away, totals=totals)
    assert moved.facts is not None
    everybody = np.where(np.arange(28) >= 20, 0.5, 0.0)
    released = replace(moved.facts, population=replace(moved.facts.population, away=everybody))
    assert measure("group_pivot", moved) > 0.3
    assert measure("group_pivot", replace(moved, facts=released)) == 0.0


def test_a_release_day_is_found_as_everybodys_in_a_world() -> None:
    world = World(seed=3, days=6)
    world.chats(120, requests=20)
    pool = world.pool(10)
    world.move(pool, START + 3 * DAY_S)
    apart = measure("group_pivot", closest(world.communities(), pool))
    world.move([*world.who["chat"], *pool], START + 3 * DAY_S)
    shared, known = world.run()
    along = measure("group_pivot", closest(find_communities(shared, known, world.now), pool))
    assert apart > 0.5
    assert along < 0.2


def thing(kind: str, users: list[int], banned: float = NAN) -> SharedThing:
    return SharedThing(kind, 9.0, START, np.array(users), np.full(len(users), 50), banned)


@pytest.mark.parametrize("kind", ["payer", "device", "address"])
def test_a_shared_payer_counts_across_organisations_only(kind: str) -> None:
    members = accounts(4)
    for at, one in enumerate(members):
        one.org = "same" if at < 2 else f"org{at}"
    inside = by_hand(members, quiet(4), things=(thing(kind, [0, 1]),))
    across = by_hand(members, quiet(4), things=(thing(kind, [0, 1, 2]),))
    assert measure(f"shared_{kind}", inside) == 0.0
    assert measure(f"shared_{kind}", across) == 0.75


def test_succession_counts_those_who_came_about_the_ban_or_after() -> None:
    members = accounts(4)
    members[3].first_seen = START - 40 * DAY_S
    banned = np.array([True, False, False, False])
    community = by_hand(
        members, quiet(4), banned=banned, things=(thing("template", [0, 1, 3], START),)
    )
    assert measure("succession", community) == pytest.approx(1 / 3)


def test_injection_gives_every_owner_one_vote() -> None:
    members = accounts(10, sketched=100)
    owners = np.array([0] * 8 + [1, 2])
    community = by_hand(members, quiet(10), owners=owners, things=(thing("template", [8, 9]),))
    assert measure("injection", community) == pytest.approx(2 / 3 * 0.5)
    one_owner = by_hand(members, quiet(10), owners=owners, things=(thing("template", [0, 1, 2]),))
    assert measure("injection", one_owner) == 0.0


def test_adoption_needs_the_same_model_within_a_day() -> None:
    together, apart = accounts(4), accounts(4)
    for at in range(4):
        for one, moved in ((together[at], DAY_S + at), (apart[at], 2 * at * DAY_S + 1)):
            for ts, model in ((START, "old"), (START + moved, "new")):
                one.add(Event(ts=ts, request_id="", account="", model=model, endpoint="x"), None)
    assert measure("adoption", by_hand(together, quiet(4))) == 1.0
    assert measure("adoption", by_hand(apart, quiet(4))) == 0.25


def test_sampling_counts_repeats_across_members() -> None:
    assert measure("group_sampling", by_hand(accounts(3, repeats=94), quiet(3))) == 0.94
    assert measure("group_sampling", by_hand(accounts(3), quiet(3))) == 0.0


def test_one_capability_is_measured_against_everybody() -> None:
    usual, narrow = accounts(3), accounts(3)
    for one in usual:
        one.capabilities = array("I", [20] * 16)
    for one in narrow:
        one.capabilities = array("I", [0] * 15 + [320])
    assert measure("one_capability", by_hand(usual, quiet(3))) < 0.01
    assert measure("one_capability", by_hand(narrow, quiet(3))) > 2.5
    assert "capability 15" in SIGNALS["one_capability"].detail(by_hand(narrow, quiet(3)))


def test_first_day_is_about_new_accounts() -> None:
    def community(first: int, made: float) -> Community:
        members = accounts(3, created=made)
        for one in members:
            for day in range(5):
                for at in range(first if day == 0 else 20):
                    ts = START + day * DAY_S + at
                    event = Event(ts=ts, request_id="", account="", model="m", endpoint="x")
                    one.add(event, Sketch())
        return by_hand(members, quiet(3))

    assert measure("group_first_day", community(20, START)) == pytest.approx(0.5, abs=0.02)
    assert measure("group_first_day", community(1, START)) < 0.1
    assert np.isnan(measure("group_first_day", community(20, START - 90 * DAY_S)))
