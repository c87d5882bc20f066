from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from guard_accounts import (
    AGES_H,
    calibrated,
    look_p,
    plain_scorer,
    plain_signals,
    signals_of,
    table_of,
    trajectory_p,
)

from overproof.config.guard import LooksConfig
from overproof.errors import ConfigError, DataError, HashMismatchError
from overproof.guard.calibration import ALL, Calibration, Ranks
from overproof.guard.evidence import AccountEvidence, Rule
from overproof.guard.parts import Family
from overproof.guard.pools import calibrate_accounts

SCORER = plain_scorer(8)
CONFIG = LooksConfig(ages_h=AGES_H, term_days=32)
DAY_S = 86400.0


@pytest.fixture(scope="module")
def pool() -> Calibration:
    return calibrated(signals_of(np.random.default_rng(0), 1000), SCORER)


def evidence_of(pool: Calibration, **how: object) -> AccountEvidence:
    return AccountEvidence(plain_signals(SCORER), SCORER, pool, CONFIG, **how)  # type: ignore[arg-type]


def test_one_look_at_a_time_is_what_the_arrays_say(pool: Calibration) -> None:
    new = signals_of(np.random.default_rng(1), 40, shift=1.0)
    evidence = evidence_of(pool)
    expected, looks = trajectory_p(pool, new.sum(axis=2)), look_p(pool, new.sum(axis=2))
    for account, rows in enumerate(new):
        for look, x in enumerate(rows):
            found = evidence.look(account, look, 0.0, "pro", x)
            assert found.p_value == pytest.approx(expected[account, look])
            assert found.p_now == pytest.approx(looks[account, look])
            assert found.n == 1000
            assert found.floor == pytest.approx(1 / 1001)
            assert found.assumption
            assert set(found.families) == set(Family)
    again = evidence.look(3, 6, 0.0, "pro", new[3, 6])
    assert again.e_value == evidence.look(3, 6, 0.0, "pro", new[3, 6]).e_value  # taken once
    assert again.stratum == "pro"


def test_e_average_is_the_other_rule(pool: Calibration) -> None:
    evidence = evidence_of(pool, rule=Rule.E_AVERAGE, steepness=6.0)
    for look in range(7):
        found = evidence.look(0, look, 0.0, "", [9.0] * 8)
        assert found.p_value == min(1.0, 1.0 / found.e_value)
    assert found.p_value < 0.0015  # every look at the top: e = nearly n + 1 in each
    assert evidence_of(pool).look(1, 0, 0.0, "", [np.nan] * 8).p_value > 0.1


def test_it_remembers_through_a_snapshot_and_forgets(pool: Calibration) -> None:
    evidence = evidence_of(pool)
    evidence.look(5, 0, 0.0, "pro", [3.0] * 8)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(evidence.state()))
    twin = evidence_of(pool)
    twin.restore(kept)
    x = [0.0] * 8
    assert twin.look(5, 1, 1.0, "pro", x) == evidence.look(5, 1, 1.0, "pro", x)
    evidence.forget([5, 99])
    assert evidence.look(5, 1, 1.0, "pro", x).p_value > twin.look(5, 1, 1.0, "pro", x).p_value


def test_the_strongest_signals_in_words(pool: Calibration) -> None:
    evidence = evidence_of(pool)
    x = np.array([5.0, 0.5, np.nan, -1.0, 0.0, 0.1, 0.2, 0.0])
    found = evidence.look(0, 0, 0.0, "pro", x)
    told = evidence.explain(found, None, "", x)  # type: ignore[arg-type]
    assert told.evidence[0].signal == "s0"
    assert told.evidence[0].detail == "s0 is odd"
    assert told.evidence[0].p_value == found.families[Family.TEXT]
    assert {one.signal for one in told.evidence} == {"s0", "s1", "s5", "s6"}


def test_looks_older_than_the_pool_are_not_judged() -> None:
    x = signals_of(np.random.default_rng(2), 300)
    table = table_of(x, SCORER)
    short = calibrate_accounts(table, SCORER, AGES_H, until=100 * 3600.0, least=100)
    assert short.ages_h == AGES_H[:4]
    evidence = evidence_of(short)
    before = evidence.look(0, 3, 0.0, "pro", [1.0] * 8)
    after = evidence.look(0, 4, 0.0, "pro", [9.0] * 8)
    assert (after.p_value, after.e_value, after.p_now) == (before.p_value, before.e_value, 1.0)


