from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from guard_accounts import plain_scorer

from overproof.config.guard import CommunityConfig
from overproof.errors import ConfigError, DataError
from overproof.guard.calibration import Calibration
from overproof.guard.community_calibration import CommunityCalibration
from overproof.guard.community_evidence import CommunityEvidence
from overproof.guard.parts import Community, CommunitySignal
from overproof.guard.pools import calibrate_communities
from overproof.guard.recording import LookTable

SCORER = plain_scorer(2, "community")
SIGNALS = [
    CommunitySignal(name, family, lambda c: 0.0, lambda c, name=name: f"{name} is odd")
    for name, family in zip(SCORER.names, SCORER.families, strict=True)
]
EVERY_S = 6 * 3600.0


def lives(
    rng: np.random.Generator, many: int, passes: int, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals (many x passes x 2), sizes (many), and the pass in which each turns up.

    A community differs from others for good (.6 of the variance), and large ones are odder.
    """
    size = 3 + rng.geometric(0.05, many)
    own = rng.normal(size=(many, 1, 2)) * 0.6**0.5
    x = own + rng.normal(size=(many, passes, 2)) * 0.4**0.5 + shift
    return x + np.log(size)[:, None, None] / 2, size, rng.integers(0, passes, many)


def log_of(rng: np.random.Generator, many: int, passes: int) -> LookTable:
    x, size, start = lives(rng, many, passes)
    rows = [(i, t) for t in range(passes) for i in range(many) if t >= start[i]]
    return LookTable(
        "community",
        SCORER.names,
        [f"c{i}" for i, _ in rows],
        [tuple(f"a{i}.{k}" for k in range(size[i])) for i, _ in rows],
        np.array([t for _, t in rows], np.int64),
        np.array([t * EVERY_S for _, t in rows]),
        [""] * len(rows),
        np.array([x[i, t] for i, t in rows]),
    )


def pool_of(
    rng: np.random.Generator, logs: int, many: int = 50, passes: int = 12
) -> CommunityCalibration:
    tables = [log_of(rng, many, passes) for _ in range(logs)]
    return calibrate_communities(tables, SCORER, until=1e6, days=3.0)


def community(size: int, at: float = 0.0) -> Community:
    members = [SimpleNamespace(index=k, account=f"m{k}", first_seen=0.0) for k in range(size)]
    return Community(members, [], at)  # type: ignore[arg-type]


def evidence_of(pool: CommunityCalibration, **how: int) -> CommunityEvidence:
    return CommunityEvidence(SIGNALS, SCORER, pool, CommunityConfig(), **how)


def replay(
    rng: np.random.Generator, pool: CommunityCalibration, honest: int, attack: int, passes: int = 12
) -> tuple[set[int], int]:
    """Every community ever reported, over all passes of one log; attackers come last."""
    x, size, start = lives(rng, honest + attack, passes)
    x[honest:] += 4.5
    evidence = evidence_of(pool)
    ever: set[int] = set()
    for t in range(passes):
        here = [i for i in range(honest + attack) if start[i] <= t]
        found = evidence.judge(
            [f"c{i}" for i in here], [community(int(size[i])) for i in here],
            [x[i, t] for i in here], t * EVERY_S,
        )  # fmt: skip
        ever |= {int(name[1:]) for name in found.reported}
    return ever, honest


@pytest.fixture(scope="module")
def pool() -> CommunityCalibration:
    return pool_of(np.random.default_rng(0), 40)


@pytest.mark.slow
def test_an_attack_free_log_gives_no_finding_in_95_percent_of_seeds() -> None:
    """Over all passes together, and every few pools a new one."""
    clean, logs = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pool = pool_of(rng, 100, many=15, passes=8)
        for _ in range(20):
            ever, _ = replay(rng, pool, 15, 0, passes=8)
            clean += not ever
            logs += 1
    assert logs == 400
    # Not because nothing could be: one alone is reported at p <= .05/15, above the floor.
    assert 0.95 - 2 * np.sqrt(0.05 * 0.95 / logs) <= clean / logs < 1


@pytest.mark.slow
def test_false_discoveries_over_all_passes_stay_under_the_nominal_rate() -> None:
    rates, power = [], []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        pool = pool_of(rng, 30)
        for _ in range(8):
            ever, honest = replay(rng, pool, 50, 12)
            rates.append(sum(i < honest for i in ever) / max(1, len(ever)))
            power.append(sum(i >= honest for i in ever) / 12)
    spread = 4 * np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= 0.05 + spread
    assert np.mean(rates) < 0.075
    assert np.mean(power) > 0.6


def test_being_looked_at_often_gives_an_honest_one_no_further_chances(
    pool: CommunityCalibration,
) -> None:
    rng = np.random.default_rng(7)
    x, size, start = lives(rng, 3000, 12)
    worst = [float(x[i, start[i] :].sum(axis=1).max()) for i in range(3000)]
    bands = [pool.band(int(one)) for one in size]
    whole = np.array([pool.p_value(b, s).p for b, s in zip(bands, worst, strict=True)])
    assert (whole <= 0.05).mean() < 0.065
    assert (whole <= 0.05).mean() > 0.03


def test_sizes_are_matched(pool: CommunityCalibration) -> None:
    assert [pool.band(size) for size in (1, 2, 8, 9, 32, 33, 128, 129, 5000)] == [
        0, 0, 0, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
    score = 3.0
    assert pool.p_value(0, score).p < pool.p_value(2, score).p  # large honest ones are odder
    assert "neighbours" in pool.bands[3].name
    assert pool.bands[0].name == "2 to 8 accounts"
    assert pool.expected == 50


def test_findings_say_what_they_rest_on(pool: CommunityCalibration) -> None:
    evidence = evidence_of(pool)
    calm, odd = [0.0, 0.0], [30.0, 30.0]
    found = evidence.judge(["c1", "c2"], [community(5), community(5)], [calm, odd], 9.0)
    first, second = found.findings
    assert found.reported == set()  # one alone: p = 1/(n + 1) > .05/50
    assert found.m == 50
    assert second.p_value == second.floor == pytest.approx(1 / (second.n + 1))
    assert second.p_now == second.p_value
    assert first.p_value > 0.5
    assert (second.subject, second.kind, second.at) == ("c2", "community", 9.0)
    assert "exchangeable" in second.assumption
    names = [f"c{i}" for i in range(2, 12)]
    crowd = evidence.judge(names, [community(5)] * 10, [odd] * 10, 10.0)
    assert crowd.reported == set(names)
    assert {one.detail for one in crowd.findings[0].evidence} == {"s0 is odd", "s1 is odd"}
    assert evidence.judge([], [], [], 11.0).reported == frozenset()
    assert "at least" in "\n".join(pool.describe(0.05))


def test_the_worst_is_remembered_and_now_is_said(pool: CommunityCalibration) -> None:
    evidence = evidence_of(pool)
    evidence.judge(["c1"], [community(5)], [[30.0, 30.0]], 0.0)
    later = evidence.judge(["c1"], [community(5)], [[0.0, 0.0]], EVERY_S).findings[0]
    assert later.p_value == later.floor
    assert later.p_now > 0.5
    # In another band it is another comparison.
    grown = evidence.judge(["c1"], [community(20)], [[0.0, 0.0]], 2 * EVERY_S).findings[0]
    assert grown.p_value > 0.5


def test_snapshots_and_the_window(pool: CommunityCalibration) -> None:
    evidence, twin = evidence_of(pool, expected=1), evidence_of(pool, expected=1)
    evidence.judge(["c1", "c2"], [community(5), community(9)], [[3.0, 3.0], [0.0, 0.0]], 0.0)
    twin.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(evidence.state())))
    args = (["c1"], [community(5)], [[0.0, 0.0]], EVERY_S)
    assert twin.judge(*args) == evidence.judge(*args)
    assert evidence.judge(["c9"], [community(5)], [[0.0, 0.0]], 1.0).m == 3
    assert evidence.judge(["c9"], [community(5)], [[0.0, 0.0]], 40 * 86400.0).m == 1


def test_frozen_and_read_back(pool: CommunityCalibration, tmp_path: Path) -> None:
    path = tmp_path / "communities.calibration"
    pool.save(path)
    read = CommunityCalibration.load(path)
    assert read.describe(0.05) == pool.describe(0.05)
    assert read.p_value(1, 2.5) == pool.p_value(1, 2.5)
    with pytest.raises(DataError, match="not a guard calibration of accounts"):
        Calibration.load(path)


def test_nothing_to_calibrate_on(pool: CommunityCalibration) -> None:
    table = log_of(np.random.default_rng(0), 5, 2)
    with pytest.raises(DataError, match="no honest community"):
        calibrate_communities([table], SCORER, until=0.0, days=1.0, honest=lambda members: False)
    with pytest.raises(ConfigError, match="other signals"):
        CommunityEvidence(SIGNALS[:1], SCORER, pool, CommunityConfig())
