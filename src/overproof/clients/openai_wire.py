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
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Usage
from overproof.records.openai_answers import completion_of_choice, usage_of
from overproof.records.tool_calls import (
    message_object,
    response_format_of,
    tool_choice_object,
    tool_objects,
)

__all__ = [
    "WireError",
    "body_of",
    "can_stream",
    "completion_of",
    "completions_of",
    "server_error",
    "shown",
    "without_prefill",
]

SHOWN = 200


class WireError(ValueError):
    """A body that is no chat completion; ``is_json`` tells a garbled body from another shape."""

    def __init__(self, expected: str, *, is_json: bool) -> None:
        self.is_json = is_json
        super().__init__(f"expected {expected}")


def body_of(
    request: Request,
    config: TeacherConfig,
    secrets: Mapping[str, str] | None = None,
    *,
    n: int = 1,
    stream: bool = False,
) -> dict[str, Any]:
    """Request body for this teacher: what it does not support is left out.

    A JSON Schema goes where ``config.structured`` says; with ``none`` it is left to the prompt.
    The recipe's ``body`` and then the request's own ``extra`` are merged over the rest. Each
    ``env:NAME`` in these two is replaced from ``secrets``; one in a message is only text.

    Args:
        request: what to ask.
        config: how this teacher is asked.
        secrets: values by the names that the recipe gives.
        n: how many answers to draw in one call.
        stream: whether to ask for server-sent events; see ``can_stream``.
    """
    asked = request.parameters
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message_object(message) for message in request.messages],
        config.max_tokens_field: asked.max_tokens,
    }
    body |= _sampling(asked, config) | _form(asked, config)
    if n > 1:
        body["n"] = n
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    extra: dict[str, Any] = filled(config.body | asked.extra, secrets or {})
    return body | extra


def _sampling(asked: Parameters, config: TeacherConfig) -> dict[str, Any]:
    """How tokens are drawn and which log-probs are told."""
    body: dict[str, Any] = {}
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
    if asked.prompt_logprobs is not None:  # vLLM's own
        body["prompt_logprobs"] = asked.prompt_logprobs
    return body


def _form(asked: Parameters, config: TeacherConfig) -> dict[str, Any]:
    """What form the answer shall have: tools to call, or a JSON Schema to follow."""
    body: dict[str, Any] = {}
    if asked.tools:
        body["tools"] = tool_objects(asked.tools)
        if asked.tool_choice is not None:
            body["tool_choice"] = tool_choice_object(asked.tool_choice)
    if asked.response_schema is not None and config.structured == "json_schema":
        body["response_format"] = response_format_of(asked.response_schema)
    elif asked.response_schema is not None and config.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def can_stream(request: Request, config: TeacherConfig) -> bool:
    """Whether to stream the answer: vLLM gives the log-probs of a prompt only in one piece."""
    return config.stream and request.parameters.prompt_logprobs is None


def completion_of(raw: str, *, tools: bool = False) -> Completion:
    """Read the body of a 200 response; of several choices the first one listed.

    Args:
        raw: the body.
        tools: whether the request offered tools, so that calls of them are an answer.

    Raises:
        WireError: a body that is no chat completion.
    """
    answer, choices = _choices(raw)
    try:
        return completion_of_choice(answer, choices[0], tools)
    except ValueError as error:
        raise WireError(f"a well-formed chat completion ({error})", is_json=True) from None


def completions_of(raw: str, n: int, *, tools: bool = False) -> list[Completion]:
    """Read the body of a 200 response to a call for ``n`` choices.

    The usage of the call stands with choice 0, and is zero with the others. Choices that are
    unreadable are ``MALFORMED``, the others are answers all the same. A server that gives fewer
    has its choices counted from 0.

    Args:
        raw: the body.
        n: how many choices were asked for.
        tools: whether the request offered tools.

    Returns:
        As many completions as the server delivered, but at most ``n``, by number.

    Raises:
        WireError: a body that is no chat completion, or whose usage cannot be read.
    """
    answer, choices = _choices(raw)
    try:
        usage = usage_of(answer.get("usage"))
    except ValueError as error:
        raise WireError(f"a well-formed chat completion ({error})", is_json=True) from None
    found = []
    for number, choice in enumerate(_in_order(choices, n)):
        try:
            completion = completion_of_choice(answer, choice, tools)
        except ValueError as error:
            reason = f"expected a well-formed choice ({error})"
            completion = Completion(outcome=Outcome.MALFORMED, error=reason)
        share = usage if number == 0 else Usage()
        found.append(completion.model_copy(update={"choice": number, "usage": share}))
    return found


def _choices(raw: str) -> tuple[dict[str, Any], list[Any]]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise WireError("a JSON chat completion", is_json=False) from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        raise WireError("a chat completion with choices[0].message", is_json=True)
    return answer, choices


def _in_order(choices: list[Any], n: int) -> list[Any]:
    """At most ``n`` choices by ``index``; by their place where that does not tell them apart."""
    numbered = {
        choice["index"]: choice
        for choice in choices
        if isinstance(choice, dict) and type(choice.get("index")) is int
    }
    told_apart = len(numbered) == len(choices)
    return ([numbered[index] for index in sorted(numbered)] if told_apart else choices)[:n]


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
