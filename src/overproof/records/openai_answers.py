"""Answers of OpenAI's chat completions API as completions, from the wire and from logs alike.

Follows the response of ``POST /v1/chat/completions``: ``choices`` with ``message``,
``finish_reason`` and ``logprobs.content``, ``usage``; and what vLLM, llama.cpp and DeepSeek add to
it. Servers differ in what they leave out, so reading is lenient where nothing is lost by it, and
strict where an answer could be mistaken for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import Completion, Outcome, ToolCall, Usage
from overproof.records.json_fields import clean, count_field, text_field
from overproof.records.openai_logprobs import (
    LEAST_LOGPROB,
    logprobs_of,
    prompt_logprobs_of,
    tokens_of_text,
)
from overproof.records.reasoning import THOUGHTS, reasoning_of, split_thoughts
from overproof.records.tool_calls import called

__all__ = [
    "LEAST_LOGPROB",
    "completion_of_choice",
    "prompt_logprobs_of",
    "text_of",
    "usage_of",
]

_FINISH = {
    "length": Outcome.TRUNCATED,
    "max_tokens": Outcome.TRUNCATED,
    "content_filter": Outcome.FILTERED,
    "error": Outcome.MALFORMED,
    "tool_calls": Outcome.MALFORMED,
    "function_call": Outcome.MALFORMED,
}
_CALLS = ("tool_calls", "function_call")
_TEXT = (None, "text", "input_text", "output_text")


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


def completion_of_choice(
    response: Mapping[str, Any], choice: Any, tools: bool = False, *, split: bool = True
) -> Completion:
    """The completion that one choice of a response holds.

    A choice without any text is ``MALFORMED``: it is recorded and is no answer. An empty text is
    one: it is how a model ends after a prefill that says it all. Calls of tools are an answer where
    tools were offered, and ``MALFORMED`` where they were not. Reasoning is kept apart from the
    text, and its tokens are no part of the log-probs.

    Args:
        response: for what the choices share: usage, model and fingerprint.
        choice: one of its ``choices``.
        tools: whether the request offered tools.
        split: whether reasoning may still stand in the text and among the log-probs; not so in an
            answer that was read before.

    Raises:
        ValueError: not a choice of a chat completion.
    """
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ValueError("a choice of the response has no message")
    text = text_of(message.get("content"), joined_by="", skipped=THOUGHTS)
    reasoning = reasoning_of(message)
    logprobs = logprobs_of(choice.get("logprobs"))
    if text and split:
        thought, text = split_thoughts(text)
        reasoning = "\n".join(filter(None, (reasoning, thought))) or None
    refusal = text_field(message, "refusal")
    reason = text_field(choice, "finish_reason")
    calls, bad_call = _calls(message) if tools else ((), None)
    outcome, error = _outcome(message, reason, text, calls, refusal)
    if bad_call and outcome is not Outcome.REFUSED:
        outcome, error = Outcome.MALFORMED, bad_call
    if refusal:
        text = text or refusal
    elif split and reasoning and logprobs:
        logprobs = tokens_of_text(logprobs, text or "")
    return Completion(
        outcome=outcome,
        text=clean(text or ""),
        finish_reason=reason,
        logprobs=logprobs,
        usage=usage_of(response.get("usage")),
        model=text_field(response, "model"),
        system_fingerprint=text_field(response, "system_fingerprint"),
        error=error,
        reasoning=reasoning,
        tool_calls=calls,
        prompt_logprobs=prompt_logprobs_of(
            response.get("prompt_logprobs") or choice.get("prompt_logprobs")
        ),
    )


def _calls(message: Mapping[str, Any]) -> tuple[tuple[ToolCall, ...], str | None]:
    """The calls of a message, or none and what is wrong with them."""
    try:
        return called(message), None
    except ValueError as error:
        return (), str(error)


def _outcome(
    message: Mapping[str, Any],
    reason: str | None,
    text: str | None,
    calls: tuple[ToolCall, ...],
    refusal: str | None,
) -> tuple[Outcome, str | None]:
    """How a choice ended, and what is wrong with it where it is malformed."""
    outcome = _FINISH.get(reason or "stop", Outcome.ANSWERED)
    if refusal:
        return Outcome.REFUSED, None
    if calls and reason in _CALLS:
        return Outcome.ANSWERED, None
    if calls and outcome is not Outcome.MALFORMED:
        return outcome, None
    if not text and message.get("tool_calls"):
        return Outcome.MALFORMED, "it calls a tool and says nothing"
    if outcome is Outcome.MALFORMED:
        return outcome, f"expected an answer in text; it ended with finish_reason {reason!r}"
    if text is None and outcome is Outcome.ANSWERED:
        return Outcome.MALFORMED, "expected message.content to hold text; it has none"
    return outcome, None


def usage_of(value: Any) -> Usage | None:
    """The tokens of a call; ``None`` where the server counted nothing: unknown is not zero.

    DeepSeek counts cached tokens as ``prompt_cache_hit_tokens``, others in
    ``prompt_tokens_details``.

    Raises:
        ValueError: a field that is no count.
    """
    if not isinstance(value, dict) or value.get("prompt_tokens") is None:
        return None
    details = value.get("prompt_tokens_details")
    return Usage(
        input_tokens=count_field(value, "prompt_tokens"),
        output_tokens=count_field(value, "completion_tokens"),
        cached_tokens=count_field(details, "cached_tokens")
        or count_field(value, "prompt_cache_hit_tokens"),
        reasoning_tokens=count_field(value.get("completion_tokens_details"), "reasoning_tokens"),
        cache_write_tokens=count_field(details, "cache_write_tokens"),
    )
