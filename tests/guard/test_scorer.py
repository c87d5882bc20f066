from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from overproof.errors import DataError, HashMismatchError
from overproof.guard.parts import Family
from overproof.guard.score_fit import ablations, fit_scorer
from overproof.guard.scorer import Curve, Scorer

NAMES = ("injection", "noise", "k samples", "hours", "flag")
FAMILIES = (Family.TEXT, Family.TEXT, Family.SAMPLING, Family.USE, Family.NETWORK)


def labelled(seed: int, n: int = 3000) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Attackers stand out in three signals; ``noise`` tells nothing; a fifth is missing."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.2
    x = np.stack(
        [
            rng.normal(size=n) + 2.0 * y,
            rng.normal(size=n),
            rng.poisson(0.3 + 1.5 * y).astype(float),
            rng.lognormal(size=n) * np.where(y, 2.5, 1.0),
            np.zeros(n),
        ],
        axis=1,
    )
    x[rng.random(x.shape) < 0.2] = np.nan
    groups = [f"{'c' if attack else 'g'}{place % 40}" for place, attack in enumerate(y)]
    return x, y, groups


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return fit_scorer(*labelled(0), NAMES, FAMILIES)


def auc(honest: np.ndarray, attack: np.ndarray) -> float:
    return float(np.mean(attack[:, None] > honest) + 0.5 * np.mean(attack[:, None] == honest))


def test_it_separates_what_it_has_not_seen(scorer: Scorer) -> None:
    x, y, _ = labelled(1)
    score = scorer.score(x)
    assert auc(score[~y], score[y]) > 0.9
    sums = scorer.family_scores(x)
    assert auc(sums[Family.TEXT][~y], sums[Family.TEXT][y]) > 0.8
    assert (sums[Family.NETWORK] == 0).all()  # a signal that never varied
    assert scorer.made_from["honest"] + scorer.made_from["attacking"] == 3000


def test_missing_is_neutral_and_all_missing_is_zero(scorer: Scorer) -> None:
    nothing = [np.nan] * 5
    assert scorer.one(nothing) == (0.0, dict.fromkeys(scorer.present, 0.0))
    assert scorer.score([nothing]).tolist() == [0.0]
    assert scorer.explain(nothing) == []


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.one_of(some.just(float("nan")), some.floats(-5, 9)), min_size=5, max_size=5),
    some.integers(0, 4),
    some.floats(0, 20),
)
def test_more_suspicious_never_lowers_the_score(
    scorer: Scorer, x: list[float], place: int, more: float
) -> None:
    raised = [value + more if at == place else value for at, value in enumerate(x)]
    assert scorer.one(raised)[0] >= scorer.one(x)[0] - 1e-9
    assert scorer.one(x)[0] == pytest.approx(scorer.score([x])[0])


def test_no_single_signal_goes_beyond_its_curve(scorer: Scorer) -> None:
    for worst in (1e9, float("inf")):
        x = [worst, np.nan, np.nan, np.nan, np.nan]
        found, _ = scorer.one(x)
        assert found == pytest.approx(scorer.score([x])[0])
        assert 0 < found < 50
    assert scorer.one([float("-inf"), *[np.nan] * 4])[0] < 0


def test_the_explanation_adds_up(scorer: Scorer) -> None:
    x = [4.0, np.nan, 5.0, 20.0, np.nan]
    told = scorer.explain(x)
    assert [one[2] for one in told] == sorted((one[2] for one in told), reverse=True)
    assert {one[0] for one in told} == {"injection", "k samples", "hours"}
    assert sum(one[2] for one in told) == pytest.approx(scorer.one(x)[0])
    assert told[0][1] in {Family.TEXT, Family.SAMPLING, Family.USE}


def test_a_large_campaign_does_not_drown_the_small() -> None:
    x, y, groups = labelled(3)
    rng = np.random.default_rng(4)
    crowd = np.full((20_000, 5), np.nan)
    crowd[:, 1] = rng.normal(size=20_000) + 4.0  # one campaign that only "noise" gives away
    fitted = fit_scorer(
        np.concatenate([x, crowd]),
        np.append(y, np.ones(20_000, dtype=bool)),
        [*groups, *["giant"] * 20_000],
        NAMES,
        FAMILIES,
    )
    x, y, _ = labelled(1)
    score = fitted.score(x)
    assert auc(score[~y], score[y]) > 0.85


