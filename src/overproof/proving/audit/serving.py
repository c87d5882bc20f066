"""The teachers serve: A plain with committed ghosts, A with its watermark, B plain."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overproof.audit.commitments import (
    IndexOpening,
    Manifest,
    SealedRequest,
    commit_indices,
    commit_log,
    draw_indices,
    seal_request,
)
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.mersenne import HeadOfPermutation
from overproof.proving.audit.plan import StudyPlan
from overproof.proving.audit.remembered import RememberedKgw

if TYPE_CHECKING:
    from overproof.proving.audit.world import Served, World

__all__ = ["bonus_table", "marking_key", "scheme_of", "sealed_log", "serve"]

STREAMS = {"served": 11, "marked": 12, "other": 13}


def scheme_of(plan: StudyPlan, vocabulary: int) -> Kgw:
    """A's watermark: green lists seeded by the last token."""
    return RememberedKgw(vocabulary, share=plan.green)


def marking_key(plan: StudyPlan, scheme: Kgw) -> int:
    """A's key: secret in life, a seeded draw here, from the alternates' distribution."""
    rng = np.random.default_rng([0x6B6579, plan.seed])
    key = scheme.draw(rng)
    assert isinstance(key, int)
    return key


def bonus_table(scheme: Kgw, key: int, bias: float) -> npt.NDArray[np.float32]:
    """What the watermark adds to the logits after each last token, (V, V)."""
    head = HeadOfPermutation(scheme.vocabulary, scheme.green)
    rows = [head.mask(key * context) for context in range(scheme.vocabulary)]
    return np.stack(rows).astype(np.float32) * np.float32(bias)


def serve(world: World, name: str) -> Served:
    """Draw the answers of a log and, for A's plain one, commit to which were served.

    The served index is drawn, and committed to, before any answer is.
    """
    from overproof.train.tiny_use import sample_answers

    plan = world.plan
    model = world.model(world.member("B" if name == "other" else "A"))
    prompts = [prompt.text for prompt in world.prompts("log")]
    each = plan.ghosts + 1 if name == "served" else 1
    rng = world.drawn(STREAMS[name])
    openings = draw_indices(len(prompts), max(2, each), choose=lambda n: int(rng.integers(n)))
    bonus = None
    if name == "marked":
        scheme = scheme_of(plan, world.vocabulary.size)
        bonus = bonus_table(scheme, marking_key(plan, scheme), plan.bias)
    ids = [world.prompt_ids(prompt) for prompt in prompts for _ in range(each)]
    drawn = sample_answers(
        model, ids, longest=plan.answer_tokens, seed=plan.seed * 100 + STREAMS[name], bonus=bonus
    )
    texts = [world.vocabulary.text_of(answer) for answer in drawn]
    rows: list[dict[str, Any]] = []
    for at, prompt in enumerate(prompts):
        answers = texts[at * each : (at + 1) * each]
        row = {"id": f"r{at}", "prompt": prompt, "answers": answers, "served": 0}
        if name == "served":
            row["served"] = openings[at].served
            row["opening"] = asdict(openings[at])
            row["salts"] = list(seal_request(openings[at], f"r{at}", prompt, answers).salts)
        rows.append(row)
    log: Served = {"rows": rows}
    if name == "served":
        log["index_root"] = commit_indices(openings).root
        log["indices"] = asdict(commit_indices(openings))
        log["log"] = asdict(commit_log(sealed_rows(rows)))
    return log


def sealed_rows(rows: list[dict[str, Any]]) -> list[SealedRequest]:
    """The log as it was sealed."""
    return [
        SealedRequest(
            row["id"], row["prompt"], tuple(row["answers"]), tuple(row["salts"]),
            IndexOpening(**row["opening"]),
        )
        for row in rows
    ]  # fmt: skip


def sealed_log(log: Served) -> tuple[list[SealedRequest], Manifest, Manifest]:
    """The sealed requests, the manifest of the log and that of the served indices."""

    def manifest(value: dict[str, Any]) -> Manifest:
        return Manifest(**{**value, "leaves": tuple(value["leaves"])})

    return sealed_rows(log["rows"]), manifest(log["log"]), manifest(log["indices"])