def test_who_is_in_the_pool() -> None:
    rng = np.random.default_rng(3)
    x = signals_of(rng, 600, looks=2)
    x[:50, 1] = np.nan  # idle at the second look: still whole trajectories
    plans = ["free"] * 450 + ["team"] * 150
    table = table_of(x, SCORER, plan=plans)
    ages = AGES_H[:2]
    end = AGES_H[1] * 3600.0
    made = calibrate_accounts(table, SCORER, ages, until=end, least=300)
    assert set(made.strata) == {ALL, "free"}
    assert made.pool["strata judged with others"] == ["team"]
    assert made.p_value(0, "team", 0.0).stratum == ALL
    assert made.p_value(0, "free", 0.0).stratum == "free"
    assert made.pool["accounts"] == 600
    # A lag leaves nobody who was watched to the second look, so that only the first is judged.
    lagging = calibrate_accounts(table, SCORER, ages, until=end, least=300, lag_days=0.5)
    assert lagging.ages_h == AGES_H[:1]
    trusted = {f"a{i}" for i in range(100, 600)}
    groups = {f"a{i}": "one" for i in range(100, 300)}
    made = calibrate_accounts(
        table, SCORER, ages, until=end, trusted=trusted, groups=groups, per_group=20, least=1
    )
    assert made.pool["accounts"] == 320
    assert made.pool["not trusted"] == 100
    assert made.pool["beyond their group's share"] == 180
    assert made.pool["groups"] == 301
    with pytest.raises(DataError, match="calibration pool"):
        calibrate_accounts(table, SCORER, ages, until=0.0)
    with pytest.raises(DataError, match="has looks number 2, where 1 ages are set"):
        calibrate_accounts(table, SCORER, ages[:1], until=end)
    empty = table_of(x[:0], SCORER)
    with pytest.raises(DataError, match="calibration pool"):
        calibrate_accounts(empty, SCORER, ages, until=end)


def test_audited_appeals_weigh_for_those_who_were_not_picked() -> None:
    x = signals_of(np.random.default_rng(4), 500, looks=1)
    table, ages = table_of(x, SCORER), AGES_H[:1]
    plain = calibrate_accounts(table, SCORER, ages, until=1e6, least=1)
    top = int(np.argsort(x.sum(axis=2)[:, 0])[-3])
    heavy = calibrate_accounts(table, SCORER, ages, until=1e6, least=1, weights={f"a{top}": 10.0})
    high = float(np.sort(x.sum(axis=2)[:, 0])[-4])
    weight = heavy.stratum(None).whole.n - plain.stratum(None).whole.n
    assert weight in {0.0, 9.0}  # 0 where the hash put it among those that set the scale
    if weight:
        assert heavy.p_value(0, None, high).p > plain.p_value(0, None, high).p


def test_n_and_the_floor_are_said(pool: Calibration) -> None:
    said = "\n".join(pool.describe(0.0005))
    assert "n = 1000" in said
    assert "0.0005 is out of reach, nobody is flagged" in said
    assert "out of reach" not in "\n".join(pool.describe(0.01))


def test_frozen_and_read_back(pool: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "accounts.calibration"
    pool.save(path)
    read = Calibration.load(path)
    new = signals_of(np.random.default_rng(5), 50).sum(axis=2)
    assert np.array_equal(trajectory_p(read, new), trajectory_p(pool, new))
    assert (read.dated, read.pool, read.scorer) == (pool.dated, pool.pool, SCORER.hash)
    first = path.read_bytes()
    read.save(path)
    assert path.read_bytes() == first
    path.write_bytes(first[:-40] + bytes(40))
    with pytest.raises(HashMismatchError):
        Calibration.load(path)
    for broken in (b"", b"\xff\xfe", b"{}", first[:50], msgspec.msgpack.encode([1])):
        path.write_bytes(broken)
        with pytest.raises(DataError):
            Calibration.load(path)
    with pytest.raises(DataError, match="no such file"):
        Calibration.load(tmp_path / "nowhere")


def test_parts_that_do_not_belong_together(pool: Calibration) -> None:
    other = plain_scorer(7)
    with pytest.raises(ConfigError, match="other signals"):
        AccountEvidence(plain_signals(SCORER), other, pool, CONFIG)
    with pytest.raises(ConfigError, match="made with the scorer"):
        AccountEvidence(plain_signals(other), other, pool, CONFIG)
    with pytest.raises(ConfigError, match="ages_h"):
        AccountEvidence(plain_signals(SCORER), SCORER, pool, LooksConfig(ages_h=(1.0, 2.0)))
    with pytest.raises(ValueError, match="not of the same account signals"):
        calibrate_accounts(table_of(signals_of(np.random.default_rng(0), 2, signals=7), other),
                           SCORER, AGES_H, until=1.0)  # fmt: skip


def test_thinned_ranks_round_p_values_up_and_keep_the_tail() -> None:
    rng = np.random.default_rng(6)
    values = np.round(rng.normal(size=5000), 2)
    full, thin = Ranks(values, np.ones(5000)), Ranks(values, np.ones(5000)).thinned(200)
    assert len(thin.values) <= 200
    for score in [*np.linspace(-5, 5, 401), *values[:50]]:
        assert full.p(score) <= thin.p(score) <= full.p(score) + 0.02
    tail = np.sort(values)[-50:]
    assert [thin.p(score) for score in tail] == [full.p(score) for score in tail]
    assert thin.n == full.n == 5000
    assert full.least(0.01) < full.least(0.001)
    assert full.p(np.nextafter(full.least(0.01), np.inf)) <= 0.01 < full.p(full.least(0.01))
    assert full.least(1e-5) == np.inf
