"""The JSON of OpenAI's chat completions API: requests both ways, and responses as written.

Follows the objects of ``POST /v1/chat/completions``: ``messages``, ``max_tokens`` (or
``max_completion_tokens``), ``logprobs`` with ``top_logprobs``, ``tools``, ``response_format``; and
vLLM's ``prompt_logprobs``. Responses are read by ``openai_answers``.
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
    ToolCall,
    TopLogprob,
)
from overproof.records.openai_answers import text_of
from overproof.records.tool_calls import (
    call_object,
    called,
    message_object,
    response_format_of,
    schema_of_format,
    tool_choice_object,
    tool_choice_of,
    tool_objects,
    tools_of,
)

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


def message_text(
    message: Mapping[str, Any], *, skipped: frozenset[str] = frozenset()
) -> str | None:
    """Text of a message; the parts of a multi-part content are joined by line breaks.

    Args:
        message: as the API writes it.
        skipped: types of parts to leave out.

    Raises:
        ValueError: a part that is not text, or content of another type.
    """
    return text_of(message.get("content"), joined_by="\n", skipped=skipped)


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
        role = item.get("role")
        if role not in ("system", "user", "assistant", "tool", *ROLES):
            raise ValueError(f"message {number} has the unknown role {role!r}")
        calls = _calls(item, number) if role == "assistant" else ()
        if text is None and not calls:
            raise ValueError(f"message {number} has no text")
        answered = item.get("tool_call_id") if role == "tool" else None
        if not isinstance(answered, str | None):
            raise ValueError(f"message {number}: its tool_call_id is not a text")
        messages.append(
            Message(
                role=ROLES.get(role, role),
                content=text or "",
                tool_calls=calls,
                tool_call_id=answered,
            )
        )
    return tuple(messages)


def _calls(message: Mapping[str, Any], number: int) -> tuple[ToolCall, ...]:
    try:
        return called(message)
    except ValueError as error:
        raise ValueError(f"message {number}: {error}") from error


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
    sampling = ("temperature", "top_p", "seed", "prompt_logprobs")
    known: dict[str, Any] = {name: rest.pop(name) for name in sampling if name in rest}
    if limit is not None:
        known["max_tokens"] = limit
    known |= _form_of(rest)
    parameters = Parameters(
        **known,
        top_logprobs=(top or 0) if wants else None,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        extra=rest,
    )
    return Request(model=named, messages=messages, parameters=parameters, sample=sample)


def _form_of(rest: dict[str, Any]) -> dict[str, Any]:
    """Takes tools, the choice among them and a JSON Schema out of a body, where they are plain."""
    form: dict[str, Any] = {}
    if (tools := tools_of(rest.get("tools"))) is not None:
        form["tools"] = tools
        del rest["tools"]
        if (choice := tool_choice_of(rest.get("tool_choice"))) is not None:
            form["tool_choice"] = choice
            del rest["tool_choice"]
    if (schema := schema_of_format(rest.get("response_format"))) is not None:
        form["response_schema"] = schema
        del rest["response_format"]
    return form


def request_body(request: Request) -> dict[str, Any]:
    """The request body of a canonical request, without what is not set."""
    parameters = request.parameters
    body: dict[str, Any] = {
        **parameters.extra,
        "model": request.model,
        "messages": [message_object(message) for message in request.messages],
        "max_tokens": parameters.max_tokens,
    }
    for name in ("temperature", "top_p", "seed", "prompt_logprobs"):
        if (value := getattr(parameters, name)) is not None:
            body[name] = value
    if parameters.stop:
        body["stop"] = list(parameters.stop)
    if parameters.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": parameters.top_logprobs}
    if parameters.tools:
        body["tools"] = tool_objects(parameters.tools)
    if parameters.tool_choice is not None:
        body["tool_choice"] = tool_choice_object(parameters.tool_choice)
    if parameters.response_schema is not None:
        body["response_format"] = response_format_of(parameters.response_schema)
    return body


def response_object(exchange: Exchange, identity: str) -> dict[str, Any] | None:
    """The response of an exchange, ``None`` where the teacher failed and nothing came back.

    ``identity`` becomes its id: importing tells answers apart by it.
    """
    completion = exchange.completion
    if completion.outcome is Outcome.FAILED and not completion.text and completion.usage is None:
        return None
    choice: dict[str, Any] = {
        "index": 0,
        "message": _answer(completion),
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
            "prompt_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }
    return response


def _answer(completion: Completion) -> dict[str, Any]:
    refused = completion.outcome is Outcome.REFUSED
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused else completion.text,
        "refusal": completion.text if refused else None,
    }
    if completion.reasoning is not None:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["tool_calls"] = [call_object(call) for call in completion.tool_calls]
    return message


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
