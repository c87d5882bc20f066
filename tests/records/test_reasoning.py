"""What a model thought is no part of what it answered, wherever a server puts it."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.records.exchange import Outcome, TokenLogprob
from overproof.records.openai_answers import completion_of_choice
from overproof.records.openai_logprobs import tokens_of_text
from overproof.records.reasoning import split_thoughts


def read(content: Any, **more: Any) -> Any:
    choice = {"message": {"content": content} | more, "finish_reason": "stop"}
    return completion_of_choice({}, choice)


@pytest.mark.parametrize(
    ("message", "reasoning", "text"),
    [
        ({"content": "B", "reasoning_content": "Hm."}, "Hm.", "B"),
        ({"content": "B", "reasoning": "Hm."}, "Hm.", "B"),
        ({"content": "B", "reasoning": "Hm.", "reasoning_content": "Hm."}, "Hm.", "B"),
        ({"content": "B", "reasoning": {"effort": "low"}}, None, "B"),
        ({"content": "B", "reasoning_content": ""}, None, "B"),
        ({"content": "<think>\nHm.\n</think>\n\nB"}, "Hm.", "B"),
        ({"content": "\n<think>Hm.</think>B"}, "Hm.", "B"),
        ({"content": "<think></think>B"}, None, "B"),
        ({"content": "A <think>Hm.</think> B"}, None, "A <think>Hm.</think> B"),
        ({"content": "<think>Hm., never ending"}, None, "<think>Hm., never ending"),
        ({"content": "<thinking>Hm.</thinking>B"}, None, "<thinking>Hm.</thinking>B"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "B"},
                ]
            },
            "Hm.",
            "B",
        ),
    ],
)
def test_reasoning_stands_apart(message: dict[str, Any], reasoning: str | None, text: str) -> None:
    completion = read(**message)
    assert (completion.reasoning, completion.text) == (reasoning, text)
    assert completion.outcome is Outcome.ANSWERED


def test_only_the_first_block_is_a_thought() -> None:
    said = "<think>a</think>b <think>c</think>d"
    assert split_thoughts(said) == ("a", "b <think>c</think>d")


def test_a_thought_alone_is_no_answer() -> None:
    assert read(None, reasoning_content="Hm.").outcome is Outcome.MALFORMED


def spoken(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -1.0} for token in tokens]}


@pytest.mark.parametrize("content", ["<think>A?</think>\n\nA", "A"])
def test_the_first_token_is_the_answers(content: str) -> None:
    """A label is read off the first token's alternatives: never off a thought's."""
    choice = {
        "message": {"content": content, "reasoning_content": "A?"},
        "logprobs": spoken("<think>", "A", "?", "</think>", "\n\n", "A", "<|im_end|>"),
    }
    completion = completion_of_choice({}, choice)
    assert completion.text == "A"
    assert [t.token for t in completion.logprobs or ()] == ["A", "<|im_end|>"]


def test_tokens_that_cannot_be_told_apart_are_left_out() -> None:
    choice = {
        "message": {"content": "<think>x</think>A"},
        "logprobs": spoken("<think>", "x", "</think>A"),
    }
    assert completion_of_choice({}, choice).logprobs is None
    only = {"message": {"content": "A", "reasoning": "x"}, "logprobs": spoken("A", "<|end|>")}
    kept = completion_of_choice({}, only).logprobs
    assert [t.token for t in kept or ()] == ["A", "<|end|>"]


def test_tokens_are_compared_by_their_bytes() -> None:
    half = [
        TokenLogprob(token="\ufffd", logprob=-1, data=(0xC3,)),
        TokenLogprob(token="\ufffd", logprob=-1, data=(0xA9,)),
    ]
    thought = TokenLogprob(token="hm", logprob=-1)
    assert tokens_of_text((thought, *half), "é") == tuple(half)
    assert tokens_of_text((thought, *half), "e") is None
    assert tokens_of_text((), "e") is None
