"""Packaged prompts: questions of TREC, tasks of reasoning-gym."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from typing import Literal

from overproof.errors import MissingExtraError, ModelError

__all__ = ["packaged"]

TASKS = ("basic_arithmetic", "chain_sum", "leg_counting", "gcd", "letter_counting", "word_sorting",
         "simple_equations", "calendar_arithmetic", "number_sorting", "syllogism")  # fmt: skip
A_TASK = 150
LONGEST = 900


def packaged(
    wanted: Literal["auto"] | Sequence[str],
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Texts by source, and for sources that are not to be had why, in words for the manifest.

    Args:
        wanted: ``auto`` takes what is installed; a source that is named must be there.

    Raises:
        ModelError: the questions of TREC were asked for and not pulled.
        MissingExtraError: reasoning-gym was asked for and is not installed.
    """
    found: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    readers = {"gym": _gym, "trec": _trec}
    for source, read in readers.items():
        if wanted != "auto" and source not in wanted:
            missing[source] = "not asked for"
            continue
        try:
            found[source] = read()
        except (ModelError, MissingExtraError) as error:
            if wanted != "auto":
                raise
            missing[source] = f"{error.culprit} {error.reason}: built-in questions alone"
    return found, missing


def _trec() -> list[str]:
    from overproof.clients import registry

    path = registry.resolve("trec-questions")
    with path.open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


def _gym() -> list[str]:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise MissingExtraError("reasoning-gym", "tasks")
    import reasoning_gym

    texts = []
    for task in TASKS:
        entries = reasoning_gym.create_dataset(task, size=A_TASK, seed=7)
        texts += [entry["question"] for entry in entries if len(entry["question"]) <= LONGEST]
    return texts
