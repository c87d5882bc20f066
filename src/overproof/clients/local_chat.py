"""Between text and tokens for local weights: the chat template, the bytes of tokens, tool calls."""

from __future__ import annotations

import json
import re
from typing import Any

from overproof.clients import token_bytes
from overproof.records.exchange import Message, Request, ToolCall

__all__ = ["Chat", "called_tools"]

# The form that Hermes, Qwen and many others are trained to call tools in.
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Chat:
    """A Hugging Face tokenizer with its chat template.

    Args:
        tokenizer: of any kind; what bytes its tokens stand for is known for the fast ones.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = dict(tokenizer.added_tokens_decoder)
        self._known: dict[int, bytes] = {}
        self._spelled = _spelling_of(tokenizer)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer itself."""
        return self._tokenizer

    @property
    def template(self) -> str:
        """The chat template's source, empty where there is none."""
        template = self._tokenizer.chat_template
        return template if isinstance(template, str) else "".join((template or {}).values())

    @property
    def knows_bytes(self) -> bool:
        """Whether the bytes of every token are known."""
        return self._spelled is not None

    def prompt_ids(self, request: Request) -> list[int]:
        """The tokens that a request puts before the model.

        A last message of role assistant is left open, for the model to continue.

        Raises:
            ValueError: the template cannot hold this chat; says why.
        """
        messages = list(request.messages)
        prefill = messages[-1].content if messages and messages[-1].role == "assistant" else ""
        if messages and messages[-1].role == "assistant" and not prefill:
            del messages[-1]  # nothing to continue: the template's own beginning of an answer
        tools = [
            {"type": "function", "function": tool.model_dump()} for tool in request.parameters.tools
        ]
        if tools and "tools" not in self.template:
            raise ValueError("the model's chat template knows no tools")
        try:
            text = str(
                self._tokenizer.apply_chat_template(
                    [_object_of(message) for message in messages],
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=not prefill,
                    continue_final_message=bool(prefill),
                    **request.parameters.extra.get("chat_template_kwargs", {}),
                )
            )
        except Exception as error:  # a template is a program of the model's, and may raise anything
            raise ValueError(f"the model's chat template refuses it: {error}") from error
        if prefill and not text.endswith(prefill) and text.endswith(prefill.rstrip()):
            text += prefill[len(prefill.rstrip()) :]  # the template trims; the prefill counts
        return self.ids(text)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, none added."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def pieces(self, text: str) -> list[bytes] | None:
        """Byte pieces of a text, ``None`` where the tokenizer does not keep its bytes."""
        tokens = self._tokenizer.convert_ids_to_tokens(self.ids(text))
        return token_bytes.pieces_of_text(text, tokens)

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the text; nothing for a special one."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._read(token)
        return known

    def shown(self, token: int) -> str:
        """A token as log-probs name it: its text, or the name of a special one."""
        if self._is_special(token):
            return str(self._added[token].content)
        return self.bytes_of(token).decode("utf-8", "replace")

    def text(self, tokens: list[int]) -> str:
        """The text of an answer, without special tokens."""
        if self._spelled is None:
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        return b"".join(map(self.bytes_of, tokens)).decode("utf-8", "replace")

    def special_ids(self, names: tuple[str, ...]) -> set[int]:
        """Which tokens are special ones of these names."""
        return {i for i, token in self._added.items() if token.special and token.content in names}

    def _is_special(self, token: int) -> bool:
        return token in self._added and bool(self._added[token].special)

    def _read(self, token: int) -> bytes:
        if self._is_special(token):
            return b""
        if token in self._added:
            return str(self._added[token].content).encode()
        if self._spelled is None:
            return str(self._tokenizer.decode([token])).encode()
        spelled = self._tokenizer.convert_ids_to_tokens(token)
        # Embeddings are often padded: the ids beyond the vocabulary stand for nothing.
        return b"" if spelled is None else (self._spelled(spelled) or spelled.encode())


def called_tools(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The calls in an answer of the form ``<tool_call>{...}</tool_call>``, and the text besides.

    What is no JSON object with a name stays in the text.
    """
    calls: list[ToolCall] = []

    def taken(match: re.Match[str]) -> str:
        try:
            call = json.loads(match[1])
            arguments = call.get("arguments", call.get("parameters", {}))
            named = ToolCall(
                id=f"call_{len(calls)}",
                name=call["name"],
                arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
            )
        except (ValueError, KeyError):
            return match[0]
        calls.append(named)
        return ""

    rest = _CALL.sub(taken, text)
    return (rest.strip() if calls else text), tuple(calls)


def _object_of(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it; they write out the arguments of calls themselves."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _parsed(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return told


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _spelling_of(tokenizer: Any) -> Any:
    """How the vocabulary spells bytes, ``None`` where its decoder loses some."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    decoder = json.dumps(json.loads(backend.to_str()).get("decoder"), ensure_ascii=False)
    if '"ByteLevel"' in decoder:
        return token_bytes.byte_level
    if '"ByteFallback"' in decoder or '"Metaspace"' in decoder:
        return token_bytes.sentencepiece
    return None
