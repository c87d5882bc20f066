"""The task's own verifier of reasoning-gym, by the task's name and entry."""

from __future__ import annotations

import importlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from overproof.errors import DataError, MissingExtraError

__all__ = ["FACT", "task_of", "verified"]

FACT = "reasoning_gym"
LONGEST = 20_000  # characters of an answer: some verifiers take powers of its length
PATIENCE_S = 10.0


class _TooLongError(Exception):
    """A verifier did not end."""


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


def verified(answer: str, name: str, entry: dict[str, Any]) -> float:
    """The verifier's score in [0, 1].

    A verifier that cannot read an answer, or does not come to an end within ten seconds (counted
    where it runs in the main thread), has not found it right: 0.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        DataError: it knows no such task.
    """
    score_answer = _verifier(name)
    if len(answer) > LONGEST:
        return 0.0
    try:
        with _within(PATIENCE_S):
            score = float(score_answer(answer, entry))
    except Exception:  # noqa: BLE001  verifiers parse whatever a model wrote, and raise at it
        return 0.0
    return 0.0 if math.isnan(score) else min(max(score, 0.0), 1.0)


@cache
def _verifier(name: str) -> Callable[[str, dict[str, Any]], float]:
    try:
        gym = importlib.import_module("reasoning_gym")
    except ImportError as error:
        raise MissingExtraError("reasoning_gym", "tasks") from error
    try:
        scorer: Callable[[str, dict[str, Any]], float] = gym.get_score_answer_fn(name)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"task {name!r}", f"is unknown to reasoning-gym: {error}", "install its release"
        ) from error
    return scorer


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise in the block once the time is over; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
