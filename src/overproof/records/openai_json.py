"""Requests and completions as the JSON of OpenAI's chat completions API, both ways.

Follows the objects of ``POST /v1/chat/completions``: ``messages``, ``max_tokens`` (or
``max_completion_tokens``), ``logprobs`` with ``top_logprobs``, ``choices`` with ``message``,
``finish_reason`` and ``logprobs.content``, ``usage``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)

__all__ = [
    "completion_of_choice",
    "message_text",
    "messages_of",
    "request_body",
    "request_of_body",
    "response_object",
]

# Fields that do not change what is answered; two of them name people.
IRRELEVANT = {"stream", "stream_options", "user", "safety_identifier", "metadata", "store", "n"}
ROLES = {"developer": "system", "function": "tool"}
OUTCOMES = {
    "stop": Outcome.ANSWERED,
    "eos": Outcome.ANSWERED,
    "length": Outcome.TRUNCATED,
    "content_filter": Outcome.FILTERED,
}


def message_text(message: Mapping[str, Any]) -> str | None:
    """Text of a message; the parts of a multi-part content are joined by line breaks.

    Raises:
        ValueError: a part that is not text, or content of another type.
    """
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("its content is neither a text nor a list of parts")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type", "unknown") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"its content has a part of type {kind!r}; only text can be used")
        texts.append(text)
    return "\n".join(texts)


def messages_of(value: Any) -> tuple[Message, ...]:
    """The messages of a request.

    Raises:
        ValueError: not a list of messages with text.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("`messages` is not a list with at least one message")
    messages = []
    for number, item in enumerate(value, start=1):
        if not isinstance(item, dict):
            raise ValueError(f"message {number} is not an object")
        try:
            text = message_text(item)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from error
        if text is None:
            raise ValueError(f"message {number} has no text")
        role = item.get("role")
        if role not in ("system", "user", "assistant", "tool", *ROLES):
            raise ValueError(f"message {number} has the unknown role {role!r}")
        messages.append(Message(role=ROLES.get(role, role), content=text))
    return tuple(messages)


def request_of_body(body: Mapping[str, Any], model: str | None = None, sample: int = 0) -> Request:
    """The canonical request of a request body.

    A body that sets no ``max_tokens`` gets the default of ``Parameters``. Fields that this
    package does not know are kept in ``extra``.

    Args:
        body: as it was sent.
        model: used where the body names none.
        sample: which repeat of the request this is.

    Raises:
        ValueError: a body that is no chat request.
    """
    rest = {
        name: value for name, value in body.items() if name not in IRRELEVANT and value is not None
    }
    messages = messages_of(rest.pop("messages", None))
    named = rest.pop("model", None) or model or "unknown"
    limits = [rest.pop(name, None) for name in ("max_tokens", "max_completion_tokens")]
    limit = next((value for value in limits if value is not None), None)
    stop = rest.pop("stop", ())
    wants, top = rest.pop("logprobs", False), rest.pop("top_logprobs", None)
    sampling = ("temperature", "top_p", "seed")
    known: dict[str, Any] = {name: rest.pop(name) for name in sampling if name in rest}
    if limit is not None:
        known["max_tokens"] = limit
    parameters = Parameters(
        **known,
        top_logprobs=(top or 0) if wants else None,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        extra=rest,
    )
    return Request(model=named, messages=messages, parameters=parameters, sample=sample)


def request_body(request: Request) -> dict[str, Any]:
    """The request body of a canonical request, without what is not set."""
    parameters = request.parameters
    body: dict[str, Any] = {
        **parameters.extra,
        "model": request.model,
        "messages": [message.model_dump() for message in request.messages],
        "max_tokens": parameters.max_tokens,
    }
    for name in ("temperature", "top_p", "seed"):
        if (value := getattr(parameters, name)) is not None:
            body[name] = value
    if parameters.stop:
        body["stop"] = list(parameters.stop)
    if parameters.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": parameters.top_logprobs}
    return body


def completion_of_choice(response: Mapping[str, Any], choice: Any) -> Completion:
    """The completion that one choice of a response holds.

    A choice without text is ``MALFORMED``: it is recorded and is no answer.

    Raises:
        ValueError: not a choice of a chat completion.
    """
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise ValueError("a choice of the response has no message")
    message = choice["message"]
    reason = choice.get("finish_reason")
    text, refusal = message_text(message), message.get("refusal")
    outcome = OUTCOMES.get(reason or "stop", Outcome.ANSWERED)
    error = None
    if refusal:
        outcome, text = Outcome.REFUSED, text or str(refusal)
    elif not text and outcome is Outcome.ANSWERED:
        outcome = Outcome.MALFORMED
        error = "calls a tool and says nothing" if message.get("tool_calls") else "holds no text"
    return Completion(
        outcome=outcome,
        text=text or "",
        finish_reason=reason,
        logprobs=_logprobs(choice.get("logprobs")),
        usage=_usage(response.get("usage")),
        model=response.get("model"),
        system_fingerprint=response.get("system_fingerprint"),
        error=error,
    )


def _logprobs(value: Any) -> tuple[TokenLogprob, ...] | None:
    if not isinstance(value, dict) or value.get("content") is None:
        return None
    return tuple(
        TokenLogprob(
            token=item["token"],
            logprob=item["logprob"],
            data=item.get("bytes"),
            top=tuple(
                TopLogprob(token=top["token"], logprob=top["logprob"], data=top.get("bytes"))
                for top in item.get("top_logprobs") or ()
            ),
        )
        for item in value["content"]
    )


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt = value.get("prompt_tokens_details") or {}
    completion = value.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=value.get("prompt_tokens") or 0,
        output_tokens=value.get("completion_tokens") or 0,
        cached_tokens=prompt.get("cached_tokens") or 0,
        reasoning_tokens=completion.get("reasoning_tokens") or 0,
    )


def response_object(exchange: Exchange, identity: str) -> dict[str, Any] | None:
    """The response of an exchange, ``None`` where the teacher failed and nothing came back.

    ``identity`` becomes its id: importing tells answers apart by it.
    """
    completion = exchange.completion
    if completion.outcome is Outcome.FAILED and not completion.text and completion.usage is None:
        return None
    refused = completion.outcome is Outcome.REFUSED
    choice: dict[str, Any] = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None if refused else completion.text,
            "refusal": completion.text if refused else None,
        },
        "finish_reason": completion.finish_reason,
        "logprobs": None,
    }
    if completion.logprobs is not None:
        choice["logprobs"] = {"content": [_token_object(item) for item in completion.logprobs]}
    response: dict[str, Any] = {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": _unix(exchange.created_at),
        "choices": [choice],
    }
    for name in ("model", "system_fingerprint"):
        if (value := getattr(completion, name)) is not None:
            response[name] = value
    if (usage := completion.usage) is not None:
        response["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }
    return response


def _token_object(item: TokenLogprob) -> dict[str, Any]:
    def plain(token: TokenLogprob | TopLogprob) -> dict[str, Any]:
        data = None if token.data is None else list(token.data)
        return {"token": token.token, "logprob": token.logprob, "bytes": data}

    return {**plain(item), "top_logprobs": [plain(top) for top in item.top]}


def _unix(created_at: str) -> int:
    try:
        moment = datetime.fromisoformat(created_at)
    except ValueError:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
