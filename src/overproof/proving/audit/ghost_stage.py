"""Served versus ghost, on models of which it is known what they saw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from overproof.audit.commitments import verify_log
from overproof.audit.ghost_scores import score_pools
from overproof.audit.ghosts import GhostSettings, ghosts_test
from overproof.audit.lattice import repeated, uniform_lattice
from overproof.audit.ranks import served_ranks
from overproof.audit.served import Answer, Pool, Pooling, pools_of, requests_of_log
from overproof.audit.share_bound import share_bound, v_values
from overproof.proving.audit.cast import Arm, Member
from overproof.proving.audit.serving import sealed_log
from overproof.proving.audit.world import World
from overproof.records.audit import TestFinding

__all__ = ["bound_coverage", "ghost_controls", "ghost_finding", "null_redraws", "pooled_log"]

Floats = npt.NDArray[np.float64]
CONTROL_TEMPERATURE = 0.7


def _logprobs(
    world: World, member: Member, pools: tuple[Pool, ...]
) -> dict[tuple[str, str], float]:
    """Total log-prob of every answer, in an order that knows nothing of what was served."""
    from overproof.train.tiny_use import answer_logprobs

    rows = sorted({(str(pool.prompt), answer.text) for pool in pools for answer in pool.answers})
    values = answer_logprobs(world.model(member), world.examples(rows))
    return {row: min(0.0, float(value)) for row, value in zip(rows, values, strict=True)}


def _attached(
    pools: tuple[Pool, ...], name: str, values: dict[tuple[str, str], float]
) -> tuple[Pool, ...]:
    def scored(pool: Pool, answer: Answer) -> Answer:
        found = values[str(pool.prompt), answer.text]
        return replace(answer, logprobs={**answer.logprobs, name: found})

    return tuple(
        replace(pool, answers=tuple(scored(pool, answer) for answer in pool.answers))
        for pool in pools
    )


def _counted(world: World, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Answers with their length in tokens, the end among them."""
    return tuple(
        replace(
            pool,
            answers=tuple(
                replace(answer, tokens=len(world.answer_ids(answer.text)) + 1)
                for answer in pool.answers
            ),
        )
        for pool in pools
    )


def pooled_log(world: World, prompts: int | None = None) -> Pooling:
    """A's plain log as the test reads it, with the log-probs of its base and of A itself.

    Args:
        world: with A's log.
        prompts: the first so many; all where None.
    """
    requests = requests_of_log(sealed_log(world.log("served"))[0])
    pooling = pools_of(requests[:prompts])
    pools = _counted(world, pooling.pools)
    for name, member in (("reference", "base"), ("teacher", "A")):
        key = [world.plan.to_json(), world.model_key(world.member(member)), prompts]

        def make(who: str = member) -> list[Any]:
            values = _logprobs(world, world.member(who), pooling.pools)
            return [[*row, value] for row, value in values.items()]

        rows = world.kept(f"logs/logprobs-{member}", key, make)
        pools = _attached(pools, name, {(row[0], row[1]): row[2] for row in rows})
    return replace(pooling, pools=pools)


def ghost_finding(world: World, member: Member) -> tuple[TestFinding, dict[str, Any]]:
    """The test of one suspect, and the truth beside it.

    Models that saw none of the log's served answers are scored on fewer prompts, to save time.
    """
    plan = world.plan
    used = world.used(member)
    few = None if used else min(plan.null_prompts, plan.log)
    pooling = pooled_log(world, few)
    pools = _attached(pooling.pools, "suspect", _logprobs(world, member, pooling.pools))
    sealed, manifest, indices = sealed_log(world.log("served"))
    check = verify_log(sealed, manifest, indices=indices)
    settings = GhostSettings(alpha=plan.alpha, seed=plan.seed)
    finding = ghosts_test(replace(pooling, pools=pools), settings, commitment=check)
    items = set(finding.details.get("items", ()))
    right = {pool.ids[0] for pool in pools if str(pool.prompt) in used}
    scores = score_pools(pools).scores
    ranks, _ = served_ranks(scores, plan.seed)
    truth: dict[str, Any] = {
        "share": len(right) / max(1, len(pools)),
        "reported": len(items),
        "reported_wrongly": len(items - right),
        "used_ranks": [
            int(r) for r, pool in zip(ranks, pools, strict=True) if pool.ids[0] in right
        ],
    }
    if member.arm.null:
        truth["redraws"] = null_redraws(
            np.stack([pool.scores for pool in scores]), plan.redraws, plan.alpha,
            world.drawn(21, member.seed),
        )  # fmt: skip
    return finding, truth


