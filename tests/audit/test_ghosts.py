"""The ghosts test as a whole: what it finds, what it refuses, and the controls that must fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from overproof.audit.commitments import CommitmentCheck, Integrity
from overproof.audit.ghosts import GhostSettings, Statistic, ghosts_test
from overproof.audit.planning import critical_sum
from overproof.audit.ranks import ScoredPool, rank_sum_test
from overproof.audit.served import Answer, Pooling, ServedRequest, pools_of
from overproof.records.audit import Exactness, Standing, TestFinding

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
INTACT = CommitmentCheck(Integrity.INTACT, indices_committed=True)


def honest(rng: np.random.Generator, n: int, k: int) -> Floats:
    """How unlikely the teacher finds each answer, the served one first: N x (K + 1).

    Everything else follows from it: unlikely answers are longer, and any language model, trained
    on them or not, finds them unlikely.
    """
    return rng.standard_normal((n, k + 1))


def first_finished(rng: np.random.Generator, n: int, k: int) -> Floats:
    """The answer that finished first was served: the shortest."""
    return np.sort(honest(rng, n, k), axis=1)


def retry_filtered(rng: np.random.Generator, n: int, k: int) -> Floats:
    """A served answer that came out too long was drawn anew."""
    x = honest(rng, n, k)
    while (long := x[:, 0] > 1.0).any():
        x[long, 0] = rng.standard_normal(int(long.sum()))
    return x


def hotter_ghosts(rng: np.random.Generator, n: int, k: int) -> Floats:
    """Ghosts were redrawn at a higher temperature."""
    x = honest(rng, n, k)
    x[:, 1:] = 1.2 * x[:, 1:] + 0.4
    return x


def suspect_of(x: Floats, rng: np.random.Generator) -> Floats:
    """Log-probs a token of a suspect that never saw which answers were served."""
    return -1.0 - 0.3 * x + 0.2 * rng.standard_normal(x.shape)


def log_of(draw: Draw, n: int, k: int = 3, seed: int = 0, lift: float = 0.0, share: float = 1.0,
           **more: object) -> Pooling:  # fmt: skip
    """A log; ``lift``: what a suspect that saw served answers finds them likelier by, a token."""
    rng = np.random.default_rng(seed)
    x = draw(rng, n, k)
    lp = suspect_of(x, rng)
    lp[: round(share * n), 0] += lift
    tokens = np.rint(60 * np.exp(0.3 * x)).astype(int) + 1
    teacher = -0.5 - 0.1 * x
    requests = []
    for i in range(n):
        answers = [
            Answer(
                f"{i}/{j} ".ljust(5 * int(tokens[i, j]), "w"),
                int(tokens[i, j]),
                {
                    "suspect": float(min(lp[i, j], -0.01)) * int(tokens[i, j]),
                    "teacher": float(min(teacher[i, j], -0.01)) * int(tokens[i, j]),
                },
                "stop",
            )
            for j in range(k + 1)
        ]
        requests.append(
            ServedRequest(f"r{i}", f"r{i}", f"prompt {i}", answers[0], tuple(answers[1:]),
                          position=int(rng.integers(k + 1)), **more)  # type: ignore[arg-type]
        )  # fmt: skip
    return pools_of(requests)


def rejections(draw: Draw, alpha: float, runs: int = 100) -> int:
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(runs):
        scores = suspect_of(draw(rng, 60, 3), rng)
        found += rank_sum_test([ScoredPool(row) for row in scores]).tail.value <= alpha
    return found


def test_an_honest_log_keeps_the_level() -> None:
    assert rejections(honest, 0.05) <= binom.ppf(0.9999, 100, 0.05)


@pytest.mark.parametrize("draw", [first_finished, retry_filtered, hotter_ghosts])
def test_negative_controls_fail_as_they_must(draw: Draw) -> None:
    """A log that was not drawn at random convicts an innocent: unchecked, the test says so."""
    assert rejections(draw, 0.01) > 10  # ten times the level; none of them saw anything
    # and the checks, which never look at the suspect, refuse it
    found = ghosts_test(log_of(draw, 400), commitment=INTACT)
    assert found.standing is Standing.REFUSED
    assert found.p is None
    assert any("not drawn alike" in reason for reason in found.reasons)


def test_the_plain_z_test_fails_on_heavy_tails() -> None:
    """Centred scores over their permutation variance: far above its level, where ranks hold."""
    rng = np.random.default_rng(7)
    runs, n, k = 2000, 30, 15
    scores = np.exp(2.5 * rng.standard_normal((runs, n, k + 1)))
    centred = scores - scores.mean(axis=2, keepdims=True)
    z = centred[:, :, 0].sum(axis=1) / np.sqrt(centred.var(axis=2).sum(axis=1))
    assert (ndtr(-z) <= 1e-3).sum() > 10 * runs * 1e-3
    sums = (scores[:, :, 1:] < scores[:, :, :1]).sum(axis=(1, 2))
    assert (sums >= critical_sum(n, k, 1e-3)).sum() <= binom.ppf(0.9999, runs, 1e-3)


def test_the_checks_refuse_an_honest_log_rarely() -> None:
    refused = sum(
        ghosts_test(log_of(honest, 40, seed=seed), commitment=INTACT).standing is Standing.REFUSED
        for seed in range(12)
    )
    assert refused <= 2


def test_a_suspect_that_saw_them_is_found() -> None:
    found = ghosts_test(
        log_of(honest, 500, k=7, lift=1.0, share=0.5),
        GhostSettings(use_was_blind=True),
        commitment=INTACT,
    )
    assert found.standing is Standing.DONE, found.reasons
    first = found.p_values[0]
    assert first.exactness is Exactness.EXACT
    assert first.log10 is not None
    assert first.floor <= first.value < 1e-20
    kinds = [p.exactness for p in found.p_values[1:]]
    assert kinds == [Exactness.EXACT, Exactness.BOUND, Exactness.APPROXIMATE]
    auc, plain, dkw, divided = found.effects
    assert auc.low is not None
    assert auc.low > 0.6
    assert 0.2 < (plain.low or 0) <= 0.5
    assert "with 7 ghost(s) this form cannot exceed about 87.5 %" in plain.why
    assert 0.2 < (dkw.low or 0) <= 0.5
    assert (plain.low or 0) < (divided.low or 0) <= 0.5
    items = found.details["items"]
    false = sum(int(name[1:]) >= 250 for name in items)
    assert len(items) > 30
    assert false / len(items) < 0.2
    assert found.power is not None
    assert "would have detected" in found.power.words
    json.dumps(found.to_json(), allow_nan=False)


def test_a_suspect_that_did_not_is_not() -> None:
    settings = GhostSettings(statistic=Statistic.WEIGHTED)
    found = ghosts_test(log_of(honest, 300), settings, commitment=INTACT)
    assert found.standing is Standing.DONE
    assert found.p is not None
    assert found.p > 1e-3
    assert found.p_values[0].method.startswith("sum of clipped")
    assert found.effects[1].low == 0.0
    assert found.effects[3].value is None
    assert "attested" in found.effects[3].why
    assert found.details["items"] == []


def refusal(found: TestFinding) -> str:
    assert found.standing is Standing.REFUSED
    assert found.p_values == ()
    return " ".join(found.reasons)


def test_refusals_say_why() -> None:
    altered = CommitmentCheck(Integrity.ALTERED, "item 3 is not what was committed", "r2")
    assert "first: r2" in refusal(ghosts_test(log_of(honest, 30), commitment=altered))
    assert "drawn anew" in refusal(ghosts_test(log_of(honest, 30, retries=2)))
    assert "log-probs of 'other'" in refusal(ghosts_test(log_of(honest, 30), suspect="other"))
    assert "no prompt is left" in refusal(ghosts_test(Pooling(())))
    ended = Answer("x", finish_reason="cancelled")
    one = pools_of([ServedRequest("a", "a", "p", ended, (Answer("y"),))])
    assert "cancellation" in refusal(ghosts_test(one))
    skewed = [
        ServedRequest(f"{i}", f"{i}", f"{i}", Answer(f"a{i}", logprobs={"suspect": -1.0}),
                      (Answer(f"b{i}", logprobs={"suspect": -1.0}),), position=0)
        for i in range(40)
    ]  # fmt: skip
    assert "place in the order" in refusal(ghosts_test(pools_of(skewed)))


def test_warnings_say_what_was_not_checked() -> None:
    plain = [
        ServedRequest(f"{i}", f"{i}", f"q{i % 9}", Answer("a", logprobs={"suspect": -1.0}),
                      (Answer("b", logprobs={"suspect": -1.2}),) * (1 + i % 2))
        for i in range(12)
    ]  # fmt: skip
    found = ghosts_test(pools_of(plain))
    assert found.standing is Standing.FLAGGED
    said = " ".join(found.reasons)
    for words in ("no commitment", "no log-probs of the teacher", "repeated", "varies from 1 to 2"):
        assert words in said
    dropped = CommitmentCheck(Integrity.INTACT, unused_slots=4, indices_committed=True)
    assert "4 committed slot(s)" in " ".join(
        ghosts_test(log_of(honest, 20), commitment=dropped).reasons
    )


def test_one_prompt_alone_says_its_floor() -> None:
    found = ghosts_test(log_of(honest, 1, lift=9.0), commitment=INTACT)
    assert found.p_values[0].floor == pytest.approx(0.25)
    assert found.p is not None
    assert found.p >= 0.25
    assert found.effects[0].low is None
    with pytest.raises(ValueError, match="levels"):
        GhostSettings(alpha=0)
    with pytest.raises(ValueError, match="AUC"):
        GhostSettings(assumed_auc=0.5)
    assert math.isclose(GhostSettings().fdr, 0.05)
