"""Chats to tokens: the prompt as the student will be asked, the answer, and exactly one end.

What is trained must be what is asked later. So the prompt is rendered with the generation prompt,
as a server does, and the answer is what the chat template adds to that. Templates that render a
history differently from a request (trimmed, or with a past turn's reasoning cut out) add no plain
suffix; there the answer's own text follows the generation prompt.

A chat that is too long is left out: to cut its answer off would teach never to stop.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from overproof.errors import DataError
from overproof.records.exchange import Outcome
from overproof.train.lm.parts import TokenizedChat

__all__ = ["Tokenized", "tokenize_chats"]

SLICE = 512  # chats that are tokenized at once
# How a template's source reads a message's reasoning; `enable_thinking` is no such field.
_REASONING = re.compile(r"(?:\.|\[\s*['\"])(reasoning_content|reasoning|thinking)\b")


@dataclass(frozen=True)
class Tokenized:
    """Chats in tokens, and what became of the others.

    ``left_out`` counts chats by reason; ``notes`` say what a user should know of the rest.
    """

    chats: list[TokenizedChat]
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Turn:
    """One chat as text: what is asked, and what the template adds for the answer."""

    row: int
    prompt: str
    answer: str
    ends_in_space: bool
    facts: Mapping[str, Any]


def tokenize_chats(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    *,
    end: int,
    max_length: int,
    tools: Sequence[Mapping[str, Any]] | None = None,
    what: str = "training",
) -> Tokenized:
    """Tokenize the answered chats of one split for training.

    Args:
        rows: as ``records.chat_dataset.read_chats`` gives them: ``messages`` with the teacher's
            answer last, perhaps ``tools`` as JSON text, ``reasoning`` and where it came from.
        tokenizer: the student's, with its chat template.
        end: the end-of-turn token, which closes every answer once.
        max_length: of prompt and answer together, in tokens.
        tools: offered in every chat that names none of its own, in OpenAI's form.
        what: which chats these are, for errors.

    Raises:
        DataError: no chat is left, the template knows no tools, or it ends answers with another
            token than ``end``.
    """
    work = _Work(tokenizer, end, max_length)
    chats: list[TokenizedChat] = []
    turns: list[_Turn] = []
    for turn in work.turns(rows, tools):
        turns.append(turn)
        if len(turns) == SLICE:
            chats += work.tokenized(turns)
            turns = []
    chats += work.tokenized(turns)
    work.check_end()
    if rows and not chats:
        raise DataError(
            f"the {what} chats",
            "none is left: " + "; ".join(f"{n} {why}" for why, n in work.left_out.items()),
            "raise max_length, or look at the chat template of the student's base",
        )
    return Tokenized(chats, dict(work.left_out), work.notes())


class _Work:
    """The tokenizer with its template, and counts of what was met."""

    def __init__(self, tokenizer: Any, end: int, max_length: int) -> None:
        self.tokenizer, self.end, self.max_length = tokenizer, end, max_length
        template = tokenizer.chat_template
        self.template = (
            template if isinstance(template, str) else "".join((template or {}).values())
        )
        if not self.template:
            raise DataError(
                "the student's tokenizer",
                "has no chat template, so nobody knows how to ask it",
                "use an instruction-tuned base, or put a chat_template.jinja beside it",
            )
        found = _REASONING.search(self.template)
        self.reasoning_field = found[1] if found else None
        added = tokenizer.added_tokens_decoder
        self.special = {i for i, token in added.items() if token.special}
        self.left_out: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.closers: Counter[int] = Counter()

    def turns(
        self, rows: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> Iterator[_Turn]:
        """The chats as text; those that cannot be are counted."""
        number = -1
        for row in rows:
            if row.get("outcome", Outcome.ANSWERED.value) != Outcome.ANSWERED.value:
                self.left_out["without an answer"] += 1
                continue
            number += 1
            offered = json.loads(row["tools"]) if row.get("tools") else list(tools or [])
            if offered and "tools" not in self.template:
                raise DataError(
                    "the student's chat template",
                    "knows no tools, and the training chats offer some",
                    "use a base that was trained to call tools",
                )
            turn = self._turn(number, row, offered)
            if isinstance(turn, str):
                self.left_out[turn] += 1
            else:
                yield turn

    def _turn(self, number: int, row: Mapping[str, Any], tools: list[Any]) -> _Turn | str:
        """Prompt and answer of a chat, or the reason why there are none."""
        *history, answer = [_object_of(message) for message in row["messages"]]
        if answer["role"] != "assistant" or not (answer["content"] or answer.get("tool_calls")):
            return "with an empty answer"
        reasoning = self._told_reasoning(row, answer)
        try:
            prompt = self._rendered(history, tools, ask=True)
            whole = self._rendered([*history, answer], tools, ask=False)
        except Exception as error:  # noqa: BLE001 - a template is a program of the model's own
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            return f"refused by the chat template ({said})"
        if not prompt:
            return "whose prompt the chat template renders as nothing"
        calls = [call["function"]["name"] for call in answer.get("tool_calls", [])]
        if whole.startswith(prompt):
            added = whole[len(prompt) :]
        elif calls:
            return "whose tool calls the chat template does not add to the prompt"
        else:
            self.met[
                "the chat template renders their history differently once they are answered: the "
                "answer's text was put after the generation prompt"
            ] += 1
            added = answer["content"] + str(self.tokenizer.convert_ids_to_tokens(self.end))
        if any(part not in added for part in (*calls, answer["content"].strip())):
            return "whose answer the chat template leaves out"
        if reasoning not in added:
            self.met["their reasoning is left out: the chat template does not write it here"] += 1
        trailing = answer["content"][-1:].isspace() and not calls
        return _Turn(number, prompt, added, trailing, row)

    def _told_reasoning(self, row: Mapping[str, Any], answer: dict[str, Any]) -> str:
        """Put the reasoning into the answer's message, where the template reads it there."""
        reasoning = row.get("reasoning")
        if not reasoning:
            return ""
        if self.reasoning_field is None:
            self.met["their reasoning is left out: the chat template has no place for it"] += 1
            return ""
        answer[self.reasoning_field] = reasoning
        return str(reasoning).strip()

    def _rendered(self, messages: list[dict[str, Any]], tools: list[Any], *, ask: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tools=tools or None, tokenize=False, add_generation_prompt=ask
            )
        )

    def tokenized(self, turns: Sequence[_Turn]) -> Iterator[TokenizedChat]:
        """Chats of the training set; the prompt's tokens are an exact prefix."""
        prompts = self._ids([turn.prompt for turn in turns])
        wholes = self._ids([turn.prompt + turn.answer for turn in turns])
        for turn, prompt, whole in zip(turns, prompts, wholes, strict=True):
            answer = self._answer(turn, prompt, whole)
            if answer is None:
                self.left_out["whose prompt and answer the tokenizer merges"] += 1
                continue
            body = self._without_end(turn, prompt, answer)
            if self.end in body:
                self.left_out["with the end-of-turn token inside of the answer"] += 1
            elif len(prompt) + len(body) + 1 > self.max_length:
                self.left_out[f"longer than max_length ({self.max_length} tokens)"] += 1
            else:
                yield TokenizedChat(
                    row=turn.row,
                    item=str(turn.facts.get("item", "")),
                    sample=int(turn.facts.get("sample") or 0),
                    ids=(*prompt, *body, self.end),
                    n_prompt=len(prompt),
                    request_keys=tuple(turn.facts.get("request_keys") or ()),
                )

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Tokens of texts, none added: a BOS is the template's business, or there would be two."""
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def _answer(self, turn: _Turn, prompt: list[int], whole: list[int]) -> list[int] | None:
        """The answer's tokens, such that the prompt's stay as they are when it is asked alone."""
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        # A token reaches over the border. Asked later, the student begins a new one there.
        (alone,) = self._ids([turn.answer])
        says = self.tokenizer.decode
        return alone if says(prompt + alone) == says(whole) else None

    def _without_end(self, turn: _Turn, prompt: list[int], answer: list[int]) -> list[int]:
        """The answer before its end, without what the template puts after that."""
        last = len(answer)
        while last and not str(self.tokenizer.decode(answer[last - 1 : last])).strip():
            if answer[last - 1] in self.special:
                break
            last -= 1
        if last and answer[last - 1] == self.end:
            self.closers[self.end] += 1
            return answer[: last - 1]
        if last and answer[last - 1] in self.special:
            self.closers[answer[last - 1]] += 1
            return answer[: last - 1]
        self.met[
            "the chat template does not end their answer: the end-of-turn token was added"
        ] += 1
        if turn.ends_in_space:
            return answer
        (whole,) = self._ids([turn.prompt + turn.answer.rstrip()])
        return whole[len(prompt) :] if whole[: len(prompt)] == prompt else answer[:last]

    def check_end(self) -> None:
        """Refuse an end that no answer has, when the template has one of its own."""
        if self.closers and not self.closers[self.end]:
            names = self.tokenizer.convert_ids_to_tokens
            ((other, _),) = self.closers.most_common(1)
            raise DataError(
                f"the end-of-turn token {names(self.end)!r} ({self.end})",
                f"never occurs in the data: the chat template ends answers with {names(other)!r} "
                f"({other}), so the student would never learn to stop",
                f"set eos_token to {names(other)!r} in the base's tokenizer_config.json and "
                "generation_config.json",
            )

    def notes(self) -> list[str]:
        """What was met, a sentence each."""
        return [f"{count} chats: {what}" for what, count in self.met.items()]


def _object_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat templates expect it; they write out the arguments of calls themselves."""
    told: dict[str, Any] = {"role": message["role"], "content": message["content"] or ""}
    if message.get("tool_call_id") is not None:
        told["tool_call_id"] = message["tool_call_id"]
    if message.get("tool_calls"):
        told["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _parsed(call)}}
            for call in message["tool_calls"]
        ]
    return told


def _parsed(call: Mapping[str, Any]) -> Any:
    arguments = call["function"]["arguments"]
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
