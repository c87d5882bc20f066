"""Output that is broken whatever the task: loops, and nothing at all."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["is_loop"]

FEWEST_REPEATS = 4
FEWEST_CHARACTERS = 40
LEAST_SHARE = 0.2  # of the text: a ruled line or a table's border is no loop
LONGEST_UNIT = 400
LOOKED_AT = 20_000
FEWEST_WORDS = 60
NGRAM = 4
LEAST_DISTINCT = 0.3

_WORD = re.compile(r"\w+")


def is_loop(text: str) -> bool:
    """Whether a text goes round in circles.

    Either a unit of up to 400 characters stands at least four times in a row, over 40 characters
    and a fifth of the text; or, of 60 words and more that are no numbers, less than 30 % of the
    sequences of four are distinct, which catches loops that count or vary a little. (Degeneration:
    Holtzman et al., arXiv 1904.09751; repeated n-grams: Welleck et al., arXiv 1908.04319.)
    """
    text = " ".join(text.split())[-LOOKED_AT:]
    return _repeats_a_unit(text) or _repeats_its_words(text)


def _repeats_a_unit(text: str) -> bool:
    n = len(text)
    if n < FEWEST_CHARACTERS:
        return False
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    for period in range(1, min(LONGEST_UNIT, n // FEWEST_REPEATS) + 1):
        least = max(FEWEST_CHARACTERS, FEWEST_REPEATS * period, LEAST_SHARE * n)
        different = np.flatnonzero(points[:-period] != points[period:])
        edges = np.concatenate([[-1], different, [n - period]])
        if int(np.diff(edges).max()) - 1 + period >= least:
            return True
    return False


def _repeats_its_words(text: str) -> bool:
    words = [word for word in _WORD.findall(text.casefold()) if not word.isdigit()]
    if len(words) < FEWEST_WORDS:
        return False
    runs = [tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]
    return len(set(runs)) < LEAST_DISTINCT * len(runs)
