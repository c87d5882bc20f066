"""The chat-completions protocol of OpenAI as pure functions: body out, completion in.

``POST {base_url}/chat/completions``. Servers differ in what they leave out, so reading is lenient
where nothing is lost by it and strict where an answer could be mistaken for another.
"""

from __future__ import annotations

import json
import math
from typing import Any

from overproof.config.recipe import TeacherConfig
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)

__all__ = ["WireError", "body_of", "completion_of", "server_error", "shown", "without_prefill"]

# What servers report for a token too unlikely to have a log-prob; JSON has no infinity.
LEAST_LOGPROB = -9999.0
SHOWN = 200

_FINISH = {
    "length": Outcome.TRUNCATED,
    "max_tokens": Outcome.TRUNCATED,
    "content_filter": Outcome.FILTERED,
    "error": Outcome.MALFORMED,
    "tool_calls": Outcome.MALFORMED,
    "function_call": Outcome.MALFORMED,
}


class WireError(ValueError):
    """A body that is no chat completion; ``is_json`` tells a garbled body from another shape."""

    def __init__(self, expected: str, *, is_json: bool) -> None:
        self.is_json = is_json
        super().__init__(f"expected {expected}")


def body_of(request: Request, config: TeacherConfig) -> dict[str, Any]:
    """Request body for this teacher: what it does not support is left out.

    The recipe's ``body`` and then the request's own ``extra`` are merged over the rest.
    """
    asked = request.parameters
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        config.max_tokens_field: asked.max_tokens,
    }
    if asked.temperature is not None and config.supports_temperature:
        body["temperature"] = asked.temperature
    if asked.top_p is not None:
        body["top_p"] = asked.top_p
    if asked.seed is not None and config.supports_seed:
        body["seed"] = asked.seed
    if asked.stop:
        body["stop"] = list(asked.stop)
    if asked.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    return body | config.body | asked.extra


def completion_of(raw: str) -> Completion:
    """Read the body of a 200 response.

    Raises:
        WireError: a body that is no chat completion.
    """
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise WireError("a JSON chat completion", is_json=False) from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise WireError("a chat completion with choices[0].message", is_json=True)
    try:
        logprobs = _logprobs(choice.get("logprobs"))
        content = _content(message.get("content"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"well-formed content and log-probs ({error})", is_json=True) from None
    reason = choice.get("finish_reason")
    outcome = _FINISH.get(str(reason), Outcome.ANSWERED)
    refusal = message.get("refusal")
    error_text = None
    if isinstance(refusal, str) and refusal:
        outcome, content = Outcome.REFUSED, content or _clean(refusal)
    elif outcome is Outcome.MALFORMED:
        error_text = f"expected an answer in text; it ended with finish_reason {reason!r}"
    elif content is None and outcome is Outcome.ANSWERED:
        outcome, error_text = Outcome.MALFORMED, "expected message.content to hold text; got null"
    return Completion(
        outcome=outcome,
        text=content or "",
        finish_reason=reason if isinstance(reason, str) else None,
        logprobs=logprobs,
        usage=_usage(answer.get("usage")),
        model=_text_or_none(answer.get("model")),
        system_fingerprint=_text_or_none(answer.get("system_fingerprint")),
        error=error_text,
    )


def shown(raw: str) -> str:
    """The start of a body, as errors quote it."""
    return repr(raw[:SHOWN])


def server_error(raw: str) -> tuple[str, int | None]:
    """The message of an error body, and the status code it names, if it does.

    Reads OpenAI's ``{"error": {"message", "code"}}`` and the common shorter forms; a body of
    another kind is quoted.
    """
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return (raw.strip()[:SHOWN] or "an empty body"), None
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or error.get("msg")
        code = error.get("code")
        return (
            str(message or raw)[: 5 * SHOWN],
            code if isinstance(code, int) and 400 <= code < 600 else None,
        )
    return str(error)[: 5 * SHOWN], None


def without_prefill(completion: Completion, messages: tuple[Message, ...]) -> Completion:
    """``completion`` with the continuation alone, where the server repeats the prefill.

    llama.cpp's server returns the prefill as the start of the content; the log-probs, where there
    are any, cover only what was generated and settle what the continuation is.
    """
    prefill = messages[-1].content if messages and messages[-1].role == "assistant" else ""
    if not prefill or not completion.text.startswith(prefill):
        return completion
    rest = completion.text.removeprefix(prefill)
    if completion.logprobs:
        generated = "".join(token.token for token in completion.logprobs)
        # Ends of turn are tokens without text in the content, so only the start must agree.
        if generated.startswith(completion.text) or not generated.startswith(rest):
            return completion
    return completion.model_copy(update={"text": rest})


def _content(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _clean(value)
    if not isinstance(value, list):
        raise TypeError("content is neither text nor a list of parts")
    return _clean("".join(part["text"] for part in value if part.get("type", "text") == "text"))


def _logprobs(value: Any) -> tuple[TokenLogprob, ...] | None:
    content = value.get("content") if isinstance(value, dict) else None
    if content is None:
        return None
    tokens = []
    for item in content:
        top = [
            TopLogprob(token=_clean(t["token"]), logprob=_logprob(t["logprob"]), data=_data(t))
            for t in item.get("top_logprobs") or ()
        ]
        top.sort(key=lambda t: -t.logprob)
        tokens.append(
            TokenLogprob(
                token=_clean(item["token"]),
                logprob=_logprob(item["logprob"]),
                data=_data(item),
                top=tuple(top),
            )
        )
    return tuple(tokens)


def _logprob(value: Any) -> float:
    if value is None or value == -math.inf:
        return LEAST_LOGPROB
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a log-prob is {number}")
    return number


def _data(item: dict[str, Any]) -> tuple[int, ...] | None:
    data = item.get("bytes")
    if data is None:
        return None
    return tuple(bytes(data))


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict) or "prompt_tokens" not in value:
        return None
    prompt = value.get("prompt_tokens_details") or {}
    output = value.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=value.get("prompt_tokens") or 0,
        output_tokens=value.get("completion_tokens") or 0,
        cached_tokens=prompt.get("cached_tokens") or 0,
        reasoning_tokens=output.get("reasoning_tokens") or 0,
    )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _clean(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
