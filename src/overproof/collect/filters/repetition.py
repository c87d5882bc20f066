"""Answers that go round in circles: loops at the end, repeated word sequences, low information.

The share of repeated n-grams follows Rae et al., *Scaling Language Models* (arXiv:2112.11446,
A.1.1); their limits are for web pages and much stricter, and would drop tables and code.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from overproof.config.filters import Repetition
from overproof.records.text_dataset import TextExample

__all__ = ["Loop", "RepetitionFilter", "compression", "final_loop", "repeated_share"]

N = 4  # words of a sequence
FEWEST_WORDS = 50
FEWEST_CHARACTERS = 400
_TAIL = 12  # characters by which a period is found
_LOOKED_AT = 20_000  # characters at the end in which a loop is searched for
_PERIODS = 200  # periods tried

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Loop:
    """A text's end: ``unit`` again and again, ``times`` over ``characters``."""

    unit: str
    times: int
    characters: int


class RepetitionFilter:
    """Drops answers that repeat themselves."""

    def __init__(self, config: Repetition) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Loops first, then shares."""
        found = ((index, self._reason(example.answer)) for index, example in enumerate(examples))
        return {index: reason for index, reason in found if reason}

    def _reason(self, text: str) -> str:
        config = self._config
        loop = final_loop(text, config.loops, config.loop_characters)
        if loop is not None:
            return f"ends in a loop: {loop.unit[:60]!r} {loop.times} times"
        if (share := repeated_share(text)) > config.repeated:
            return f"repeats its word sequences: {share:.0%} of the {N}-grams occurred before"
        if len(text) >= FEWEST_CHARACTERS and (times := compression(text)) > config.compression:
            return f"says little: compresses {times:.1f} times"
        return ""


def final_loop(text: str, times: int = 4, characters: int = 80) -> Loop | None:
    """The loop that ``text`` ends in, of the shortest period; ``None`` where there is none.

    Args:
        text: a text; white space at its end is nothing.
        times: repeats at least.
        characters: length of all repeats together at least.
    """
    text = text.rstrip()[-_LOOKED_AT:]
    if len(text) < max(characters, _TAIL):
        return None
    tail, at = text[-_TAIL:], len(text) - _TAIL
    before = at
    for _ in range(_PERIODS):
        before = text.rfind(tail, 0, before + _TAIL - 1)
        period = at - before
        if before < 0 or period * times > len(text):
            return None
        unit = text[-period:]
        length = period
        while text.endswith(unit, 0, len(text) - length):
            length += period
        # What is left in front may be a part of the unit.
        rest = text[: len(text) - length]
        while rest and length < len(text) and rest[-1] == text[len(rest) - 1 + period]:
            rest, length = rest[:-1], length + 1
        long_enough = length >= max(times * period, characters)
        if long_enough and _WORD.search(unit):  # a rule of dashes is no loop
            return Loop(unit.strip(), length // period, length)
    return None


def repeated_share(text: str) -> float:
    """The share of word 4-grams that occurred before in ``text``; 0 below 50 words."""
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) < FEWEST_WORDS:
        return 0.0
    grams = list(zip(*(words[shift:] for shift in range(N)), strict=False))
    return 1 - len(set(grams)) / len(grams)


def compression(text: str) -> float:
    """How many times smaller zlib makes ``text``: prose 1.5 to 3, loops 10 and more."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 6)) if data else 1.0
