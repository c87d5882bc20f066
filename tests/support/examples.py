"""Examples of a text dataset, and what filters need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from overproof.collect.filters.build import build
from overproof.collect.filters.protocol import Check, Filter, FilterTools
from overproof.config.filters import FilterConfig
from overproof.records.exchange import Completion, Message, Outcome, Request
from overproof.records.text_dataset import Origin, TextExample, prompt_item

CONFIG: TypeAdapter[FilterConfig] = TypeAdapter(FilterConfig)


def example(prompt: str, answer: str = "An answer.", sample: int = 0, **more: Any) -> TextExample:
    messages = (Message(role="user", content=prompt),)
    if system := more.pop("system", ""):
        messages = (Message(role="system", content=system), *messages)
    return TextExample(
        item=prompt_item(messages),
        sample=sample,
        split=more.pop("split", "train"),
        messages=messages,
        outcome=more.pop("outcome", Outcome.ANSWERED),
        answer=answer,
        origin=Origin(kind="file", source="test: row 1"),
        **more,
    )


def answers(*texts: str) -> list[TextExample]:
    """An example of its own prompt for each answer."""
    return [example(f"Prompt number {number}", text) for number, text in enumerate(texts)]


async def nobody(request: Request, check: Check | None = None) -> Completion:
    raise AssertionError("this filter asks nobody")


def tools(home: Path = Path(), held_out: Sequence[str] = (), ask: Any = nobody) -> FilterTools:
    return FilterTools(ask=ask, model="judge", home=home, held_out=held_out)


def make(kind: str, home: Path = Path(), ask: Any = nobody, **settings: Any) -> Filter:
    held_out = settings.pop("held_out", ())
    config = CONFIG.validate_python({"kind": kind, **settings})
    return build(config, tools(home, held_out, ask))


Answering = Callable[[Request], Completion]


def answered_by(answer: Answering, log: list[Request] | None = None) -> Any:
    """An ``ask`` that answers at once, and marks as malformed what the check refuses."""

    async def ask(request: Request, check: Check | None = None) -> Completion:
        if log is not None:
            log.append(request)
        completion = answer(request)
        problem = check(completion) if check and completion.outcome is Outcome.ANSWERED else None
        if problem:
            return completion.model_copy(update={"outcome": Outcome.MALFORMED, "error": problem})
        return completion

    return ask
