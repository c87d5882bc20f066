"""Streamed chat completions: chunks become the object that is not streamed, read like any other.

``POST {base_url}/chat/completions`` with ``stream``: events of ``chat.completion.chunk`` objects,
``data: [DONE]`` at the end.
"""

from __future__ import annotations

import json
from typing import Any

from overproof.clients.event_stream import EventStream, object_of
from overproof.clients.http_answers import StreamError
from overproof.clients.openai_wire import WireError, completions_of, server_error
from overproof.clients.sse import Event
from overproof.records.exchange import Completion

__all__ = ["ChatStream", "StreamedChoice"]

SHARED = ("id", "created", "model", "system_fingerprint", "service_tier")
TEXTS = ("reasoning_content", "reasoning", "refusal")
UNKNOWN = 500


class ChatStream(EventStream):
    """Assembles one streamed chat completion; a ``http_answers.StreamReader``.

    Args:
        n: how many choices were asked for.
        tools: whether the request offered tools.
    """

    def __init__(self, n: int = 1, *, tools: bool = False) -> None:
        super().__init__()
        self._n = n
        self._tools = tools
        self._response: dict[str, Any] = {"object": "chat.completion", "usage": None}
        self._choices: dict[int, StreamedChoice] = {}

    def finish(self) -> list[Completion]:
        """The choices that came, by number.

        Raises:
            WireError: the stream ended without its end marker, or a choice without its reason to
                stop: somebody between here and the model gave up.
        """
        self._end()
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not self._done or not choices or any(c.finish_reason is None for c in choices):
            raise WireError(
                "a whole stream of chat completion chunks; it ended early", is_json=False
            )
        listed = [choice.assembled(index) for index, choice in sorted(self._choices.items())]
        return completions_of(
            json.dumps(self._response | {"choices": listed}), self._n, tools=self._tools
        )

    def _take(self, event: Event) -> bool:
        if self._done or not event.data.strip():
            return False
        if event.data.strip() == "[DONE]":
            self._done = True
            return True
        chunk = object_of(event)
        if event.name == "error" or (chunk.get("error") and not chunk.get("choices")):
            raise StreamError(event.data, server_error(event.data)[1] or UNKNOWN)
        for name in SHARED:
            if chunk.get(name) is not None:
                self._response[name] = chunk[name]
        news = False
        if chunk.get("usage") is not None:
            self._response["usage"] = chunk["usage"]
            news = True
        choices = chunk.get("choices") or []
        if not isinstance(choices, list):
            raise WireError("chunks of a chat completion", is_json=True)
        for choice in choices:
            if not isinstance(choice, dict):
                raise WireError("chunks of a chat completion", is_json=True)
            index = choice.get("index")
            index = index if type(index) is int else 0
            news |= self._choices.setdefault(index, StreamedChoice()).take(choice)
        return news


class StreamedChoice:
    """One choice as it grows."""

    def __init__(self) -> None:
        self.finish_reason: Any = None
        self._texts: dict[str, list[str]] = {}
        self._content: list[Any] = []
        self._is_spoken = False
        self._logprobs: list[Any] | None = None
        self._calls: list[dict[str, Any]] = []
        self._by_index: dict[int, dict[str, Any]] = {}
        self._function: dict[str, Any] | None = None

    def take(self, choice: dict[str, Any]) -> bool:
        """Add a chunk's part; whether there was anything in it."""
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        news = self._take_content(delta.get("content"))
        for name in TEXTS:
            if isinstance(text := delta.get(name), str) and text:
                self._texts.setdefault(name, []).append(text)
                news = True
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._take_call(call)
                news = True
        if isinstance(function := delta.get("function_call"), dict):
            self._function = self._function or {"function": {"name": "", "arguments": ""}}
            _add(self._function["function"], function)
            news = True
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs = [*(self._logprobs or ()), *logprobs["content"]]
        if choice.get("finish_reason") is not None:
            self.finish_reason = choice["finish_reason"]
            news = True
        return news

    def assembled(self, index: int) -> dict[str, Any]:
        """The choice as it stands in an answer that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": self._whole_content()}
        message |= {name: "".join(parts) for name, parts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = self._calls
        if self._function is not None:
            message["function_call"] = self._function["function"]
        logprobs = None if self._logprobs is None else {"content": self._logprobs}
        return {
            "index": index,
            "message": message,
            "finish_reason": self.finish_reason,
            "logprobs": logprobs,
        }

    def _take_content(self, content: Any) -> bool:
        if content is None:
            return False
        self._is_spoken = True
        if isinstance(content, list):  # Mistral: parts, thoughts among them
            for part in content:
                self._take_part(part)
        elif content:
            self._content.append(content)
        return bool(content)

    def _take_part(self, part: Any) -> None:
        last = self._content[-1] if self._content else None
        if (
            isinstance(part, dict)
            and isinstance(last, dict)
            and part.get("type") == last.get("type")
        ):
            for name in ("text", "thinking"):
                if (whole := _joined(last.get(name), part.get(name))) is not None:
                    last[name] = whole
                    return
        self._content.append(dict(part) if isinstance(part, dict) else part)

    def _whole_content(self) -> Any:
        if all(isinstance(part, str) for part in self._content):
            text = "".join(self._content)
            # Every stream begins with an empty content; one that only thinks has said nothing.
            thought = self._texts.keys() & {"reasoning_content", "reasoning"}
            return text if text or (self._is_spoken and not thought) else None
        return self._content

    def _take_call(self, delta: dict[str, Any]) -> None:
        """Add to the call of that index; without one, an id begins the next call."""
        index, identity = delta.get("index"), delta.get("id")
        call = self._by_index.get(index) if type(index) is int else None
        if call is None and (type(index) is int or identity or not self._calls):
            call = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            self._calls.append(call)
            if type(index) is int:
                self._by_index[index] = call
        call = call or self._calls[-1]
        call["id"] = call["id"] or (identity if isinstance(identity, str) else "")
        if isinstance(function := delta.get("function"), dict):
            _add(call["function"], function)


def _add(function: dict[str, Any], delta: dict[str, Any]) -> None:
    """Names come whole, perhaps again and again; arguments come in pieces."""
    name, arguments = delta.get("name"), delta.get("arguments")
    if isinstance(name, str) and name != function["name"]:
        function["name"] += name
    if isinstance(arguments, str):
        function["arguments"] += arguments
    elif isinstance(arguments, dict):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)


def _joined(said: Any, more: Any) -> Any:
    """Two texts or two lists as one, ``None`` for anything else."""
    if isinstance(said, str) and isinstance(more, str):
        return said + more
    return [*said, *more] if isinstance(said, list) and isinstance(more, list) else None