def null_redraws(
    scores_nk: Floats, redraws: int, alpha: float, rng: np.random.Generator
) -> dict[str, int]:
    """How often the exact test rejects when other answers had been served.

    Args:
        scores_nk: of N prompts' K + 1 answers under a model that saw none of them.
        redraws: how often the served answers are drawn anew.
        alpha: the level.
        rng: of the draws and of ties.
    """
    prompts, answers = scores_nk.shape
    order = np.lexsort((rng.random(scores_nk.shape), scores_nk), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(answers), order.shape), axis=1)
    law = repeated(uniform_lattice(answers - 1), prompts)
    tail = law.survival()
    chosen = rng.integers(answers, size=(redraws, prompts))
    sums = ranks[np.arange(prompts), chosen].sum(axis=1)
    p = tail[np.clip(sums - law.low, 0, len(tail) - 1)]
    return {"redraws": redraws, "rejected": int((p <= alpha).sum())}


def bound_coverage(
    used_ranks: list[int], ghosts: int, prompts: int, replicates: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """How often the share bound stays at or below the truth.

    Ranks of used prompts are drawn from those of a student that was trained on all of them, the
    others uniform, which is their exact law.
    """
    rows = []
    known = np.array(used_ranks)
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        used = round(share * prompts)
        lows = []
        for _ in range(replicates):
            ranks = np.concatenate([
                rng.choice(known, used), rng.integers(ghosts + 1, size=prompts - used)
            ])  # fmt: skip
            v = v_values(ranks, np.full(prompts, ghosts), int(rng.integers(1 << 31)))
            lows.append(share_bound(v, ghosts + 1).low)
        rows.append({
            "share": used / prompts,
            "replicates": replicates,
            "covered": int((np.array(lows) <= used / prompts + 1e-12).sum()),
            "median": float(np.median(lows)),
        })  # fmt: skip
    return rows


def ghost_controls(world: World) -> list[dict[str, Any]]:
    """Logs that break the draw, and an innocent suspect: each must be refused.

    What the test would have said without its checks stands beside it.
    """
    from overproof.train.tiny_use import sample_answers

    plan = world.plan
    few = min(plan.null_prompts, plan.log)
    honest = pooled_log(world, few)
    suspect = next(m for m in world.members.values() if m.arm is Arm.NEITHER)
    ids = [world.prompt_ids(str(p.prompt)) for p in honest.pools for _ in range(plan.ghosts)]
    drawn = sample_answers(
        world.model(world.member("A")), ids, longest=plan.answer_tokens, seed=plan.seed + 31,
        temperature=CONTROL_TEMPERATURE,
    )  # fmt: skip
    texts = [world.vocabulary.text_of(answer) for answer in drawn]
    colder, shorter = [], []
    for at, pool in enumerate(honest.pools):
        ghosts = [Answer(text) for text in texts[at * plan.ghosts : (at + 1) * plan.ghosts]]
        colder.append(replace(pool, answers=(Answer(pool.answers[0].text), *ghosts), position=None))
        first = sorted(pool.answers, key=lambda answer: (answer.tokens or 0, answer.text))
        plain = tuple(Answer(answer.text) for answer in first)
        shorter.append(replace(pool, answers=plain, position=None))
    rows = []
    for name, made in (("ghosts at another temperature", colder), ("first finished", shorter)):
        pools = _counted(world, tuple(made))
        for model, who in (("reference", "base"), ("teacher", "A"), ("suspect", suspect.name)):
            pools = _attached(pools, model, _logprobs(world, world.member(who), pools))
        finding = ghosts_test(Pooling(pools), GhostSettings(alpha=plan.alpha, seed=plan.seed))
        blind = tuple(
            replace(pool, answers=tuple(Answer("x", 1, a.logprobs) for a in pool.answers))
            for pool in pools
        )
        scores = score_pools(blind).scores
        rows.append({
            "control": name,
            "standing": finding.standing.value,
            "reasons": list(finding.reasons),
            "mean_rank": float(np.mean(served_ranks(scores, 0)[0])),
            "expected_rank": plan.ghosts / 2,
        })  # fmt: skip
    return rows
