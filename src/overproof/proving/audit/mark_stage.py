"""Radioactivity, from text and from open weights, and what the plain z-test would say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from overproof.audit.alternate_keys import alternate_keys
from overproof.audit.contrast import contrast_test
from overproof.audit.green_mass import green_mass_test
from overproof.audit.radioactivity import Plan, watermark_test
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import Pairs, unique_pairs, vocabulary_hash
from overproof.proving.audit.cast import Member
from overproof.proving.audit.serving import marking_key, scheme_of
from overproof.proving.audit.world import World
from overproof.records.audit import TestFinding

if TYPE_CHECKING:
    from overproof.train.tiny_lm import Example, TinyLm

__all__ = ["MARK_TESTS", "answers_of", "mark_findings", "null_keys"]

Floats = npt.NDArray[np.float64]
MARK_TESTS = (
    "watermark",
    "watermark, teacher at hand",
    "green mass",
    "green mass, teacher at hand",
)


def answers_of(world: World, member: Member) -> list[list[str]]:
    """What a model answers to the judged prompts: of each prompt its samples."""
    from overproof.train.tiny_use import sample_answers

    plan = world.plan
    prompts = [prompt.text for prompt in world.prompts("judged")]

    def make() -> list[list[str]]:
        ids = [world.prompt_ids(prompt) for prompt in prompts for _ in range(plan.samples)]
        drawn = sample_answers(
            world.model(member), ids, longest=plan.answer_tokens, seed=plan.seed * 7 + member.seed
        )
        texts = [world.vocabulary.text_of(answer) for answer in drawn]
        return [texts[at : at + plan.samples] for at in range(0, len(texts), plan.samples)]

    key = [plan.seed, plan.judged_prompts, plan.samples, plan.answer_tokens,
           world.model_key(member)]  # fmt: skip
    return [list(row) for row in world.kept(f"answers/{member.name}", key, make)]


def mark_findings(world: World, member: Member) -> tuple[dict[str, TestFinding], dict[str, Any]]:
    """Every form of the test, and for models that never saw A the count over random keys.

    Text alone and open weights, each as it stands and beyond what the unmarked teacher expects. A
    shadow student's place on the dose curve needs the last of them alone.
    """
    plan = world.plan
    scheme = scheme_of(plan, world.vocabulary.size)
    key = marking_key(plan, scheme)
    # Texts along which probabilities are asked are unmarked: the suspect's own, and A's plain ones.
    settings = Plan(
        alpha=plan.alpha, alternates=plan.alternates, seed=plan.seed + 1, first_places=False
    )
    found = {MARK_TESTS[3]: _beyond_by_weights(world, member, scheme, key, settings)}
    if not member.arm.suspect:
        return found, {}
    answers = answers_of(world, member)
    questions = [prompt.text for prompt in world.prompts("judged")]
    said = world.examples([(q, text) for q, row in zip(questions, answers, strict=True)
                           for text in row])  # fmt: skip
    texts, prompts = [e.answer for e in said], [e.prompt for e in said]
    tokenizer = vocabulary_hash(world.vocabulary.table)
    found[MARK_TESTS[0]] = watermark_test(
        texts, scheme, key, prompts=prompts, plan=settings,
        tokenizer=tokenizer, teacher_tokenizer=tokenizer,
    )  # fmt: skip
    teacher = world.model(world.member("A"))
    found[MARK_TESTS[1]] = contrast_test(
        texts, next_token_tables_of(teacher, said), scheme, key, prompts=prompts, plan=settings
    )
    first = world.examples([(q, row[0]) for q, row in zip(questions, answers, strict=True)])
    found[MARK_TESTS[2]] = green_mass_test(
        [e.answer for e in first], next_token_tables_of(world.model(member), first),
        scheme, key, prompts=[e.prompt for e in first], plan=settings,
    )  # fmt: skip
    if not member.arm.null:
        return found, {}
    pairs = unique_pairs(
        texts, prompts, width=scheme.width, pad=scheme.pad, vocabulary=scheme.vocabulary
    )
    seed = plan.seed + 77 + member.seed
    return found, null_keys(pairs, scheme, plan.null_keys, plan.alpha, seed)


def _beyond_by_weights(
    world: World, member: Member, scheme: Kgw, key: int, settings: Plan
) -> TestFinding:
    """What the suspect puts on green tokens where A answered without its mark.

    A's plain answers do not depend on the key, and are where A's students do as A does.
    """
    rows = world.log("served")["rows"]
    plain = world.examples([(row["prompt"], row["answers"][row["served"]]) for row in rows])
    return contrast_test(
        [e.answer for e in plain], next_token_tables_of(world.model(world.member("A")), plain),
        scheme, key, suspect=next_token_tables_of(world.model(member), plain),
        prompts=[e.prompt for e in plain], plan=settings,
    )  # fmt: skip


def next_token_tables_of(model: TinyLm, examples: Sequence[Example]) -> Iterator[Floats]:
    """Next-token probabilities, one example at a time; torch is loaded when they are asked for."""
    from overproof.train.tiny_use import next_token_tables

    return next_token_tables(model, examples)


def null_keys(pairs: Pairs, scheme: Kgw, keys: int, alpha: float, seed: int) -> dict[str, int]:
    """How often unmarked text is found marked under random keys.

    Args:
        pairs: of a text that depends on none of the keys.
        scheme: the watermark.
        keys: how many; at least 19 are drawn.
        alpha: the level.
        seed: of the keys.

    Returns:
        Rejections by the tail under the keyed function's model, and by the plain z-test, which
        takes every token for a new draw.
    """
    drawn = alternate_keys(scheme, max(19, keys), seed)[:keys]
    tail = plain = 0
    total = float(pairs.counts.sum())
    spread = np.sqrt(total * scheme.expected * (1 - scheme.expected))
    for key in drawn:
        hits = scheme.hits(pairs, key)
        p = scheme.tail(pairs, key, float(hits.sum())).value
        z = (float(hits @ pairs.counts) - total * scheme.expected) / spread
        tail += p <= alpha
        plain += float(ndtr(-z)) <= alpha
    return {"keys": len(drawn), "tail": int(tail), "plain_z": int(plain)}
