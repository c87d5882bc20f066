"""The score of an answer: how much likelier the suspect finds it than a reference does, a token.

``s(y) = (log p_S(y|x) - log p_ref(y|x)) / tokens(y)``. Any fixed score is valid, so a poor
reference costs power and never validity; without one, ``log p_S / tokens`` is used. What is *not*
harmless is a score that depends on which answer was served by way of the arithmetic: the place in a
batch, say. So texts are scored in a shuffled order, and equal texts of a pool get equal scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overproof.audit.ranks import ScoredPool
from overproof.audit.served import LOWEST_LOGPROB, Answer, Pool
from overproof.errors import DataError
from overproof.records.hashing import canonical_json

__all__ = ["LogprobOf", "Scored", "attach_logprobs", "reference_in", "score_pools"]

ABOVE_ALL = 1e15  # far above any score, and so any margin between scores

LogprobOf = Callable[[Sequence[tuple[Any, str]]], Sequence[tuple[float, int]]]
"""Total log-prob in nats and number of tokens of each (prompt, answer)."""


@dataclass(frozen=True)
class Scored:
    """Pools with scores.

    Attributes:
        pools: those of which every answer has what the score needs.
        scores: of their answers, in the same order.
        lost: pools of which *any* answer, served or not, lacks it.
        formula: what a score is, in words.
    """

    pools: tuple[Pool, ...]
    scores: tuple[ScoredPool, ...]
    lost: tuple[Pool, ...]
    formula: str

    @property
    def lost_scores(self) -> tuple[ScoredPool, ...]:
        """Lost pools at their worst: each served answer below all of its ghosts.

        Log-probs come after the commitment, so whoever hands them in could leave out those that
        speak for his opponent. Counted like this, a lost pool has the null distribution of ranks
        without ties, the widest there is, and the lowest rank: where no scores tie, leaving out
        never lowers the p-value of the sum of ranks. Where they do, a pool of the same mean and a
        smaller variance may have been replaced: that raises p in the tail and lowers it by a few
        hundredths of itself near the middle (p above .4), where nothing is decided.
        The topmost ghost stands above everything, so that the pool comes first in an order by
        margin, where a loss costs the most.
        """
        return tuple(
            ScoredPool(
                np.array([*range(len(pool.answers) - 1), ABOVE_ALL], dtype=np.float64), pool.served
            )
            for pool in self.lost
        )

    @property
    def counted(self) -> tuple[ScoredPool, ...]:
        """All pools, the lost ones last and at their worst."""
        return (*self.scores, *self.lost_scores)


def attach_logprobs(
    pools: Sequence[Pool], model: str, logprob_of: LogprobOf, seed: int = 0
) -> list[Pool]:
    """Have every answer scored by a model, each text of a prompt once, in a shuffled order.

    Args:
        pools: of served answers and ghosts.
        model: the name under which answers keep the log-prob: ``suspect``, ``reference``, ….
        logprob_of: scores answers; local weights or a server's prompt log-probs.
        seed: of the shuffle.

    Raises:
        DataError: as many results as answers did not come back, or one is not a log-prob.
    """
    wanted: dict[tuple[bytes, str], tuple[Any, str]] = {}
    for pool in pools:
        name = canonical_json(pool.prompt)
        for answer in pool.answers:
            wanted.setdefault((name, answer.text), (pool.prompt, answer.text))
    keys = list(wanted)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    results = logprob_of([wanted[key] for key in order])
    if len(results) != len(order):
        raise DataError(
            model, f"gave {len(results)} log-probs for {len(order)} answers", "check the scorer"
        )
    for logprob, tokens in results:
        if not LOWEST_LOGPROB <= logprob <= 1e-6 or tokens < 1:
            raise DataError(
                model,
                f"gave a log-prob of {logprob} over {tokens} token(s)",
                "a suspect must give the prompt's log-probs; check what the server returns",
            )
    found = dict(zip(order, results, strict=True))

    def scored(pool: Pool, answer: Answer) -> Answer:
        logprob, tokens = found[canonical_json(pool.prompt), answer.text]
        return replace(
            answer,
            tokens=answer.tokens if answer.tokens is not None else tokens,
            logprobs={**answer.logprobs, model: float(logprob)},
        )

    return [
        replace(pool, answers=tuple(scored(pool, answer) for answer in pool.answers))
        for pool in pools
    ]


def reference_in(pools: Sequence[Pool], reference: str | None) -> str | None:
    """The name of the reference's log-probs, None where no answer has them."""
    has = any(reference in answer.logprobs for pool in pools for answer in pool.answers)
    return reference if has else None


def score_pools(
    pools: Sequence[Pool],
    suspect: str = "suspect",
    reference: str | None = "reference",
    *,
    is_known: bool = False,
) -> Scored:
    """Score every answer; a pool with an answer that cannot be scored is lost as a whole.

    Args:
        pools: with log-probs in their answers.
        suspect: the name of the suspect's log-probs.
        reference: that of the reference's; None, or a name that no answer has, for none.
        is_known: ``reference`` is of `reference_in` for more pools than these, and stays.
    """
    if not is_known:
        reference = reference_in(pools, reference)
    needs = [suspect] if reference is None else [suspect, reference]
    kept: list[Pool] = []
    lost: list[Pool] = []
    scores: list[ScoredPool] = []
    for pool in pools:
        if any(name not in answer.logprobs for answer in pool.answers for name in needs):
            lost.append(pool)
            continue
        kept.append(pool)
        scores.append(ScoredPool(_scores(pool, suspect, reference), pool.served))
    per = "a token" if kept and _has_tokens(kept) else "a character"
    formula = (
        f"log-prob under the suspect, {per}"
        if reference is None
        else f"log-prob under the suspect less that under the reference, {per}"
    )
    return Scored(tuple(kept), tuple(scores), tuple(lost), formula)


def _has_tokens(pools: Sequence[Pool]) -> bool:
    return all(answer.tokens is not None for pool in pools for answer in pool.answers)


def _scores(pool: Pool, suspect: str, reference: str | None) -> np.ndarray[Any, np.dtype[Any]]:
    known = all(answer.tokens is not None for answer in pool.answers)
    by_text: dict[str, list[float]] = {}
    for answer in pool.answers:
        total = answer.logprobs[suspect]
        if reference is not None:
            total -= answer.logprobs[reference]
        # One measure of length a pool, whichever of its answers have a token count.
        length = answer.tokens if known and answer.tokens else max(1, len(answer.text))
        by_text.setdefault(answer.text, []).append(total / length)
    mean = {text: math.fsum(sorted(values)) / len(values) for text, values in by_text.items()}
    return np.array([mean[answer.text] for answer in pool.answers], dtype=np.float64)
