"""Putting the prompts of a text task to a teacher: one answer a sample, turn after turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from overproof.clients.protocol import Teacher
from overproof.clients.terms import TermsVerdict
from overproof.collect.asker import Asker
from overproof.config.load import LoadedTextRecipe
from overproof.errors import CapabilityError, ConfigError
from overproof.records.answer_checks import (
    check_schema,
    schema_problem,
    tool_call_problem,
    tool_name_problem,
)
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    Tool,
)
from overproof.records.text_dataset import Prompt, TextExample

__all__ = ["AnswerShape", "TextQuestioner", "answer_shape"]

Split = Literal["train", "tune", "test"]
SCHEMA_WORDS = "Answer with JSON alone, without any other word, that follows this JSON Schema:\n"


@dataclass(frozen=True)
class AnswerShape:
    """What an answer must be: free text, JSON of a schema, or calls of functions."""

    schema: dict[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None

    def problem(self, completion: Completion) -> str | None:
        """Why an answer is malformed, ``None`` where it is not."""
        if self.schema is not None:
            return schema_problem(completion.text, self.schema)
        if completion.tool_calls or self.tool_choice not in (None, "auto", "none"):
            return tool_call_problem(completion.tool_calls, self.tools, self.tool_choice)
        return None if completion.text.strip() else "the answer is empty"


def answer_shape(loaded: LoadedTextRecipe) -> AnswerShape:
    """Read the schema or the functions that the recipe names.

    Raises:
        ConfigError: the file is missing or is not what it should be.
    """
    task = loaded.recipe.task
    if task.json_schema:
        path = loaded.home / task.json_schema
        schema = _json_of(path, "task.schema")
        check_schema(schema, str(path))
        return AnswerShape(schema=schema)
    if task.tools:
        path = loaded.home / task.tools
        tools = tuple(_tool(item, path) for item in _list_of(_json_of(path, "task.tools"), path))
        names = [tool.name for tool in tools]
        choice = task.tool_choice or "auto"
        if choice not in ("auto", "none", "required", *names):
            raise ConfigError(
                f"task.tool_choice = {choice!r}",
                f"is none of the functions in {path.name}",
                f"choose auto, none, required, or one of {', '.join(names)}",
            )
        return AnswerShape(tools=tools, tool_choice=choice)
    return AnswerShape()


def _json_of(path: Path, culprit: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(culprit, f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"is not JSON: {error}") from None


def _list_of(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConfigError(str(path), "is not a JSON list of functions")
    return value


def _tool(item: Any, path: Path) -> Tool:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]  # as OpenAI's API wraps it
    try:
        tool = Tool.model_validate(item)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            str(path),
            f"holds a function that is none: {reason}",
            'each has a "name", a "description" and "parameters", a JSON Schema',
        ) from None
    if (problem := tool_name_problem(tool.name)) is not None:
        raise ConfigError(str(path), problem)
    check_schema(tool.parameters, f"{path}: {tool.name}")
    return tool


class TextQuestioner:
    """Asks the prompts of a text task.

    Args:
        loaded: the recipe.
        teacher: an open teacher; its capabilities decide how a schema is handed over.
        asker: where requests go.
        verdict: licence and terms, kept with every example.
        shape: what an answer must be.

    Raises:
        CapabilityError: the task needs what the teacher lacks.
    """

    def __init__(
        self,
        loaded: LoadedTextRecipe,
        teacher: Teacher,
        asker: Asker,
        verdict: TermsVerdict,
        shape: AnswerShape,
    ) -> None:
        self._task = loaded.recipe.task
        self._seed = loaded.recipe.run.seed
        self._body = loaded.recipe.teacher.body  # it changes answers: part of their address
        self._teacher = teacher
        self._asker = asker
        self._verdict = verdict
        self._shape = shape
        self._said_by_hand = shape.schema is not None and not teacher.capabilities.structured
        self._check_capabilities()

    def _check_capabilities(self) -> None:
        able, name = self._teacher.capabilities, self._teacher.name
        if self._shape.tools and not able.tools:
            raise CapabilityError(
                "task.answer = 'tools'", f"{name} takes no functions", "use answer = 'json'"
            )
        if self._task.seeds and not able.seed:
            raise CapabilityError("task.seeds", f"{name} takes no seed", "take seeds out")
        wanted = self._task.top_logprobs
        if wanted is not None and wanted > able.top_logprobs:
            raise CapabilityError(
                f"task.top_logprobs = {wanted}",
                f"{name} offers {able.top_logprobs}",
                "lower it, or take it out",
            )

    def first_requests(self, prompt: Prompt) -> list[Request]:
        """The requests that a prompt needs whatever is answered: one a sample."""
        messages = self._opening(prompt)
        return [self._request(messages, sample) for sample in range(self._task.samples)]

    async def ask(self, prompt: Prompt, split: Split) -> list[TextExample]:
        """One example a sample; only training prompts are asked more than once."""
        samples = self._task.samples if split == "train" else 1
        requests = self.first_requests(prompt)[:samples]
        if samples > 1 and not self._task.seeds:
            first = await self._asker.ask_samples(requests[0], samples, self._shape.problem)
        else:
            first = [await self._asker.ask(each, self._shape.problem) for each in requests]
        return [
            await self._converse(prompt, split, request, completion)
            for request, completion in zip(requests, first, strict=True)
        ]

    def _opening(self, prompt: Prompt) -> tuple[Message, ...]:
        if not self._said_by_hand:
            return prompt.messages
        said = SCHEMA_WORDS + json.dumps(self._shape.schema, ensure_ascii=False)
        first, *rest = prompt.messages
        if first.role == "system":
            return (first.model_copy(update={"content": f"{first.content}\n\n{said}"}), *rest)
        return (Message(role="system", content=said), first, *rest)

    def _request(self, messages: Sequence[Message], sample: int) -> Request:
        task = self._task
        return Request(
            model=self._teacher.model,
            messages=tuple(messages),
            parameters=Parameters(
                max_tokens=task.max_tokens,
                temperature=task.temperature,
                top_p=task.top_p,
                seed=self._seed + sample if task.seeds else None,
                top_logprobs=task.top_logprobs,
                stop=task.stop,
                extra=self._body,
                response_schema=self._shape.schema,
                tools=self._shape.tools,
                tool_choice=self._shape.tool_choice,
            ),
            sample=sample,
        )

    async def _converse(
        self, prompt: Prompt, split: Split, request: Request, completion: Completion
    ) -> TextExample:
        """Ask the turns that follow, each once the one before is answered."""
        keys = [request.key]
        tokens = _output_tokens(completion)
        for turn in prompt.turns:
            if completion.outcome is not Outcome.ANSWERED:
                break
            said = Message(
                role="assistant", content=completion.text, tool_calls=completion.tool_calls
            )
            messages = (*request.messages, said, Message(role="user", content=turn))
            request = self._request(messages, request.sample)
            completion = await self._asker.ask(request, self._shape.problem)
            keys.append(request.key)
            more = _output_tokens(completion)
            tokens = None if tokens is None or more is None else tokens + more
        return self._example(prompt, split, request, completion, keys=tuple(keys), tokens=tokens)

    def _example(
        self,
        prompt: Prompt,
        split: Split,
        request: Request,
        completion: Completion,
        *,
        keys: tuple[str, ...],
        tokens: int | None,
    ) -> TextExample:
        answered = completion.outcome is Outcome.ANSWERED
        # What was only said to make up for a missing feature of the API is no part of the chat.
        messages = request.messages
        if self._said_by_hand:
            opening = self._opening(prompt)
            messages = (*prompt.messages, *messages[len(opening) :])
        return TextExample(
            item=prompt.item,
            sample=request.sample,
            split=split,
            messages=messages,
            outcome=completion.outcome,
            answer=completion.text,
            reasoning=completion.reasoning,
            tool_calls=completion.tool_calls,
            error="" if answered else completion.error or completion.outcome.value,
            origin=prompt.origin,
            reference=prompt.reference,
            facts=prompt.facts,
            request_keys=keys,
            output_tokens=tokens,
            teacher=self._teacher.name,
            licence=self._verdict.licence,
            terms=self._verdict.terms,
        )


def _output_tokens(completion: Completion) -> int | None:
    return None if completion.usage is None else completion.usage.output_tokens
