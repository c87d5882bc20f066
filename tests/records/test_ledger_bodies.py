"""What is stored of an exchange reads back as it was, whichever way it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from overproof.records import ledger_chain
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    Tool,
    ToolCall,
    TopLogprob,
    Usage,
)
from overproof.records.ledger_chain import Kind, columns_of, exchange_of, seal_exchange

TOKEN = TokenLogprob(
    token="é", logprob=-0.5, data=(195, 169), top=(TopLogprob(token='"logprob":null', logprob=-9),)
)
REQUESTS = [
    Request(model="m", messages=()),
    Request(
        model="m☃",
        messages=(
            Message(role="user", content='say "logprob":null and \x00\u2028\\'),
            Message(role="assistant", content="", tool_calls=(ToolCall(id="1", name="f"),)),
            Message(role="tool", content="{}", tool_call_id="1"),
        ),
        parameters=Parameters(
            max_tokens=3,
            temperature=0.1,
            stop=("a", "b"),
            extra={"b": [1, None, {"z": 1e-9}], "a": {}},
            response_schema={"type": "object"},
            tools=(Tool(name="f"),),
            tool_choice="f",
            prompt_logprobs=0,
        ),
        sample=7,
    ),
]
COMPLETIONS = [
    Completion(outcome=Outcome.FAILED),
    Completion(outcome=Outcome.ANSWERED, usage=Usage()),
    Completion(
        outcome=Outcome.TRUNCATED,
        text='{"logprob":null}',
        finish_reason="length",
        logprobs=(TOKEN, TokenLogprob(token="", logprob=0)),
        usage=Usage(input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4),
        model="served",
        system_fingerprint="fp",
        latency_s=1.25,
        status=200,
        error="no",
        attempts=2,
        reasoning="hm",
        tool_calls=(ToolCall(name="f", arguments="{}"),),
        prompt_logprobs=(None, TOKEN),
        choice=1,
        batch="b",
        uncertain_attempts=1,
    ),
    Completion(outcome=Outcome.TRUNCATED, text="half an emoji \ud83d"),
]


def exchange(request: Request, completion: Completion, **more: Any) -> Exchange:
    return Exchange(
        request=request,
        completion=completion,
        teacher="teacher ☃",
        created_at="2026-01-02T03:04:05+00:00",
        **more,
    )


EXCHANGES = [
    exchange(request, completion, **more)
    for request in REQUESTS
    for completion in COMPLETIONS
    for more in ({}, {"cost_usd": 0.25, "uncertain_usd": 0.5, "source": "imported:x.csv"})
]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("written", EXCHANGES)
def test_an_exchange_reads_back_whole(
    written: Exchange, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not quick:
        monkeypatch.setattr(ledger_chain, "_quick_body", lambda exchange, key: None)
    sealed = seal_exchange(written)
    read = exchange_of(sealed.body)
    assert read.model_dump() == written.model_dump()
    assert read == written
    assert read.request.key == written.request.key
    assert columns_of(Kind.EXCHANGE, json.loads(sealed.body)) == sealed.columns
    other = seal_exchange(written, "sha256:" + "5" * 64)  # a secret was taken out of the request
    assert columns_of(Kind.EXCHANGE, json.loads(other.body)) == other.columns
    assert other.columns.key == bytes.fromhex("5" * 64)
    assert other.body != sealed.body


def test_two_seals_of_one_exchange_share_no_hash() -> None:
    one, two = (seal_exchange(EXCHANGES[0]) for _ in range(2))
    assert one.body_hash != two.body_hash
    assert len(json.loads(one.body)["salt"]) == 32


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_refused_wherever_it_stands(number: float) -> None:
    top = (TopLogprob(token="b", logprob=number),)
    completions = [
        {"latency_s": number},
        {"logprobs": (TokenLogprob(token="a", logprob=number),)},
        {"logprobs": (TokenLogprob(token="a", logprob=-1, top=top),)},
        {"prompt_logprobs": (None, TokenLogprob(token="a", logprob=-1, top=top))},
    ]
    base = EXCHANGES[0]
    for change in completions:
        completion = base.completion.model_copy(update=change)
        with pytest.raises(ValueError, match="not JSON compliant"):
            seal_exchange(base.model_copy(update={"completion": completion}))
    for name in ("cost_usd", "uncertain_usd"):
        with pytest.raises(ValueError, match="not JSON compliant"):
            seal_exchange(base.model_copy(update={name: number}))


def test_a_changed_copy_of_a_request_has_an_address_of_its_own() -> None:
    request = REQUESTS[1]
    again = request.model_copy(update={"sample": 8})
    assert again.key != request.key
    assert again.key == Request.model_validate(again.model_dump()).key
    assert request.model_copy().key == request.key
