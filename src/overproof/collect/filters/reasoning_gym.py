"""Answers to reasoning-gym tasks, scored by the task's own verifier."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from overproof.clients.gym_verifier import verify_answer
from overproof.collect.filters.extraction import final_answer
from overproof.config.filters import ReasoningGym
from overproof.errors import DataError
from overproof.records.text_dataset import TextExample

__all__ = ["ReasoningGymFilter"]

FACT = "reasoning_gym"


class ReasoningGymFilter:
    """Drops answers that the verifier scores too low.

    A prompt's ``facts["reasoning_gym"]`` holds the task's ``name`` and its ``entry``.
    """

    def __init__(self, config: ReasoningGym) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Wrong answers, and those without one; a verifier that breaks has verified nothing.

        Raises:
            DataError: a prompt is no such task, and ``on_missing`` is ``fail``.
            MissingExtraError: reasoning-gym is not installed.
        """
        config = self._config
        reasons: dict[int, str] = {}
        counts: Counter[str] = Counter()
        for index, example in enumerate(examples):
            fact = example.facts.get(FACT)
            if not isinstance(fact, dict) or not {"name", "entry"} <= fact.keys():
                if config.on_missing == "fail":
                    raise DataError(
                        f"prompt {example.item}", "is no task of reasoning-gym",
                        "let on_missing = 'keep' or 'drop' say what becomes of such prompts",
                    )  # fmt: skip
                counts[config.on_missing] += 1
                if config.on_missing == "drop":
                    reasons[index] = "no task of reasoning-gym, so nothing could be verified"
                continue
            counts["verified"] += 1
            if why := await asyncio.to_thread(self._problem, example.answer, fact):
                reasons[index] = why
        self.notes = [f"{counts['verified']} verified"]
        if counts["keep"]:
            self.notes.append(f"{counts['keep']} kept unverified: no tasks of reasoning-gym")
        return reasons

    def _problem(self, text: str, fact: dict[str, Any]) -> str:
        answer = final_answer(text, self._config)
        if answer is None:
            return "no answer of the wanted form"
        try:
            found = verify_answer(answer, str(fact["name"]), fact["entry"])
        except DataError as error:  # an unknown task
            return f"could not be verified: {error}"
        if found.problem:
            return f"could not be verified: {found.problem}"
        if found.score < self._config.min_score:
            return f"scored below {self._config.min_score:g}: {found.score:g} for {answer[:60]!r}"
        return ""
