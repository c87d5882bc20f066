"""Generates tasks of reasoning-gym in a process of its own; run as a script, imports no overproof.

Some generators walk through sets of strings, whose order differs from process to process; some
draw from the global generator, print, or never end. The parent starts this one with
``PYTHONHASHSEED=0``, so that the same seed gives the same tasks, and can end it.

A line of JSON in, a line out. In: ``name``, ``config``, ``seed``, ``size`` and ``index``. Out:
``entry`` as JSON keeps it, ``own`` (what the entry's answer scores after that) and ``other`` (what
a wrong answer scores), or ``error`` with its ``stage``: ``name``, ``config``, ``entry``.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import threading
import time
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

WRONG = "I do not know."
# Where an entry has no answer of its own because many are right, one that is may stand here.
EXAMPLES = ("example_answer", "example_correct_answer", "possible_answer")


def main() -> None:
    """Answer lines until there are none."""
    out, sys.stdout = sys.stdout, sys.stderr  # what generators print is no answer
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    import numpy as np

    gym = importlib.import_module("reasoning_gym")
    names = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
    print(json.dumps({"names": names}), file=out, flush=True)
    made: dict[str, Any] = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        # The same whatever was generated before: a task can be made again alone.
        random.seed(wanted["seed"] + wanted["index"])
        np.random.seed((wanted["seed"] + wanted["index"]) % 2**32)
        print(json.dumps(_answer(gym, made, wanted)), file=out, flush=True)


def _end_with(parent: int) -> None:
    """End when the parent has ended, even in the midst of an entry that never ends."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _answer(gym: Any, made: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    name, stage = wanted["name"], "config"
    try:
        if name not in made:
            made[name] = gym.create_dataset(
                name, seed=wanted["seed"], size=wanted["size"], **wanted["config"]
            )
            made[f"{name} scorer"] = gym.get_score_answer_fn(name)
        stage = "entry"
        entry = json.loads(json.dumps(made[name][wanted["index"]], default=_plain))
    except Exception as error:  # noqa: BLE001  whatever a generator raises, the parent reports
        return {"error": f"{type(error).__name__}: {error}", "stage": stage}
    score = made[f"{name} scorer"]
    return {
        "entry": entry,
        "own": _score(score, _own_answer(entry), entry),
        "other": _score(score, WRONG, entry),
    }


def _own_answer(entry: dict[str, Any]) -> str | None:
    if entry["answer"] is not None:
        return str(entry["answer"])
    for key in EXAMPLES:
        if (example := entry["metadata"].get(key)) is not None:
            return example if isinstance(example, str) else json.dumps(example)
    return None


def _score(score: Any, answer: str | None, entry: dict[str, Any]) -> float | None:
    """``None`` where there is nothing to score, or the scorer cannot read it."""
    if answer is None:
        return None
    try:
        return float(score(answer, entry))
    except Exception:  # noqa: BLE001  some scorers raise at what is no answer
        return 0.0


def _plain(value: Any) -> Any:
    """What JSON lacks: numbers and text of numpy, fractions, dates, sets."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Fraction | Decimal | date):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} does not survive JSON")


if __name__ == "__main__":
    main()
