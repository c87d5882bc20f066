"""The throttling experiment's design: who is refused when, at what cost, and can it be checked?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from overproof.errors import ConfigError, DataError, RunError
from overproof.guard.throttling import Budget, Design, Experiment, Observations, analyse
from overproof.guard.throttling.observations import first_attempts, watched_loads

SECRET = b"a secret of this experiment"
ACCOUNTS = tuple(f"a{i}" for i in range(21))
DESIGN = Design("one", SECRET, ACCOUNTS, start=1_000_000.0)


def on_window(design: Design, round_: int = 0) -> int:
    """The first window of a round that is on."""
    first = round_ * design.per_round
    return first + design.coins[first : first + design.per_round].index(True)


def test_assignment_is_recomputed_from_the_secret_alone() -> None:
    again = Design("one", SECRET, tuple(reversed(ACCOUNTS)), start=1_000_000.0)
    assert again.coins == DESIGN.coins
    assert again.halves == DESIGN.halves
    assert again.commitment == DESIGN.commitment
    for other in (replace(DESIGN, name="two"), replace(DESIGN, secret=b"another" + SECRET)):
        assert (other.coins, other.halves) != (DESIGN.coins, DESIGN.halves)
        assert other.commitment != DESIGN.commitment


def test_secret_is_not_shown() -> None:
    assert "secret of this" not in repr(DESIGN)
    assert b"secret of this" not in repr(Experiment(DESIGN).state()).encode()


def test_halves_change_places() -> None:
    first, second = DESIGN.halves
    assert len(first) == 10
    assert first | second == set(ACCOUNTS)
    assert not first & second
    assert set(DESIGN.watched(0)) == second


def test_coins_are_fair_and_halves_are_random() -> None:
    designs = [replace(DESIGN, name=f"n{i}") for i in range(400)]
    heads = np.array([design.coins for design in designs]).mean()
    assert abs(heads - 0.5) < 4 * 0.5 / math.sqrt(400 * 20)
    share = np.mean([[a in design.halves[0] for a in ACCOUNTS] for design in designs], axis=0)
    assert np.all(np.abs(share - 10 / 21) < 4.5 * 0.5 / math.sqrt(400))


def test_nobody_is_refused_outside_of_windows_that_are_on() -> None:
    treated, watched = sorted(DESIGN.halves[0])[0], DESIGN.watched(0)[0]
    window = on_window(DESIGN)
    start = DESIGN.window_start(window)
    assert DESIGN.treated(treated, start) == 1800.0
    assert DESIGN.treated(treated, start + 1799.5) == 0.5
    assert DESIGN.treated(treated, start + 1800.0) is None
    assert DESIGN.treated(treated, start - 1.0) is None
    assert DESIGN.treated(watched, start) is None
    assert DESIGN.treated("somebody else", start) is None
    off = DESIGN.coins.index(False)
    assert all(DESIGN.treated(a, DESIGN.window_start(off) + 5) is None for a in ACCOUNTS)


def test_budget_ends_refusals_for_the_day() -> None:
    design = replace(DESIGN, budget=Budget(most_refusals=3, most_delay_s=3000.0))
    treated = sorted(design.halves[0])[0]
    experiment = Experiment(design)
    start = design.window_start(on_window(design))
    answers = [experiment.ask(treated, start + i, 7) for i in range(6)]
    assert answers == [1800.0, 1799.0, 1798.0, None, None, None]
    assert experiment.cost.refusals == 3
    assert experiment.cost.spared == 3
    assert experiment.cost.most_delay_s == 1800.0
    assert list(experiment.seen.refused) == [1, 1, 1, 0, 0, 0]


def test_delay_is_budgeted_by_the_first_refusal_of_a_window() -> None:
    design = replace(DESIGN, budget=Budget(most_refusals=100, most_delay_s=2000.0))
    treated = sorted(design.halves[0])[0]
    experiment = Experiment(design)
    windows = [w for w in range(design.per_round) if design.coins[w]]
    waits = [experiment.ask(treated, design.window_start(w), 1) for w in windows[:2]]
    assert waits == [1800.0, None]
    assert experiment.cost.most_delay_s <= 2000.0


def test_experiment_knows_only_its_community_and_its_time() -> None:
    experiment = Experiment(DESIGN)
    assert experiment.ask("stranger", DESIGN.start + 10) is None
    assert experiment.ask(ACCOUNTS[0], DESIGN.start - 10) is None
    assert experiment.ask(ACCOUNTS[0], DESIGN.end) is None
    assert experiment.ask(ACCOUNTS[0], math.nan) is None
    assert len(experiment.seen.at) == 0


def test_looking_early_is_refused() -> None:
    experiment = Experiment(DESIGN)
    with pytest.raises(RunError, match=r"another 20\.5 hours"):
        experiment.observations(DESIGN.start)
    assert experiment.observations(DESIGN.end) is experiment.seen


def test_snapshot_goes_on_with_the_same_answers() -> None:
    design = replace(DESIGN, budget=Budget(most_refusals=4))
    whole, first = Experiment(design), Experiment(design)
    rng = np.random.default_rng(0)
    asks = [
        (ACCOUNTS[int(a)], float(at), int(p))
        for a, at, p in zip(
            rng.integers(0, 21, 3000),
            np.sort(rng.uniform(design.start, design.end, 3000)),
            rng.integers(1, 1 << 63, 3000, dtype=np.uint64),
            strict=True,
        )
    ]
    expected = [whole.ask(*ask) for ask in asks]
    got = [first.ask(*ask) for ask in asks[:1500]]
    second = Experiment(design)
    second.restore(first.state())
    got += [second.ask(*ask) for ask in asks[1500:]]
    assert got == expected
    assert second.state() == whole.state()
    with pytest.raises(RunError, match="another design"):
        Experiment(replace(design, name="other")).restore(first.state())


def test_tables_count_watched_attempts_and_first_throttled_ones() -> None:
    seen = Observations()
    watched = DESIGN.order.index(DESIGN.watched(0)[2])
    treated = DESIGN.order.index(sorted(DESIGN.halves[0])[3])
    start = DESIGN.window_start(1)
    for at, account, prompt in (
        (start - 1700, watched, 1), (start + 1, watched, 2), (start + 2, treated, 3),
        (start + 3, treated, 4), (start + 1799, watched, 5), (start + 1801, watched, 6),
    ):  # fmt: skip
        seen.add(at, account, prompt, False)
    loads, before = watched_loads(DESIGN, seen, 0)
    assert loads.sum() == 2
    assert loads[1, 2] == 2
    assert before[1, 2] == 1
    assert before[2, 2] == 1  # what comes after a window is the next one's baseline
    assert before.sum() == 2
    (index,) = first_attempts(DESIGN, seen)
    assert (index.window, index.prompt) == (1, 3)


def test_half_a_record_is_not_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.guard.throttling.observations.MOST", 2)
    experiment = Experiment(DESIGN)
    start = DESIGN.window_start(on_window(DESIGN))
    treated = sorted(DESIGN.halves[0])[0]
    answers = [experiment.ask(treated, start + i) for i in range(5)]
    assert answers[3:] == [None, None]  # refusing without a record would be a cost for nothing
    with pytest.raises(DataError, match="cut off"):
        analyse(DESIGN, experiment.seen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"secret": b"short"}, "5 bytes"),
        ({"accounts": ("a", "b", "c")}, "3 accounts"),
        ({"accounts": ("a", "b", "c", "c")}, "named twice"),
        ({"windows": 21}, "cannot be shared"),
        ({"rounds": 0}, "cannot be shared"),
        ({"windows": 4}, "cannot be shared"),
        ({"window_s": 3600.0}, "no baseline"),
        ({"window_s": math.nan}, "no baseline"),
        ({"resurface_s": 9999.0}, "into the next window"),
        ({"start": math.nan}, "no time"),
    ],
)
def test_designs_that_prove_nothing_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(DESIGN, **change)  # type: ignore[arg-type]


def test_budgets_of_nothing_are_refused() -> None:
    for budget in ({"most_refusals": 0}, {"most_delay_s": 0.0}, {"most_delay_s": math.nan}):
        with pytest.raises(ConfigError, match="allow no experiment"):
            Budget(**budget)  # type: ignore[arg-type]


def test_hostile_account_names_are_names() -> None:
    names = ("\ud800", "", "a\0b", "ab", "<script>", "a" * 100_000)
    design = Design("x\0y", SECRET, names, 0.0)
    assert len(design.commitment) == 64
    assert design.commitment != Design("x", SECRET, ("y", *names), 0.0).commitment
    assert len(design.halves[0]) == 3
