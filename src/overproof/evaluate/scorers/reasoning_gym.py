"""The task's own verifier of reasoning-gym, by the task's name and entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.clients.gym_verifier import verify_answer
from overproof.errors import DataError

__all__ = ["FACT", "task_of", "verified"]

FACT = "reasoning_gym"


def task_of(facts: Mapping[str, Any], item: str) -> tuple[str, dict[str, Any]]:
    """Name and entry of a prompt's task.

    Raises:
        DataError: the prompt is no task of reasoning-gym.
    """
    fact = facts.get(FACT)
    if not isinstance(fact, Mapping) or not {"name", "entry"} <= fact.keys():
        raise DataError(
            f"test prompt {item}",
            "is no task of reasoning-gym: it has no name and entry to verify answers with",
            "certificate.scorer = 'reasoning_gym' needs a column reasoning_gym with name and "
            "entry in the file of prompts; choose another scorer otherwise",
        )
    return str(fact["name"]), dict(fact["entry"])


def verified(answer: str, name: str, entry: Mapping[str, Any]) -> float:
    """The verifier's score in [0, 1], computed in a process of its own.

    Some verifiers evaluate an answer as Python, so none runs here. One that cannot read an answer,
    does not come to an end within ten seconds, or ends its process, has not found it right: 0. So
    has any answer with a double underscore or over 20,000 characters.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        DataError: it knows no such task.
    """
    return verify_answer(answer, name, entry).score
