"""Exact match of two texts after normalisation."""

from __future__ import annotations

import unicodedata

__all__ = ["exact_match", "normalised"]

# What surrounds an answer without being part of it. Signs and units (- + % $ #) are part of it.
_BEFORE = "\"'`*_«»“”„‘’‚¿¡ "
_AFTER = "\"'`*_«»“”‘’.,;:!?…。、！？ "
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def normalised(text: str) -> str:
    """A text in Unicode form NFKC, without case, surplus white space and outer punctuation.

    Brackets go only as a pair around the whole. A text of nothing but punctuation keeps it.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    while True:
        bare = folded.lstrip(_BEFORE).rstrip(_AFTER)
        if len(bare) > 2 and _PAIRS.get(bare[0]) == bare[-1] and bare[0] not in bare[1:]:
            bare = bare[1:-1]
        if bare == folded or not bare:
            return folded
        folded = bare


def exact_match(answer: str, reference: str) -> bool:
    """Whether two texts are the same after normalisation."""
    return normalised(answer) == normalised(reference)
