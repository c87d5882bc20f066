"""Log-probs as OpenAI's chat completions and vLLM write them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import TokenLogprob, TopLogprob
from overproof.records.json_fields import objects_in, text_field

__all__ = ["LEAST_LOGPROB", "logprobs_of", "prompt_logprobs_of", "tokens_of_text"]

# What servers report for a token too unlikely to have a log-prob; JSON has no infinity.
LEAST_LOGPROB = -9999.0


def logprobs_of(value: Any) -> tuple[TokenLogprob, ...] | None:
    """The tokens of a choice's ``logprobs``, ``None`` where it has none.

    Raises:
        ValueError: an item that is no log-prob.
    """
    content = value.get("content") if isinstance(value, dict) else None
    if content is None:
        return None
    tokens = []
    for item in objects_in(content, "logprobs.content"):
        top = [
            TopLogprob(token=_token(t), logprob=_logprob(t), data=_data(t))
            for t in objects_in(item.get("top_logprobs") or [], "top_logprobs")
        ]
        top.sort(key=lambda t: -t.logprob)
        tokens.append(
            TokenLogprob(
                token=_token(item), logprob=_logprob(item), data=_data(item), top=tuple(top)
            )
        )
    return tuple(tokens)


def prompt_logprobs_of(value: Any) -> tuple[TokenLogprob | None, ...] | None:
    """The prompt's tokens in vLLM's ``prompt_logprobs``, ``None`` where there are none.

    vLLM writes one item a token: null for the first, which nothing predicts, else an object of
    ``{token id: {"logprob", "rank", "decoded_token"}}`` that holds the prompt's own token first
    and then the likeliest ones (the same entry where it is among them). ``top`` lists them all,
    most likely first. Texts are decoded token by token, so a token that is only a part of a
    character reads U+FFFD or nothing; there are no bytes.

    Raises:
        ValueError: it has another shape.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError("prompt_logprobs is not a list")
    tokens: list[TokenLogprob | None] = []
    for item in value:
        if item is None:
            tokens.append(None)
            continue
        if not isinstance(item, dict) or not item:
            raise ValueError("prompt_logprobs holds an item that is no token")
        listed = []
        for entry in objects_in(list(item.values()), "prompt_logprobs"):
            text = text_field(entry, "decoded_token")
            if text is None:
                raise ValueError("prompt_logprobs holds a token without its text")
            listed.append(TopLogprob(token=text, logprob=_logprob(entry)))
        own = listed[0]
        top = tuple(sorted(listed, key=lambda t: -t.logprob))
        tokens.append(TokenLogprob(token=own.token, logprob=own.logprob, top=top))
    return tuple(tokens)


def tokens_of_text(
    tokens: tuple[TokenLogprob, ...] | None, text: str
) -> tuple[TokenLogprob, ...] | None:
    """Of the tokens of a whole generation, those of the answer that it ends with.

    Servers list the tokens of the reasoning before those of the answer; whoever reads the first
    token's alternatives must not take a thought for an answer. Tokens without text in the answer,
    such as an end of turn, may follow.

    Args:
        tokens: everything that was generated.
        text: the answer, without the reasoning.

    Returns:
        ``None`` where it cannot be told which tokens they are.
    """
    if not tokens or not text:
        return None
    wanted = text.encode()
    rest = b""
    for start in range(len(tokens) - 1, -1, -1):
        token = tokens[start]
        rest = (bytes(token.data) if token.data is not None else token.token.encode()) + rest
        if rest.startswith(wanted):
            return tokens[start:]
    return None


def _token(item: Mapping[str, Any]) -> str:
    token = text_field(item, "token")
    if token is None:
        raise ValueError("a log-prob has no token")
    return token


def _logprob(item: Mapping[str, Any]) -> float:
    if "logprob" not in item:
        raise ValueError("a token has no log-prob")
    value = item["logprob"]
    if value is None or value == -math.inf:
        return LEAST_LOGPROB
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a log-prob is {value!r}")
    if not abs(value) <= sys.float_info.max:  # an infinity, NaN, or an integer beyond any float
        raise ValueError("a log-prob is not finite")
    if value > 0.01:  # rounding may lift a certain token a little above zero, no more
        raise ValueError(f"a log-prob of {value:g} is no log of a probability")
    return min(float(value), 0.0)


def _data(item: Mapping[str, Any]) -> tuple[int, ...] | None:
    data = item.get("bytes")
    if data is None:
        return None
    if not isinstance(data, list) or not all(isinstance(b, int) and 0 <= b < 256 for b in data):
        raise ValueError("the bytes of a token are not a list of bytes")
    return tuple(data)
