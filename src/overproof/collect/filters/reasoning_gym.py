"""Answers to reasoning-gym tasks, scored by the task's own verifier."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from overproof.collect.filters.extraction import final_answer
from overproof.config.filters import ReasoningGym
from overproof.errors import DataError, MissingExtraError
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
            if why := self._problem(example.answer, fact):
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
            score = float(_scorer(fact["name"])(answer, fact["entry"]))
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 - verifiers read whatever a model wrote
            return f"could not be verified: {type(error).__name__}: {error}"
        if math.isnan(score) or score < self._config.min_score:
            return f"scored below {self._config.min_score:g}: {score:g} for {answer[:60]!r}"
        return ""


@cache
def _scorer(name: str) -> Callable[[str, dict[str, Any]], float]:
    try:
        gym = importlib.import_module("reasoning_gym")
    except ImportError as error:
        raise MissingExtraError("reasoning_gym", "tasks") from error
    scorer: Callable[[str, dict[str, Any]], float] = gym.get_score_answer_fn(name)
    return scorer
