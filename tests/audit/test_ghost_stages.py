"""Stages on pools of scores: exact by enumeration, simulated; planning; pooling by look."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import binom

from overproof.audit.ghosts import GhostSettings
from overproof.audit.ranks import ScoredPool
from overproof.audit.sequential import (
    Decision,
    SequentialPlan,
    Spending,
    boundaries,
    monitor,
    monitor_pools,
)
from overproof.audit.served import Answer, ServedRequest
from overproof.audit.staged_ghosts import batches_of, joined, staged_ghosts_test
from overproof.audit.staged_planning import (
    detectable_in_stages,
    even_looks,
    staged_power,
    staged_power_words,
    staged_prompts_needed,
)
from overproof.records.audit import Standing


def pools(rows: np.ndarray) -> list[ScoredPool]:
    return [ScoredPool(np.asarray(row, dtype=float)) for row in rows]


def test_the_stage_wise_p_value_is_exact_over_all_paths() -> None:
    """P(p <= v) = v at every v that can occur, for one coin-broken and one tied statistic."""
    plan = SequentialPlan((2, 4, 6), 2, 0.2, Spending.POCOCK)
    weight: dict[float, float] = defaultdict(float)
    for path in itertools.product(range(3), repeat=6):
        taken = monitor(plan, [path[:2], path[2:4], path[4:]])
        assert taken[-1].p_value is not None
        weight[taken[-1].p_value] += 3.0**-6
        assert (taken[-1].p_value <= 0.2) == (taken[-1].decision is Decision.REJECT)
    running = 0.0
    for value in sorted(weight):
        running += weight[value]
        assert running == pytest.approx(value, rel=1e-9)


def test_pools_with_ties_are_exact_given_the_ties() -> None:
    """The served answer is permuted through every place of every pool."""
    plan = SequentialPlan((2, 4), 2, 0.3)
    scores = [[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0], [3.0, 3.0, 3.0]]
    weight: dict[float, float] = defaultdict(float)
    rejected = 0.0
    for places in itertools.product(range(3), repeat=4):
        made = pools(np.array([np.roll(row, -at) for row, at in zip(scores, places, strict=True)]))
        last = monitor_pools(plan, [made[:2], made[2:]])[-1]
        assert last.p_value is not None
        weight[round(last.p_value, 12)] += 3.0**-4
        rejected += 3.0**-4 * (last.decision is Decision.REJECT)
    running = 0.0
    for value in sorted(weight):
        running += weight[value]
        assert running <= value + 1e-9
        assert running == pytest.approx(value, rel=1e-9)
    assert rejected <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("spending", list(Spending))
def test_a_million_draws_over_all_looks(spending: Spending) -> None:
    """Counts of p <= .1, .01, 1e-3, 1e-4 under the null hypothesis, looks and all."""
    plan = SequentialPlan((8, 16, 24), 3, 0.05, spending)
    rng = np.random.default_rng(11)
    draws, levels = 1_000_000, (0.1, 0.01, 1e-3, 1e-4)
    new = [rng.multinomial(8, [0.25] * 4, size=draws).astype(np.int16) @ [0, 1, 2, 3]
           for _ in plan.looks]  # fmt: skip
    sums = np.cumsum(np.stack(new), axis=0)
    alive = np.ones(draws, dtype=bool)
    p = np.empty(draws)
    p_of = p_values_by_end(plan)
    for k, look in enumerate(boundaries(plan)):
        ends = alive if k == 2 else alive & (sums[k] >= (look.boundary or 10**6))
        p[ends] = np.array([p_of[k].get(s, np.nan) for s in range(73)])[sums[k][ends]]
        alive = alive & ~ends
    assert np.isfinite(p).all()
    for level in (*levels, plan.alpha):
        assert (p <= level).sum() <= binom.ppf(1 - 1e-6, draws, level)
    attained = max(v for table in p_of for v in table.values() if v <= plan.alpha)
    low, high = binom.ppf([1e-6, 1 - 1e-6], draws, attained)
    assert low <= (p <= plan.alpha).sum() <= high


def p_values_by_end(plan: SequentialPlan) -> list[dict[int, float]]:
    """The p-value of every end: at which look, with which sum; one path to each is enough."""
    looks, found = boundaries(plan), []
    for k, look in enumerate(looks):
        table = {}
        for total in range(plan.looks[k] * plan.ghosts + 1):
            most = [(each.boundary or 10**6) - 1 for each in looks[:k]]
            path, at = [], 0
            for j in range(k + 1):
                goal = total if j == k else min(most[j], total, (j + 1) * 24)
                path.append(spread(goal - at, 8, plan.ghosts))
                at = goal
            if all(path) and (k == 2 or total >= (look.boundary or 10**6)):
                last = monitor(plan, path)[-1]
                if last.p_value is not None:
                    table[total] = last.p_value
        found.append(table)
    return found


def spread(total: int, prompts: int, ghosts: int) -> list[int]:
    """Ranks of so many prompts that add up to a total; empty where none do."""
    if not 0 <= total <= prompts * ghosts:
        return []
    whole, rest = divmod(total, prompts)
    return [whole + (i < rest) for i in range(prompts)]


def test_pools_of_scores_and_ranks_agree_and_reach_deep_tails() -> None:
    plan = SequentialPlan((30, 60), 3, 1e-3)
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((60, 4))
    ranks = (rows[:, :1] > rows[:, 1:]).sum(axis=1)
    ours = monitor_pools(plan, [pools(rows[:30]), pools(rows[30:])])
    theirs = monitor(plan, [ranks[:30].tolist(), ranks[30:].tolist()])
    for a, b in zip(ours, theirs, strict=True):
        assert a.statistic == 2 * (b.statistic or 0)
        assert a.spent == pytest.approx(b.spent, rel=1e-9)
    assert ours[-1].p_value == pytest.approx(theirs[-1].p_value, rel=1e-9)
    rows[:, 0] += 99
    (first,) = monitor_pools(plan, [pools(rows[:30])])
    assert first.decision is Decision.REJECT
    assert first.log10 == pytest.approx(30 * np.log10(0.25), rel=1e-9)  # 1e-18: no rounding to 0
    assert first.log10 == pytest.approx(first.floor_log10)
    # A look that brings nothing, and other numbers of ghosts.
    empty = monitor_pools(plan, [[], pools(rng.standard_normal((20, 6)))])
    assert (empty[0].boundary, empty[0].decision) == (None, Decision.CONTINUE)
    assert empty[1].p_value is not None
    with pytest.raises(ValueError, match="planned"):
        monitor_pools(plan, [[], [], []])


def test_planning_of_stages() -> None:
    """Exact power against simulation; one look is the fixed test; more looks cost little."""
    plan = SequentialPlan((40, 80, 120), 3, 0.01)
    found = staged_power(plan, 0.6, 0.8)
    rng = np.random.default_rng(5)
    draws = 20_000
    used = rng.random((draws, 120)) < 0.6
    shift = 2**0.5 * 0.8416212335729143  # of a normal score, for an AUC of .8
    x = rng.standard_normal((draws, 120)) + used * shift
    ranks = sum((x > rng.standard_normal((draws, 120))).astype(int) for _ in range(3))
    sums = ranks.cumsum(axis=1)
    crossed = np.zeros(draws, dtype=bool)
    for look, expected in zip(boundaries(plan), np.cumsum(found.by_look), strict=True):
        crossed |= sums[:, look.prompts - 1] >= (look.boundary or 10**6)
        low, high = binom.ppf([1e-5, 1 - 1e-5], draws, expected)
        assert low <= crossed.sum() <= high
    one, four = (staged_prompts_needed(0.2, 0.75, looks=n, alpha=0.01) for n in (1, 4))
    assert one <= four <= 1.05 * one
    four_plan = SequentialPlan(even_looks(four, 4), 3, 0.01)
    assert staged_power(four_plan, 0.2, 0.75).expected_prompts < 0.85 * one
    assert staged_power(four_plan, 0, 0.75).expected_prompts > 0.98 * four
    assert detectable_in_stages(four_plan, 0.75) == pytest.approx(0.2, rel=0.02)
    assert "4 looks" in staged_power_words(four_plan, 0.75).words
    assert staged_power_words(SequentialPlan((1, 2), 3, 0.01), 0.75).detectable is None
    assert even_looks(10, 4) == (3, 5, 8, 10)
    for share, auc in ((2.0, 0.7), (0.5, 0.5)):
        with pytest.raises(ValueError, match="needed"):
            staged_power(plan, share, auc)
    with pytest.raises(ValueError, match="looks"):
        even_looks(2, 3)


def request(number: int, prompt: str, served: str, *ghosts: str, group: str | None = None):
    return ServedRequest(
        str(number), str(number), prompt, Answer(served), tuple(map(Answer, ghosts)), group
    )


def test_a_prompt_of_an_earlier_look_is_left_out() -> None:
    log = [
        request(0, "one", "a", "b", group="g"),
        request(1, "two", "c", "d"),
        request(2, " ONE ", "e", "b", group="g"),  # the ghosts of an earlier look
        request(3, "three", "f", "g"),
    ]
    first, second = batches_of(log, (2, 4))
    assert [pool.ids for pool in first.pools] == [("0",), ("1",)]
    assert [pool.ids for pool in second.pools] == [("3",)]
    assert second.duplicates == 1
    assert len(joined([first, second]).pools) == 3
    # Whatever is behind a look does not change it.
    assert batches_of(log, (2,))[0] == first


def scored_request(number: int, rng: np.random.Generator, lift: float) -> ServedRequest:
    answers = [
        Answer(
            f"{number}/{j} " + "w" * int(rng.integers(20, 40)), 10,
            {"suspect": float(-20 + rng.standard_normal() + lift * (j == 0))},
        )
        for j in range(4)
    ]  # fmt: skip
    return ServedRequest(str(number), str(number), f"p{number}", answers[0], tuple(answers[1:]))


def test_interim_looks_tell_nothing_and_the_deciding_one_everything() -> None:
    plan = SequentialPlan((30, 60, 90), 3, 0.01)
    rng = np.random.default_rng(8)
    log = [scored_request(i, rng, 0.6) for i in range(90)]
    settings = GhostSettings(alpha=0.01)
    standings = []
    for k in range(1, 4):
        found = staged_ghosts_test(batches_of(log, plan.looks[:k]), plan, settings, reference=None)
        standings.append(found.standing)
        if found.standing is not Standing.INTERIM:
            break
        assert (found.p, found.effects, found.power) == (None, (), None)
        assert f"look {k} of 3" in found.reasons[0]
    assert standings[0] is Standing.INTERIM
    assert found.standing is Standing.FLAGGED  # no commitment
    assert found.p is not None
    assert found.p <= 0.01
    assert found.details["look"] == len(standings) == len(found.details["looks"])
    bound = next(e for e in found.effects if e.name.endswith("used, at least"))
    assert bound.confidence == 0.95
    assert "all 3 looks together" in bound.why


def test_the_false_positives_of_the_whole_road_stay_within_the_level() -> None:
    plan = SequentialPlan((10, 20, 30), 3, 0.1, Spending.POCOCK)
    rng = np.random.default_rng(21)
    runs, rejected = 120, 0
    settings = GhostSettings(alpha=0.1, check_level=1e-9)
    for _ in range(runs):
        log = [scored_request(i, rng, 0.0) for i in range(30)]
        batches = batches_of(log, plan.looks)
        scored = [pools(np.array([[a.logprobs["suspect"] for a in pool.answers]
                                  for pool in batch.pools])) for batch in batches]  # fmt: skip
        rejected += monitor_pools(plan, scored)[-1].decision is Decision.REJECT
    assert rejected <= binom.ppf(1 - 1e-5, runs, 0.1)
    found = staged_ghosts_test(batches, plan, settings, reference=None)
    assert found.standing is not Standing.REFUSED
