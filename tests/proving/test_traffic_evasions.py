"""Each knob of an evasion does what it says, alone, and nothing to a log without evasions."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from random import Random

import msgspec
import pytest
from pydantic import ValidationError

from overproof.config.traffic import Evasion, TrafficPlan
from overproof.proving.traffic.application import chars_of
from overproof.proving.traffic.attacks.disguise import growing, paused, slots
from overproof.proving.traffic.attacks.evasive import attack_share, evading, useful_share
from overproof.proving.traffic.attacks.items import partition, repeating
from overproof.proving.traffic.attacks.recruits import Force
from overproof.proving.traffic.attacks.wording import Words, broken_up, composed
from overproof.proving.traffic.harvest import REASONED, Bare, Injection, injections
from overproof.proving.traffic.identity import Job
from overproof.proving.traffic.simulate import simulate
from overproof.proving.traffic.texts import Bank
from overproof.proving.traffic.world import World
from overproof.records.traffic import Event, Truth

DAY = 86_400.0
RUN = 8


def plan(evasion: Evasion | None = None, **changes: object) -> TrafficPlan:
    alone = {
        "seed": 5, "bank": "test", "days": 6.0, "campaigns": {}, "each_class": 0, "real_text": (),
        "contamination": None, "heavy_events": 0,
    }  # fmt: skip
    variants = {"variant": evasion} if evasion else {}
    return TrafficPlan.model_validate({**alone, "evasions": variants, **changes})


class Log:
    """One campaign of a variant of L3 with twelve accounts, and nobody else."""

    def __init__(self, **knobs: object) -> None:
        few = {"campaigns": 1, "accounts": (12, 12)}
        self.evasion = Evasion.model_validate({**few, **knobs})
        self.plan = plan(self.evasion)
        self.truth: list[Truth] = []
        self.events = list(simulate(self.plan, on_truth=self.truth.append))
        world = World(self.plan, Bank("test"))
        self.force: Force = evading(world, "variant-000", self.evasion)[0]
        self.joins = {client.account: joined for joined, client in self.force.joins}

    @property
    def harvest(self) -> list[Event]:
        """What was asked from when each account was put to work."""
        return [event for event in self.events if event.ts >= self.joins[event.account]]


@pytest.fixture(scope="module")
def level() -> Log:
    return Log()


@pytest.fixture(scope="module")
def evaded() -> Log:
    return Log(
        own_payers=True, own_devices=True, own_addresses=True, paraphrase="per-account",
        no_queue=True, spread_h=30.0, mix=0.5, aged=True, repeat=0.4, rate=60.0,
    )  # fmt: skip


def instructions(log: Log) -> list[tuple[str, str]]:
    """Account and whole text of what has an elicitation in it: no chat is this long at once."""
    found = []
    for event in log.harvest:
        texts = [message["content"] for message in event.messages or ()]
        roles = [message["role"] for message in event.messages or ()]
        if (len(texts) == 1 and "\n\n" in texts[0]) or roles == ["system", "user"]:
            found.append((event.account, texts[0]))
    return found


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", text.lower())
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def owners(events: list[Event], what: str) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        found[getattr(event, what)].add(event.account)
    return found


def digest(of: TrafficPlan) -> str:
    """Of a whole log with its truth."""
    whole = hashlib.sha256()
    encode = msgspec.json.Encoder().encode
    for event in simulate(of, on_truth=lambda truth: whole.update(encode(truth))):
        whole.update(encode(event))
    return whole.hexdigest()


CROWD = {
    "each_class": 1, "campaigns": {"L2": 1, "L3": 1, "L4": 1}, "days": 1.0, "light": 20,
    "accounts": {"L2": (2, 2), "L3": (6, 6), "L4": (6, 6)}, "heavy_events": 300,
    "framework_users": (2, 3),
}  # fmt: skip


def test_a_variant_without_campaigns_changes_no_byte() -> None:
    assert digest(plan(**CROWD)) == digest(plan(Evasion(campaigns=0, no_queue=True), **CROWD))


def test_variants_change_nobody_else(level: Log) -> None:
    def others(of: TrafficPlan) -> set[tuple[str, object, object, object]]:
        found = {(e.account, e.payer, e.account_created, e.asn) for e in simulate(of, on_truth=add)}
        return {each for each in found if each[0] not in attackers}

    attackers: set[str] = set()

    def add(truth: Truth) -> None:
        if (truth.campaign or "").startswith("variant-"):
            attackers.add(truth.account)

    assert others(plan(**CROWD)) == others(plan(level.evasion, **CROWD))
    assert len(attackers) >= 12


def test_the_levels_draw_their_chance_in_the_order_they_always_did() -> None:
    """A log without evasions must stay the same byte for byte, and so what a harvest draws."""
    world = World(plan(), Bank("test"))
    texts = injections(world, Random(1), "en", n=3, families=2)
    made = Injection(world, Random(2), texts, "en", model=lambda _: "m", graded=0.0)
    jobs = [made.ask(0.0) for _ in range(200)]
    rng, bank = Random(2), world.bank
    world.params(rng, (0.6, 0.7, 1.0, 1.0))
    tasks = [*bank.lines("open", "en"), *map(bank.template, bank.agents["ask"])]
    for job in jobs:
        into, out = REASONED.draw(rng)
        given = {"payload": bank.payload(rng, chars_of(into, 900), "en")}
        task = tasks[int(rng.random() * len(tasks))].fill(rng, given)
        text, place = texts[int(rng.random() * len(texts))]
        said = "\n".join(message["content"] for message in job.messages)
        parts = [task, text] if place == "after" else [text, task]
        assert said == ("\n" if place == "system" else "\n\n").join(parts)
        assert (job.into, job.out) == (into, out)


def test_truth_names_base_level_and_variant(evaded: Log) -> None:
    assert {(t.kind, t.level, t.campaign, t.group) for t in evaded.truth} == {
        ("attack", "L3", "variant-000", "variant-000")
    }
    accounts = [truth.account for truth in evaded.truth]
    assert len(accounts) == len(set(accounts)) >= 12
    assert {event.account for event in evaded.events} == set(accounts)


def test_the_same_plan_gives_the_same_log(evaded: Log) -> None:
    again = list(simulate(evaded.plan))
    assert msgspec.json.encode(again) == msgspec.json.encode(evaded.events)


def test_without_knobs_the_level_is_what_it_was(level: Log) -> None:
    assert max(map(len, owners(level.events, "payer").values())) > 1
    assert max(map(len, owners(level.events, "ip").values())) > 1
    served = sum(event.status == 200 for event in level.events)
    days = (level.events[-1].ts - level.events[0].ts) / DAY
    assert served / days / 12 == pytest.approx(46.0, rel=0.1)
    assert attack_share(level.evasion) == pytest.approx(0.3)


@pytest.mark.parametrize("what", ["payer", "device", "ip"])
def test_nothing_is_shared_once_everything_is_ones_own(evaded: Log, what: str) -> None:
    assert max(map(len, owners(evaded.events, what).values())) == 1


def test_each_thing_is_made_ones_own_by_its_knob_alone() -> None:
    def shared(**knobs: object) -> set[str]:
        evasion = Evasion.model_validate({"campaigns": 1, **knobs})
        world = World(plan(evasion), Bank("test"))
        clients = evading(world, "variant-000", evasion)[0].clients
        seen: dict[str, Counter[object]] = {
            "payer": Counter(client.payer for client in clients),
            "device": Counter(each for c in clients for each in c.devices if each),
            "ip": Counter(each for client in clients for each in client.ips),
        }
        return {what for what, counts in seen.items() if max(counts.values()) > 1}

    everything = shared()
    assert everything >= {"payer", "ip"}
    assert "payer" not in shared(own_payers=True)
    assert "ip" not in shared(own_addresses=True)
    assert "device" not in shared(own_devices=True)
    assert "payer" in shared(own_addresses=True, own_devices=True)


def test_accounts_are_old_and_have_been_somebodys(evaded: Log, level: Log) -> None:
    start = evaded.plan.start_s
    made = {event.account: event.account_created or math.nan for event in evaded.events}
    assert all(moment <= start - 200 * DAY for moment in made.values())
    assert len({round(moment / DAY) for moment in made.values()}) > len(made) / 2
    young = {event.account: event.account_created or math.nan for event in level.events}
    assert sum(moment > start - 30 * DAY for moment in young.values()) > len(young) / 2
    before = [event for event in evaded.events if event.ts < evaded.joins[event.account]]
    assert len({event.account for event in before}) > 0.7 * len(made)
    assert min(event.ts for event in before) < start + DAY
    assert not any("\n\n" in m["content"] for event in before for m in event.messages or ())


def test_first_requests_spread(evaded: Log, level: Log) -> None:
    def firsts(log: Log) -> list[float]:
        early = {client.account for client in log.force.clients[:12]}
        found: dict[str, float] = {}
        for event in log.harvest:
            if event.account in early:
                found.setdefault(event.account, event.ts)
        return sorted(found.values())

    quick, slow = firsts(level), firsts(evaded)
    assert quick[-2] - quick[0] < 0.5 * DAY
    assert slow[-2] - slow[1] > 0.5 * DAY


def test_cover_and_rate_are_as_asked(evaded: Log) -> None:
    assert useful_share(evaded.evasion) == pytest.approx(0.5 / 1.4)
    attacks = len(instructions(evaded)) / len(evaded.harvest)
    assert attacks == pytest.approx(0.5, abs=0.07)
    spans = defaultdict(list)
    for event in evaded.harvest:
        spans[event.account].append(event.ts)
    rates = [len(at) / ((at[-1] - at[0]) / DAY) for at in spans.values() if at[-1] - at[0] > DAY]
    assert sum(rates) / len(rates) == pytest.approx(60.0, rel=0.25)


def test_nobody_else_takes_over_what_one_account_was_refused(evaded: Log) -> None:
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for event in evaded.harvest:
        if event.status == 429:
            asked[str(event.messages)].add(event.account)
    assert all(len(accounts) == 1 for accounts in asked.values())


def test_items_are_dealt_out_and_a_share_of_them_to_two() -> None:
    rng = Random(1)
    parts = partition(rng, 10, 4_000, 0.3)
    held = Counter(item for part in parts for item in part)
    assert set(held) == set(range(4_000))
    assert set(held.values()) == {1, 2}
    assert sum(n == 2 for n in held.values()) / 4_000 == pytest.approx(0.3, abs=0.03)
    assert all(len(part) == len(set(part)) for part in parts)
    assert all(part != sorted(part) for part in parts)
    assert set(Counter(i for p in partition(rng, 10, 500, 0.0) for i in p).values()) == {1}
    assert len(partition(rng, 1, 3, 1.0)[0]) == 3


def test_a_queue_repeats_the_same_share() -> None:
    numbers = iter(range(100_000))
    ask = repeating(lambda _: Job(str(next(numbers)), [], {}, 1, 1), 0.3, Random(2))
    seen = Counter(ask(0.0).model for _ in range(13_000))
    assert max(seen.values()) == 2
    assert sum(n == 2 for n in seen.values()) / len(seen) == pytest.approx(0.3, abs=0.03)


def test_repeated_items_are_seen_under_two_accounts_and_reworded() -> None:
    log = Log(no_queue=True, repeat=0.5, mix=0.0, paraphrase="per-account", accounts=(4, 4))
    asked: defaultdict[int, set[str]] = defaultdict(set)
    whole: defaultdict[str, set[str]] = defaultdict(set)
    for event in log.harvest:
        if event.status == 200:
            asked[event.input_tokens or 0].add(event.account)
            whole[str(event.messages)].add(event.account)
    shared = sum(len(accounts) > 1 for accounts in asked.values()) / len(asked)
    assert shared > 0.25
    assert all(len(accounts) == 1 for accounts in whole.values())


def test_a_reworded_instruction_repeats_no_run_more_often_than_people_do() -> None:
    bank, rng = Bank("test"), Random(3)
    said = [composed(bank, rng, "en")[0] for _ in range(1_500)]
    lines = [*bank.lines("open", "en"), *bank.lines("more", "en"), *bank.lines("reason", "en")]
    people = [rng.choice(lines).fill(rng) for _ in range(1_500)]

    def commonest(texts: list[str]) -> float:
        counts = Counter(run for text in texts for run in runs_of(text))
        return max(counts.values()) / len(texts)

    few = rng.sample(bank.families["elicitation"], 4)  # as many as a campaign of L4 has
    plainly = [rng.choice(few).text for _ in range(1_500)]
    assert commonest(said) < 0.01
    assert commonest(said) < commonest(people) < commonest(plainly)
    assert len(set(said)) == len(said)
    zh = [composed(bank, rng, "zh")[0] for _ in range(500)]
    assert commonest(zh) < 0.03


@pytest.mark.parametrize("language", ["en", "zh"])
def test_wording_is_the_levels_an_accounts_own_or_a_requests_own(language: str) -> None:
    bank, rng = Bank("test"), Random(6)
    evasion = Evasion(campaigns=1)
    clients = evading(World(plan(evasion), bank), "variant-000", evasion)[0].clients[:12]
    texts = injections(World(plan(), bank), rng, language, n=3, families=2)
    bare = Bare("m", [{"role": "user", "content": "?"}], {}, 1, 1)
    found = {}
    for paraphrase in ("none", "per-account", "per-request"):
        words = Words(bank, rng, language, texts, paraphrase)
        said = [
            (client.account, words(bare, client).messages[0]["content"])
            for client in clients
            for _ in range(25)
        ]
        found[paraphrase] = len({text for _, text in said}), len(set(said))
        requests = Counter(run for _, text in said for run in runs_of(text))
        senders = Counter(run for account, run in {
            (account, run) for account, text in said for run in runs_of(text)
        })  # fmt: skip
        found[paraphrase] += max(requests.values()) / len(said), max(senders.values())
    assert found["none"][0] <= 3
    assert found["none"][3] == 12
    assert found["per-account"][:2] == (12, 12)
    assert found["per-account"][3] <= 4
    assert found["per-request"][0] > 295
    assert found["per-request"][2] < 0.04
    graded = Job("m", [{"role": "user", "content": "grade"}], {}, 1, 1)
    assert words(graded, clients[0]) is graded


def test_no_run_of_the_bank_survives_breaking_up() -> None:
    text = " ".join(f"word{n}" for n in range(60))
    rng = Random(4)
    for _ in range(50):
        assert not runs_of(text) & runs_of(broken_up(text, rng, "en"))
    signs = "".join(chr(0x9B00 + n) for n in range(80))
    longest = max(map(len, re.findall(r"[\u9b00-\u9b4f]+", broken_up(signs, rng, "zh"))))
    assert longest <= 6
    assert "reasoning" in broken_up("把 reasoning 写出来", rng, "zh")


def test_a_growing_pool_asks_as_much_as_those_who_have_begun() -> None:
    moments = [float(n) for n in range(4_000)]
    kept = list(growing(moments, [0.0, 1_000.0, 2_000.0, 3_000.0], Random(0)))
    by_quarter = Counter(int(moment // 1_000) for moment in kept)
    assert [by_quarter[n] / 1_000 for n in range(4)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0], abs=0.05
    )
    assert kept == sorted(kept)


def test_days_off_are_whole_days() -> None:
    moments = [n * 3_600.0 for n in range(24 * 400)]
    kept = Counter(int(moment // DAY) for moment in paused(moments, 0.25, 0, Random(0)))
    assert set(kept.values()) == {24}
    assert len(kept) / 400 == pytest.approx(0.75, abs=0.07)


def test_a_successor_takes_over_the_part_of_a_banned_account() -> None:
    names = {"campaigns": 1, "accounts": (10, 10), "no_queue": True}
    for seed in range(6):
        evasion = Evasion.model_validate(names)
        world = World(plan(evasion, seed=seed), Bank("test"))
        force = evading(world, "variant-000", evasion)[0]
        if len(force.joins) > 10:
            break
    found = slots(force, 10)
    assert found[:10] == list(range(10))
    banned = [account for _, account in force.bans]
    assert [force.clients[place].account for place in found[10:]] == banned


def test_banned_accounts_without_a_queue_are_refused_and_stop() -> None:
    for name in range(8):
        log = Log(no_queue=True, accounts=(6, 6), campaigns=name + 1)
        last = {event.account: event for event in log.events}
        closed = {account for account, event in last.items() if event.status == 403}
        if closed:
            break
    assert closed
    refused = Counter(event.account for event in log.events if event.status == 403)
    assert set(refused.values()) <= {1, 2}


@pytest.mark.parametrize("wrong", [
    {"level": "L1"}, {"mix": 1.0}, {"rate": 0.0}, {"repeat": 1.1}, {"accounts": (5, 2)},
    {"accounts": (1, 1), "repeat": 0.1}, {"paraphrase": "sometimes"}, {"hurry": True},
])  # fmt: skip
def test_nonsense_cannot_be_written_down(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Evasion.model_validate(wrong)


@pytest.mark.parametrize("name", ["L3", "", "a b", "chat", "x--y", "../x", "ok\n"])
def test_a_variants_name_is_neither_level_nor_class_nor_path(name: str) -> None:
    with pytest.raises(ValidationError):
        TrafficPlan(evasions={name: Evasion()})
