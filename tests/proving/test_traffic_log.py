"""A simulated log: published rates, whole truth, same seed same bytes, all or nothing."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from overproof.config.traffic import HONEST_CLASSES, LEVELS, TrafficPlan
from overproof.errors import OverproofError, RunError
from overproof.proving.traffic import write
from overproof.proving.traffic.simulate import cast, simulate
from overproof.records.traffic import Event, Truth

KEY = bytes.fromhex("c1f0a95be2773d48906ab4de115f83c7")
DAY = 86_400.0


def plan(seed: int = 3, **changes: object) -> TrafficPlan:
    few = {"days": 1.5, "each_class": 1, "heavy_events": 2_000, "contamination": 0.15}
    levels = {"campaigns": dict.fromkeys(LEVELS, 1), "real_text": ()}
    return TrafficPlan.small(seed, **{**few, **levels, **changes})


def tiny(seed: int = 3, **changes: object) -> TrafficPlan:
    few = {"campaigns": {"L4": 1}, "accounts": {"L4": (5, 5)}, "heavy_events": 500}
    return plan(seed, **{**few, "framework_users": (2, 3), **changes})


class Log:
    def __init__(self, of: TrafficPlan) -> None:
        self.truth: dict[str, Truth] = {}
        self.plan = of
        self.made = cast(of)
        self.events = list(simulate(of, on_truth=self.note, made=self.made))

    def note(self, truth: Truth) -> None:
        assert truth.account not in self.truth
        self.truth[truth.account] = truth

    def of(self, kind: str) -> list[Event]:
        wanted = {a for a, truth in self.truth.items() if kind in (truth.kind, truth.level)}
        return [event for event in self.events if event.account in wanted]


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(plan())


def test_every_class_and_level_appears_and_truth_is_whole(log: Log) -> None:
    assert {event.account for event in log.events} == log.truth.keys()
    kinds = {truth.kind for truth in log.truth.values()}
    assert kinds == {*HONEST_CLASSES, "attack"}
    for truth in log.truth.values():
        assert (truth.kind == "attack") == (truth.level is not None) == (truth.campaign is not None)
        assert truth.group
    assert {truth.level for truth in log.truth.values()} == {*LEVELS, None}


def test_contamination_is_what_was_asked(log: Log) -> None:
    attackers = sum(truth.kind == "attack" for truth in log.truth.values())
    assert attackers / len(log.truth) == pytest.approx(0.15, abs=0.03)


def test_events_are_in_order_with_ids_of_their_own_and_make_sense(log: Log) -> None:
    assert all(early.ts <= late.ts for early, late in pairwise(log.events))
    assert len({event.request_id for event in log.events}) == len(log.events)
    made: dict[str, float | None] = {}
    for event in log.events:
        assert log.plan.start_s <= event.ts < log.plan.end_s
        assert event.account_created is not None
        assert event.account_created <= event.ts
        assert made.setdefault(event.account, event.account_created) == event.account_created
        assert event.messages
        assert all(message["content"] for message in event.messages)
        assert event.status in (200, 403, 429, 500, 529)
        assert (event.input_tokens or 0) > 0


@pytest.mark.parametrize(
    ("level", "low", "high"), [("L2", 640.0, 880.0), ("L3", 40.0, 52.0), ("L4", 22.0, 30.0)]
)
def test_pools_ask_at_the_published_rates(log: Log, level: str, low: float, high: float) -> None:
    events = log.of(level)
    days = (events[-1].ts - events[0].ts) / DAY
    fewest, most = log.plan.size(level)
    assert fewest == most
    served = sum(event.status == 200 for event in events)
    assert low <= served / days / most <= high


def test_one_key_takes_fifty_two_thousand_outputs(log: Log) -> None:
    served = sum(event.status == 200 for event in log.of("L0"))
    assert served == pytest.approx(2_600, rel=0.1)


def test_rollouts_come_sixteen_a_prompt_over_ten_keys(log: Log) -> None:
    events = [event for event in log.of("L1") if event.status == 200]
    prompts = Counter(event.messages[0]["content"] for event in events if event.messages)
    assert prompts.most_common(len(prompts) // 2)[-1][1] == 16
    assert len({event.account for event in events}) == 10


def test_a_fixed_injection_is_fixed_and_paraphrases_are_many() -> None:
    fixed = Log(plan(4, campaigns={"L2": 1, "L4": 1}, each_class=0, contamination=None))

    def heads(level: str) -> Counter[str]:
        texts = [event.messages[-1]["content"] for event in fixed.of(level) if event.messages]
        systems = [event.messages[0]["content"] for event in fixed.of(level) if event.messages]
        return Counter([text[:30] for text in texts + systems] + [text[-30:] for text in texts])

    assert heads("L2").most_common(1)[0][1] > 0.4 * len(fixed.of("L2"))
    assert heads("L4").most_common(1)[0][1] < 0.5 * len(fixed.of("L4"))


def test_not_all_of_a_pool_shares_a_payer_or_an_address(log: Log) -> None:
    payers, ips = defaultdict(set), defaultdict(set)
    for event in log.of("L3"):
        payers[event.payer].add(event.account)
        ips[event.ip].add(event.account)
    assert 2 <= max(map(len, payers.values())) <= 15
    assert len(payers) > 10
    assert max(map(len, ips.values())) >= 2


def test_a_company_with_many_keys_has_one_payer(log: Log) -> None:
    events = log.of("corporate-multikey")
    assert len({event.account for event in events}) >= 5
    assert len({event.payer for event in events}) == len({event.org for event in events}) == 1


def test_framework_users_share_a_system_prompt_and_no_payer(log: Log) -> None:
    events = log.of("framework-user")
    assert len({event.messages[0]["content"] for event in events if event.messages}) == 1
    payers = {event.account: event.payer for event in events}
    named = [payer for payer in payers.values() if payer is not None]
    assert len(named) == len(set(named)) > 3


def test_the_tail_over_heavy_tenants_is_heavy() -> None:
    made = Log(plan(6, campaigns={}, each_class=6, heavy_events=9_000, contamination=None))
    by_group: Counter[str] = Counter()
    for event in made.events:
        truth = made.truth[event.account]
        if truth.kind not in ("chat", "framework-user"):
            by_group[truth.group or ""] += 1
    top = sum(n for _, n in by_group.most_common(10))
    assert 0.5 < top / by_group.total() < 0.93


def test_the_log_is_made_as_it_is_read() -> None:
    endless = plan(1, days=400.0, heavy_events=50_000_000, contamination=0.001)
    first = list(islice(simulate(endless), 500))
    assert len(first) == 500


def test_a_log_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    one = write.write_traffic(tiny(), tmp_path / "one", form="jsonl")
    two = write.write_traffic(tiny(), tmp_path / "two", form="jsonl.gz")
    three = write.write_traffic(tiny(4), tmp_path / "three", form="jsonl.zst")
    assert one.sha256 == two.sha256 != three.sha256
    plain = (tmp_path / "one" / "events.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "two" / "events.jsonl.gz").read_bytes()) == plain
    rows = [json.loads(line) for line in plain.splitlines()]
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["events"] == len(rows) == one.events.total()
    assert manifest["sha256"] == one.sha256
    assert manifest["plan"]["seed"] == 3
    lines = (tmp_path / "one" / "truth.jsonl").read_text().splitlines()
    truths = [json.loads(line) for line in lines]
    assert {row["account"] for row in truths} == {row["account"] for row in rows}
    assert {row["class"] for row in truths} == {*HONEST_CLASSES, "attack"}
    assert manifest["contamination"] == pytest.approx(
        sum(row["class"] == "attack" for row in truths) / len(truths)
    )
    assert not list(tmp_path.glob(".*"))


def test_the_reader_of_logs_takes_every_line(tmp_path: Path) -> None:
    reading = pytest.importorskip("overproof.guard.reading")
    counts = write.write_traffic(tiny(), tmp_path / "log")
    events = list(reading.read_log(tmp_path / "log" / "events.jsonl.zst"))
    assert len(events) == counts.events.total()


def test_a_sketched_log_holds_no_text(tmp_path: Path) -> None:
    texts = list(simulate(tiny()))
    sketched = list(simulate(tiny(sketch_key=KEY)))
    assert [event.request_id for event in sketched] == [event.request_id for event in texts]
    assert all(event.messages is None and event.text_sketch is not None for event in sketched)
    write.write_traffic(tiny(sketch_key=KEY), tmp_path / "log", form="jsonl")
    for path in (tmp_path / "log").iterdir():
        assert KEY.hex() not in path.read_text()
        assert '"messages":' not in path.read_text().replace('"text": "messages"', "")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "kept").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        write.write_traffic(tiny(), tmp_path / "log")
    assert (tmp_path / "log" / "kept").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert write.write_traffic(tiny(), tmp_path / "empty").events


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_half_a_log_is_never_left(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*args: object, **kwargs: object) -> object:
        yield from islice(simulate(*args, **kwargs), 50)  # type: ignore[arg-type]
        raise failure

    monkeypatch.setattr(write, "simulate", dying)
    kind = RunError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        write.write_traffic(tiny(), tmp_path / "log")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OverproofError, match="file"):
        write.write_traffic(tiny(), tmp_path / "file" / "log")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"campaigns": {"L9": 1}}, "no attack level"),
        ({"groups": {"spammer": 1}}, "no honest class"),
        ({"accounts": {"L2": (9, 3)}}, "fewest accounts"),
        ({"start": "yesterday"}, "isoformat"),
        ({"days": 0}, "greater than 0"),
        ({"contamination": 1.5}, "less than 1"),
        ({"typo": 1}, "extra"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=f"(?i){says}"):
        TrafficPlan.small(0, **wrong)
