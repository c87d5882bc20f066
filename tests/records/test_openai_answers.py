"""What one choice of a chat completion says, however oddly it is written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from overproof.records.exchange import Outcome, Usage
from overproof.records.openai_answers import LEAST_LOGPROB, completion_of_choice

HALF = "\ud83d"


def choice(content: Any = "A", **changes: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"} | changes


def spoken(**item: Any) -> dict[str, Any]:
    return choice(logprobs={"content": [{"token": "a", "logprob": -1.0} | item]})


@pytest.mark.parametrize(
    ("message", "reason", "outcome", "text"),
    [
        ({"content": ""}, "stop", Outcome.ANSWERED, ""),
        ({"content": "A"}, "eos", Outcome.ANSWERED, "A"),
        ({"content": "A"}, "max_tokens", Outcome.TRUNCATED, "A"),
        ({"content": "A", "tool_calls": [{}]}, "stop", Outcome.ANSWERED, "A"),
        ({"content": "A", "tool_calls": [{}]}, "tool_calls", Outcome.MALFORMED, "A"),
        ({"content": "", "tool_calls": [{}]}, "stop", Outcome.MALFORMED, ""),
        ({"content": None, "tool_calls": [{}]}, "length", Outcome.MALFORMED, ""),
        ({"content": None, "refusal": "No."}, "tool_calls", Outcome.REFUSED, "No."),
        ({"content": "Sorry.", "refusal": "No."}, "stop", Outcome.REFUSED, "Sorry."),
        ({"content": "A", "refusal": ""}, "stop", Outcome.ANSWERED, "A"),
        ({"content": []}, "stop", Outcome.MALFORMED, ""),
        ({"content": [{"type": "thinking"}]}, "stop", Outcome.MALFORMED, ""),
    ],
)
def test_outcomes(message: dict[str, Any], reason: str, outcome: Outcome, text: str) -> None:
    completion = completion_of_choice({}, {"message": message, "finish_reason": reason})
    assert (completion.outcome, completion.text) == (outcome, text)
    assert completion.finish_reason == reason
    assert (completion.error is not None) == (outcome is Outcome.MALFORMED)


def test_thoughts_are_no_part_of_the_answer() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "reasoning", "text": "So it is B."},
        {"type": "text", "text": "It is "},
        {"text": "B"},
        ".",
    ]
    assert completion_of_choice({}, choice(parts)).text == "It is B."


def test_unlikely_tokens_have_the_least_logprob() -> None:
    top = [{"token": "b", "logprob": -math.inf}, {"token": "c", "logprob": -2}]
    tokens = completion_of_choice({}, spoken(logprob=None, top_logprobs=top)).logprobs
    assert tokens is not None
    assert tokens[0].logprob == LEAST_LOGPROB
    assert [(t.token, t.logprob) for t in tokens[0].top] == [("c", -2.0), ("b", LEAST_LOGPROB)]


def test_half_a_surrogate_pair_is_replaced_everywhere() -> None:
    answer = choice(f"x{HALF}", finish_reason=f"stop{HALF}")
    answer["logprobs"] = {
        "content": [
            {"token": HALF, "logprob": -1, "top_logprobs": [{"token": HALF, "logprob": -1}]}
        ]
    }
    response = {"model": f"m{HALF}", "system_fingerprint": HALF}
    completion = completion_of_choice(response, answer)
    assert completion.text == "x\ufffd"
    assert "\ufffd" in completion.model_dump_json()  # pydantic refuses a surrogate
    refused = {"message": {"content": None, "refusal": HALF}}
    assert completion_of_choice({}, refused).text == "\ufffd"


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (None, None),
        ({}, None),
        ({"total_tokens": 9}, None),
        ({"prompt_tokens": 3.0, "completion_tokens": None}, Usage(input_tokens=3)),
        (
            {
                "prompt_tokens": 0,
                "completion_tokens": 2,
                "prompt_tokens_details": None,
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            Usage(output_tokens=2, reasoning_tokens=1),
        ),
    ],
)
def test_usage_that_was_not_counted_is_unknown(usage: Any, read: Usage | None) -> None:
    assert completion_of_choice({"usage": usage}, choice()).usage == read


@pytest.mark.parametrize(
    ("response", "answer", "said"),
    [
        ({}, None, "no message"),
        ({}, {"message": "A"}, "no message"),
        ({}, choice(5), "neither a text nor a list"),
        ({}, choice([5]), "part of type 'int'"),
        ({}, choice([{"type": "image_url", "text": "A"}]), "part of type 'image_url'"),
        ({}, choice([{"type": "text"}]), "part of type 'text'"),
        ({}, choice([{"type": ["thinking"]}]), "only text can be used"),
        ({}, choice(finish_reason=["length"]), "finish_reason is not a text"),
        ({}, {"message": {"content": None, "refusal": {"why": "no"}}}, "refusal is not a text"),
        ({"model": 5}, choice(), "model is not a text"),
        ({}, choice(logprobs={"content": 3}), "not a list of objects"),
        ({}, choice(logprobs={"content": ["a"]}), "not a list of objects"),
        ({}, choice(logprobs={"content": [{"logprob": -1}]}), "no token"),
        ({}, choice(logprobs={"content": [{"token": "a"}]}), "no log-prob"),
        ({}, spoken(token=5), "token is not a text"),
        ({}, spoken(logprob=math.nan), "not finite"),
        ({}, spoken(logprob=math.inf), "not finite"),
        ({}, spoken(logprob=-(10**400)), "not finite"),
        ({}, spoken(logprob="-1"), "a log-prob is '-1'"),
        ({}, spoken(logprob=True), "a log-prob is True"),
        ({}, spoken(bytes=5), "not a list of bytes"),
        ({}, spoken(bytes=[256]), "not a list of bytes"),
        ({}, spoken(top_logprobs={"a": -1}), "not a list of objects"),
        ({"usage": {"prompt_tokens": "9"}}, choice(), "prompt_tokens is not a count"),
        ({"usage": {"prompt_tokens": -1}}, choice(), "prompt_tokens is not a count"),
        ({"usage": {"prompt_tokens": 1.5}}, choice(), "prompt_tokens is not a count"),
        (
            {"usage": {"prompt_tokens": 1, "prompt_tokens_details": "none"}},
            choice(),
            "cached_tokens is not a count",
        ),
    ],
)
def test_what_could_be_mistaken_is_refused(
    response: dict[str, Any], answer: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        completion_of_choice(json.loads(json.dumps(response)), answer)
