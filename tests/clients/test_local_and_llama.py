"""The same GGUF file through transformers and through llama.cpp.

They differ in arithmetic: transformers multiplies dequantised weights in float32, llama.cpp rounds
activations to eight bits. Seen with SmolLM2-135M-Instruct Q4_1: log-probs of first tokens apart by
up to 0.14, of the twenty likeliest by up to 0.30.
"""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from overproof.clients.connect import connect
from overproof.clients.protocol import Teacher
from overproof.collect.labels import LabelTrie
from overproof.collect.signal import top_tokens
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Completion, Message, Parameters, Request

QUESTIONS = (
    "Name the colour of the sky in one word.",
    "Write a haiku about rain.",
    "Who wrote Hamlet?",
    "Translate 'cat' to French.",
)
CHOICES = (
    "Which is it? Answer with A or B.\nA. a question about a number\nB. a question about a man"
)
TEXTS = ("How many feet are in a mile?", "Who was the first man on the moon?", "What is love?")
NEAR, CLEAR_LEAD = 0.35, 0.4


def ask(teacher: Teacher, *messages: tuple[str, str], **parameters: object) -> Request:
    wanted = {"max_tokens": 1, "temperature": 0.0, "top_logprobs": 20} | parameters
    return Request(
        model=teacher.model,
        messages=tuple(
            Message.model_validate({"role": role, "content": text}) for role, text in messages
        ),
        parameters=Parameters.model_validate(wanted),
    )


async def label_shares(teacher: Teacher, text: str) -> np.ndarray:
    async def ask_top(prefill: str) -> list[tuple[bytes, float]] | None:
        assert prefill == ""
        request = ask(teacher, ("system", CHOICES), ("user", text), top_logprobs=100)
        return top_tokens(await teacher.complete(request))

    trie = LabelTrie({"number": "A", "man": "B"}, fold=False, expand_above=1.0)
    mass = await trie.score(ask_top)
    assert mass is not None
    return np.asarray(mass.low / mass.low.sum())


async def answers_of(
    kind: str, model: str
) -> tuple[list[Completion], list[np.ndarray], list[bytes] | None]:
    config = TeacherConfig.model_validate(
        {"kind": kind, "model": model, "concurrency": 4, "context_length": 512, "device": "cpu"}
    )
    async with connect(config) as teacher:
        requests = [ask(teacher, ("user", question)) for question in QUESTIONS]
        answers = await asyncio.gather(*(teacher.complete(request) for request in requests))
        shares = [await label_shares(teacher, text) for text in TEXTS]
        return answers, shares, await teacher.tokenize("Blåbær — 青い!")


def by_token(completion: Completion) -> dict[bytes, float]:
    assert completion.logprobs is not None
    return {bytes(top.data or ()): top.logprob for top in completion.logprobs[0].top}


@pytest.mark.slow
async def test_local_weights_agree_with_llama_cpp(pulled_model: str) -> None:
    here, here_shares, here_pieces = await answers_of("local", pulled_model)
    there, there_shares, there_pieces = await answers_of("embedded", pulled_model)
    assert here_pieces == there_pieces
    for one, other in zip(here, there, strict=True):
        ours, theirs = by_token(one), by_token(other)
        shared = ours.keys() & theirs.keys()
        assert len(shared) >= 16
        assert max(abs(ours[token] - theirs[token]) for token in shared) < NEAR
        first, second = sorted(ours.values(), reverse=True)[:2]
        if first - second > CLEAR_LEAD:
            assert max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)
        assert math.fsum(math.exp(value) for value in ours.values()) <= 1.0 + 1e-5
        assert one.usage is not None
        assert other.usage is not None
        assert one.usage.input_tokens == other.usage.input_tokens  # the same template and tokens
    for ours_l, theirs_l in zip(here_shares, there_shares, strict=True):
        assert ours_l == pytest.approx(theirs_l, abs=0.1)