def test_ablations_leave_one_out(scorer: Scorer) -> None:
    x, y, groups = labelled(0)
    without = ablations(x, y, groups, NAMES, FAMILIES)
    assert set(without) == set(NAMES)
    unseen, truth, _ = labelled(1)

    def quality(fitted: Scorer) -> float:
        score = fitted.score(unseen)
        return auc(score[~truth], score[truth])

    assert quality(without["injection"]) < quality(scorer) - 0.02
    assert abs(quality(without["noise"]) - quality(scorer)) < 0.01
    assert without["noise"].names == scorer.names


def test_frozen_and_read_back(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "scorer.json"
    scorer.save(path)
    read = Scorer.load(path)
    x, _, _ = labelled(2)
    assert read.hash == scorer.hash
    assert np.array_equal(read.score(x), scorer.score(x))
    again = fit_scorer(*labelled(0), NAMES, FAMILIES)
    assert again.hash == scorer.hash  # the same data, the same file


def test_a_file_that_was_changed_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "scorer.json"
    scorer.save(path)
    body = json.loads(path.read_text())
    body["ranks"][0] += 1.0
    path.write_text(json.dumps(body))
    with pytest.raises(HashMismatchError, match=r"scorer\.json"):
        Scorer.load(path)
    for broken in ("", "[]", "{}", '{"hash": 1}', '{"hash": 1, "format": 9}', "\udcff"):
        path.write_bytes(broken.encode("utf-8", "surrogateescape"))
        with pytest.raises(DataError, match="is no scorer"):
            Scorer.load(path)
    with pytest.raises(DataError, match="no such file"):
        Scorer.load(tmp_path / "nowhere.json")


def test_what_cannot_be_fitted_or_is_not_a_curve() -> None:
    x, y, groups = labelled(0, 50)
    with pytest.raises(ValueError, match="needs attacking"):
        fit_scorer(x, np.zeros(50), groups, NAMES, FAMILIES)
    with pytest.raises(ValueError, match="do not fit"):
        fit_scorer(x, y[:-1], groups, NAMES, FAMILIES)
    with pytest.raises(ValueError, match="no such signal: nonsense"):
        fit_scorer(x, y, groups, NAMES, FAMILIES, without=["nonsense"])
    for knots, values in (((1.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((0.0,), ())):
        with pytest.raises(ValueError, match="knots must rise"):
            Curve(knots, values)
    with pytest.raises(ValueError, match="none negative"):
        Scorer("account", ("a",), (Family.TEXT,), (Curve(),), (-1.0,))


def test_a_band_may_have_a_scorer_of_its_own(tmp_path: Path, scorer: Scorer) -> None:
    other = fit_scorer(*labelled(1), NAMES, FAMILIES)
    both = dataclasses.replace(scorer, bands={"many": other})
    x = np.random.default_rng(5).normal(size=(60, len(NAMES)))
    strata = [("pro|few", "|many", "free|many", "pro")[at % 4] for at in range(60)]
    rows = list(zip(x, strata, strict=True))
    alone = [(other if "many" in name else scorer).one(row)[0] for row, name in rows]
    assert both.score(x, strata) == pytest.approx(alone)
    assert [both.at(name).one(row)[0] for row, name in rows] == alone
    sums = both.family_scores(x, strata)
    assert all(sums[f][1] == pytest.approx(other.one(x[1])[1][f]) for f in both.present)
    assert np.array_equal(both.score(x), scorer.score(x))
    assert both.hash != scorer.hash
    both.save(tmp_path / "s.json")
    assert Scorer.load(tmp_path / "s.json") == both
    with pytest.raises(ValueError, match="strata"):
        both.score(x, strata[:-1])
    with pytest.raises(ValueError, match="other signals"):
        dataclasses.replace(scorer, bands={"many": dataclasses.replace(other, kind="community")})
