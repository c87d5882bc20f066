"""The JSON of OpenAI's chat completions API: requests both ways, and responses as written.

Follows the objects of ``POST /v1/chat/completions``: ``messages``, ``max_tokens`` (or
``max_completion_tokens``), ``logprobs`` with ``top_logprobs``. Responses are read by
``openai_answers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from overproof.records.exchange import (
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
)
from overproof.records.openai_answers import text_of

__all__ = [
    "message_text",
    "messages_of",
    "request_body",
    "request_of_body",
    "response_object",
]

# Fields that do not change what is answered; two of them name people.
IRRELEVANT = {"stream", "stream_options", "user", "safety_identifier", "metadata", "store", "n"}
ROLES = {"developer": "system", "function": "tool"}


def message_text(message: Mapping[str, Any]) -> str | None:
    """Text of a message; the parts of a multi-part content are joined by line breaks.

    Raises:
        ValueError: a part that is not text, or content of another type.
    """
    return text_of(message.get("content"), joined_by="\n")


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
        "messages": [message.model_dump(exclude_defaults=True) for message in request.messages],
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
