"""Prompts: sandboxed Jinja2 templates turned into messages."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from overproof.collect.inputs import InputItem
from overproof.config.recipe import TaskConfig
from overproof.errors import ConfigError
from overproof.records.exchange import Message

__all__ = ["Prompter", "choose_examples"]

UNRENDERABLE = (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError,
                MemoryError)  # fmt: skip
MARK = "\u0001input\u0001"


@dataclass(frozen=True)
class Option:
    """One label as a prompt shows it: what to answer, and what it means."""

    answer: str
    words: str

    def __str__(self) -> str:
        return self.words if self.answer == self.words else f"{self.answer}. {self.words}"


def choose_examples(pool: Sequence[InputItem], task: TaskConfig) -> list[InputItem]:
    """The first ``examples_per_label`` of each label in the examples pool, labels in turn.

    Raises:
        ConfigError: the pool has too few inputs of a label.
    """
    by_label: dict[str, list[InputItem]] = {label: [] for label in task.labels}
    for item in sorted(pool, key=lambda item: (len(item.text), item.item)):
        if item.gold is not None and len(by_label[item.gold]) < task.examples_per_label:
            by_label[item.gold].append(item)
    short = [name for name, chosen in by_label.items() if len(chosen) < task.examples_per_label]
    if short:
        raise ConfigError(
            f"task.examples_per_label = {task.examples_per_label}",
            f"the pool of {len(pool)} examples has fewer of label {short[0]!r}",
            "raise [data] examples, or lower examples_per_label",
        )
    return [by_label[label][i] for i in range(task.examples_per_label) for label in task.labels]


class Prompter:
    """Renders the messages of a label task.

    Args:
        task: the task's section of the recipe.
        rendering: ``letters`` or ``words``.
        examples: solved examples shown before the input.
        variant: 0 for the prompt itself, 1 for the second asking: the same examples in another
            order and, for letters, the same labels under other letters.
    """

    def __init__(
        self, task: TaskConfig, rendering: str, examples: Sequence[InputItem], variant: int = 0
    ) -> None:
        order = list(task.labels)
        shown = list(examples)
        if variant:
            rng = random.Random(variant)
            rng.shuffle(shown)
            if rendering == "letters":
                order = order[variant:] + order[:variant]
        letters = string.ascii_uppercase
        words = task.labels
        self.answers: dict[str, str] = {
            label: letters[order.index(label)] if rendering == "letters" else words[label].strip()
            for label in task.labels
        }
        self.rendering = rendering
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
        )
        self._system = _compile(environment, "task.system", task.system)
        self._prompt = _compile(environment, "task.prompt", task.prompt)
        self._values = {
            "labels": [self.answers[label] for label in order],
            "options": [Option(self.answers[label], words[label]) for label in order],
        }
        if self.user("one input") == self.user("another"):
            raise ConfigError(
                "task.prompt", "never shows the input", "write {{ input }} where it belongs"
            )
        self._shots = [
            message
            for item in shown
            for message in (
                Message(role="user", content=self.user(item.text)),
                Message(role="assistant", content=self.answers[item.gold or ""]),
            )
        ]
        system = _render(self._system, "task.system", input="", **self._values)
        self._head = [Message(role="system", content=system)] if system.strip() else []

    def user(self, text: str) -> str:
        """The user message that holds ``text``."""
        return _render(self._prompt, "task.prompt", input=text, **self._values)

    def messages(self, text: str, prefill: str = "") -> tuple[Message, ...]:
        """All messages for an input; ``prefill`` begins the teacher's answer."""
        tail = [Message(role="user", content=self.user(text))]
        if prefill:
            tail.append(Message(role="assistant", content=prefill))
        return (*self._head, *self._shots, *tail)

    def around_input(self) -> tuple[str, str] | None:
        """What the template puts before and after the input, ``None`` if it uses it otherwise."""
        parts = self.user(MARK).split(MARK)
        return (parts[0], parts[1]) if len(parts) == 2 else None

    def varies(self) -> str:
        """What a second asking changes, in words."""
        changes = []
        if len(self._shots) > 2:
            changes.append("the examples in another order")
        if self.rendering == "letters":
            changes.append("the labels under other letters")
        return " and ".join(changes) or "the same prompt again"


def _compile(environment: ImmutableSandboxedEnvironment, name: str, source: str) -> Any:
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{name}: line {error.lineno}", f"is no template: {error.message}") from (
            error
        )


def _render(template: Any, name: str, **values: Any) -> str:
    try:
        return str(template.render(**values))
    except UNRENDERABLE as error:
        raise ConfigError(
            name, f"cannot be rendered: {error}", "it may use input, labels and options"
        ) from error
