"""Structured extraction: how many fields of a JSON object are right, missed and made up.

A field is a leaf of the object under its path, such as ``address.city``. A list has no order
here: its elements are paired so that the most fields agree, so one element left out does not make
all that follow wrong. Numbers are equal by value, texts up to Unicode form and white space, and
nothing is equal across types.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

from overproof.records.answer_checks import unfenced

__all__ = ["Fields", "compare_fields", "count_fields", "parsed", "same_json"]

_MOST_PAIRS = 40_000  # of list elements compared with one another; longer lists keep their order
_DEEPEST = 100


@dataclass(frozen=True)
class Fields:
    """Fields of an answer against the known ones: ``right`` of ``given``, of ``wanted``."""

    right: int
    given: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share of the fields given that are right; 1 where none is given and none is wanted."""
        return self.right / self.given if self.given else float(not self.wanted)

    @property
    def recall(self) -> float:
        """Share of the fields wanted that were found; 1 where none is wanted."""
        return self.right / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both, 2 TP / (2 TP + FP + FN)."""
        total = self.given + self.wanted
        return 2 * self.right / total if total else 1.0


def parsed(text: str) -> Any:
    """The JSON value of an answer, with or without a Markdown fence around it.

    Raises:
        ValueError: it is none, or is nested too deeply to be compared.
    """
    try:
        value = json.loads(unfenced(text))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if _depth(value) > _DEEPEST:
        raise ValueError("is nested too deeply")
    return value


def compare_fields(answer: Any, wanted: Any) -> Fields:
    """Field by field, two JSON values."""
    return Fields(_right(answer, wanted), count_fields(answer), count_fields(wanted))


def count_fields(value: Any) -> int:
    """Leaves of a JSON value; an empty object or list inside of another is one."""
    return _leaves(value) if value not in ({}, []) else 0


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: lists in order, objects in any."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return _leaf(one) == _leaf(other)


def _leaves(value: Any) -> int:
    if isinstance(value, dict) and value:
        return sum(_leaves(part) for part in value.values())
    if isinstance(value, list) and value:
        return sum(_leaves(part) for part in value)
    return 1


def _right(one: Any, other: Any) -> int:
    if isinstance(one, dict) and isinstance(other, dict) and one and other:
        return sum(_right(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list) and one and other:
        return _right_in_lists(one, other)
    if isinstance(one, dict | list) or isinstance(other, dict | list):
        return int(type(one) is type(other) and not one and not other)
    return int(_leaf(one) == _leaf(other))


def _right_in_lists(one: list[Any], other: list[Any]) -> int:
    if not any(isinstance(part, dict | list) for part in [*one, *other]):
        return (Counter(map(_leaf, one)) & Counter(map(_leaf, other))).total()
    if len(one) * len(other) > _MOST_PAIRS:
        return sum(_right(a, b) for a, b in zip(one, other, strict=False))
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    ones, others = [_flat(part) for part in one], [_flat(part) for part in other]
    gains = np.array(
        [
            [
                len(x & y) if x is not None and y is not None else _right(a, b)
                for b, y in zip(other, others, strict=True)
            ]
            for a, x in zip(one, ones, strict=True)
        ]
    )
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return int(gains[rows, columns].sum())


def _flat(value: Any) -> frozenset[Any] | None:
    """The leaves under their paths, so that two values have as many fields in common as these sets.

    Of a list of leaves, equal ones are told apart by a number. ``None`` where a list holds lists or
    objects: those have no path to be told by.
    """
    found: set[Any] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, dict) and part:
            waiting.extend(((*path, key), inner) for key, inner in part.items())
        elif isinstance(part, list) and part:
            if any(isinstance(inner, dict | list) for inner in part):
                return None
            counts = Counter(map(_leaf, part))
            found.update((path, leaf, k) for leaf, n in counts.items() for k in range(n))
        else:
            found.add((path, _leaf(part)))
    return frozenset(found)


def _leaf(value: Any) -> tuple[str, Any]:
    """What a leaf is told by. ``True`` is not 1, though Python says so."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", "NaN" if isinstance(value, float) and math.isnan(value) else value)
    if isinstance(value, str):
        return ("text", " ".join(unicodedata.normalize("NFKC", value).split()))
    return (type(value).__name__, "empty" if not value else repr(value))


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        part, level = waiting.pop()
        deepest = max(deepest, level)
        if isinstance(part, dict | list) and level <= _DEEPEST:
            inside = part.values() if isinstance(part, dict) else part
            waiting.extend((each, level + 1) for each in inside)
    return deepest
