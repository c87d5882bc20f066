"""The short way to a request's address leads where the long one does."""

from __future__ import annotations

import random

import pytest

from overproof.records.exchange import Message, Parameters, Request, request_address
from overproof.records.ledger_keys import KnownKeys


def test_both_ways_to_an_address_agree() -> None:
    rng = random.Random(0)
    for _ in range(500):
        asked = Parameters(
            max_tokens=rng.randint(1, 99),
            temperature=rng.choice([None, 0, 0.0, 1, 0.7, 1e-9, 1e22]),
            top_p=rng.choice([None, 1, 0.5]),
            seed=rng.choice([None, 0, 5]),
            top_logprobs=rng.choice([None, 0, 3]),
            stop=rng.choice([(), ("a", "ü\n")]),
            extra=rng.choice([{}, {"min_p": 0.1}]),
            tool_choice=rng.choice([None, None, "auto"]),
            prompt_logprobs=rng.choice([None, None, 0]),
        )
        said = tuple(
            Message(
                role=rng.choice(["system", "user", "assistant"]),
                content=rng.choice(["", 'é"\\\n\x00😀', "plain"]),
                tool_call_id=rng.choice([None, None, "c1"]),
            )
            for _ in range(rng.randint(1, 3))
        )
        request = Request(model="m", messages=said, parameters=asked, sample=rng.randint(0, 3))
        assert request.key == request_address(request.model_dump(mode="json"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_address(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        _ = Request(model="m", messages=(), parameters=Parameters(temperature=value)).key


def test_known_keys_miss_none() -> None:
    rng = random.Random(0)
    keys = sorted(rng.randbytes(32) for _ in range(400))
    known = KnownKeys()
    assert known.may_hold(keys[0])  # nothing is certain before they are loaded
    known.load(keys[::2])
    for key in keys[1::4]:
        known.add(key)
    there = {*keys[::2], *keys[1::4]}
    assert [known.may_hold(key) for key in keys] == [key in there for key in keys]
    empty = KnownKeys()
    empty.load([])
    assert not empty.may_hold(keys[0])
