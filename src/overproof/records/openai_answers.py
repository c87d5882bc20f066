"""Answers of OpenAI's chat completions API as completions, from the wire and from logs alike.

Follows the response of ``POST /v1/chat/completions``: ``choices`` with ``message``,
``finish_reason`` and ``logprobs.content``, ``usage``. Servers differ in what they leave out, so
reading is lenient where nothing is lost by it, and strict where an answer could be mistaken for
another.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import Completion, Outcome, TokenLogprob, TopLogprob, Usage

__all__ = ["LEAST_LOGPROB", "completion_of_choice", "text_of"]

# What servers report for a token too unlikely to have a log-prob; JSON has no infinity.
LEAST_LOGPROB = -9999.0

_FINISH = {
    "length": Outcome.TRUNCATED,
    "max_tokens": Outcome.TRUNCATED,
    "content_filter": Outcome.FILTERED,
    "error": Outcome.MALFORMED,
    "tool_calls": Outcome.MALFORMED,
    "function_call": Outcome.MALFORMED,
}
_TEXT = (None, "text", "input_text", "output_text")
# Parts in which a model thinks aloud: they are no part of what it answers.
_THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning"})


def text_of(content: Any, *, joined_by: str, skipped: frozenset[str] = frozenset()) -> str | None:
    """The text of a message's ``content``, ``None`` where it has none.

    Args:
        content: a text, or a list of parts.
        joined_by: what stands between two parts.
        skipped: types of parts to leave out.

    Raises:
        ValueError: a part that is not text, or content of another type.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("its content is neither a text nor a list of parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in skipped:
            continue
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in _TEXT or not isinstance(text, str):
            shown = kind or ("unknown" if isinstance(part, dict) else type(part).__name__)
            raise ValueError(f"its content has a part of type {shown!r}; only text can be used")
        texts.append(text)
    return joined_by.join(texts) if texts else None


def completion_of_choice(response: Mapping[str, Any], choice: Any) -> Completion:
    """The completion that one choice of a response holds.

    A choice without any text is ``MALFORMED``: it is recorded and is no answer. An empty text is
    one: it is how a model ends after a prefill that says it all.

    Args:
        response: for what the choices share: usage, model and fingerprint.
        choice: one of its ``choices``.

    Raises:
        ValueError: not a choice of a chat completion.
    """
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ValueError("a choice of the response has no message")
    text = text_of(message.get("content"), joined_by="", skipped=_THOUGHTS)
    refusal = _text(message, "refusal")
    reason = _text(choice, "finish_reason")
    outcome = _FINISH.get(reason or "stop", Outcome.ANSWERED)
    error = None
    if refusal:
        outcome, text = Outcome.REFUSED, text or refusal
    elif not text and message.get("tool_calls"):
        outcome, error = Outcome.MALFORMED, "it calls a tool and says nothing"
    elif outcome is Outcome.MALFORMED:
        error = f"expected an answer in text; it ended with finish_reason {reason!r}"
    elif text is None and outcome is Outcome.ANSWERED:
        outcome, error = Outcome.MALFORMED, "expected message.content to hold text; it has none"
    return Completion(
        outcome=outcome,
        text=_clean(text or ""),
        finish_reason=reason,
        logprobs=_logprobs(choice.get("logprobs")),
        usage=_usage(response.get("usage")),
        model=_text(response, "model"),
        system_fingerprint=_text(response, "system_fingerprint"),
        error=error,
    )


def _logprobs(value: Any) -> tuple[TokenLogprob, ...] | None:
    content = value.get("content") if isinstance(value, dict) else None
    if content is None:
        return None
    tokens = []
    for item in _objects(content, "logprobs.content"):
        top = [
            TopLogprob(token=_token(t), logprob=_logprob(t), data=_data(t))
            for t in _objects(item.get("top_logprobs") or [], "top_logprobs")
        ]
        top.sort(key=lambda t: -t.logprob)
        tokens.append(
            TokenLogprob(
                token=_token(item), logprob=_logprob(item), data=_data(item), top=tuple(top)
            )
        )
    return tuple(tokens)


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{name} is not a list of objects")
    return value


def _token(item: Mapping[str, Any]) -> str:
    token = _text(item, "token")
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


def _usage(value: Any) -> Usage | None:
    """``None`` where the server counted nothing: unknown is not zero."""
    if not isinstance(value, dict) or value.get("prompt_tokens") is None:
        return None
    return Usage(
        input_tokens=_count(value, "prompt_tokens"),
        output_tokens=_count(value, "completion_tokens"),
        cached_tokens=_count(value.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(value.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(value: Any, name: str) -> int:
    if value is None:
        return 0
    count = (value.get(name) or 0) if isinstance(value, dict) else None
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"the usage's {name} is not a count of tokens")
    return count


def _text(value: Mapping[str, Any], name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"its {name} is not a text")
    return _clean(text)


def _clean(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
