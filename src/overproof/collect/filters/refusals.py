"""Answers that decline. The phrases, by language, stand in ``refusals.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from overproof.config.filters import Refusals
from overproof.records.text_dataset import TextExample

__all__ = ["RefusalFilter", "refusal_in"]

PHRASES_FILE = Path(__file__).with_name("refusals.toml")
LOOKED_AT = 400  # characters of what a sentence begins with

_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "*": None})  # bold, too
_DECORATION = re.compile(r"^[\s_#>\"'“”«»•\-–—]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


class RefusalFilter:
    """Drops answers that begin by declining, whatever their outcome says."""

    def __init__(self, config: Refusals) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._short = config.short
        self._more = [re.compile(phrase, re.IGNORECASE) for phrase in config.phrases]

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Answers in which a phrase was found; one that calls a tool has done something."""
        reasons: dict[int, str] = {}
        for index, example in enumerate(examples):
            if example.tool_calls:
                continue
            found = refusal_in(example.answer, self._short, self._more)
            if found is not None:
                language, said = found
                reasons[index] = f"declines ({language}): {said[:80]!r}"
        return reasons


def refusal_in(
    answer: str, short: int = 300, more: Sequence[re.Pattern[str]] = ()
) -> tuple[str, str] | None:
    """Language and wording of a refusal at the start of ``answer``, ``None`` where there is none.

    Args:
        answer: the text.
        short: an answer of up to that many characters is searched sentence by sentence.
        more: patterns besides those of the file; their language is ``own``.
    """
    text = answer.translate(_QUOTES).strip()
    pieces = _SENTENCE.split(text) if len(text) <= short else []
    for piece in (text, *pieces[1:]):
        start = re.sub(r"\s+", " ", _DECORATION.sub("", piece[: 2 * LOOKED_AT]))[:LOOKED_AT]
        for begun in _beginnings(start):
            for language, pattern in (*_phrases(), *(("own", own) for own in more)):
                if found := pattern.match(begun):
                    return language, found[0]
    return None


def _beginnings(text: str) -> list[str]:
    """The text, and what is left once an opening apology is taken away."""
    found = [text]
    for apology in _apologies():
        if (match := apology.match(text)) and match.end():
            found.append(text[match.end() :])
    return found


@cache
def _apologies() -> tuple[re.Pattern[str], ...]:
    said = tomllib.loads(PHRASES_FILE.read_text(encoding="utf-8"))
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in said["apologies"])


@cache
def _phrases() -> tuple[tuple[str, re.Pattern[str]], ...]:
    said = tomllib.loads(PHRASES_FILE.read_text(encoding="utf-8"))
    return tuple(
        (language, re.compile(pattern, re.IGNORECASE))
        for language, patterns in said["phrases"].items()
        for pattern in patterns
    )
