"""The chat-completions protocol of OpenAI as pure functions: body out, completion in.

``POST {base_url}/chat/completions``. What a choice of the answer says is read by
``records.openai_answers``, as it is for logs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from overproof.clients.secrets import filled
from overproof.config.recipe import TeacherConfig
from overproof.records.exchange import Completion, Message, Request
from overproof.records.openai_answers import completion_of_choice

__all__ = ["WireError", "body_of", "completion_of", "server_error", "shown", "without_prefill"]

SHOWN = 200


class WireError(ValueError):
    """A body that is no chat completion; ``is_json`` tells a garbled body from another shape."""

    def __init__(self, expected: str, *, is_json: bool) -> None:
        self.is_json = is_json
        super().__init__(f"expected {expected}")


def body_of(
    request: Request, config: TeacherConfig, secrets: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Request body for this teacher: what it does not support is left out.

    The recipe's ``body`` and then the request's own ``extra`` are merged over the rest. Each
    ``env:NAME`` in these two is replaced from ``secrets``; one in a message is only text.
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
    extra: dict[str, Any] = filled(config.body | asked.extra, secrets or {})
    return body | extra


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
    if not isinstance(choices, list) or not choices:
        raise WireError("a chat completion with choices[0].message", is_json=True)
    try:
        return completion_of_choice(answer, choices[0])
    except ValueError as error:
        raise WireError(f"a well-formed chat completion ({error})", is_json=True) from None


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
