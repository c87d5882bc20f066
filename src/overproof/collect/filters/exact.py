"""Exact duplicates: the same text up to Unicode form, case and white space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from overproof.collect.filters.texts import answered
from overproof.config.filters import ExactDuplicates
from overproof.records.text_dataset import TextExample
from overproof.stats.shingles import fold

__all__ = ["Exact"]


class Exact:
    """Keeps the first of equal examples. How to write a filter: this is all there is to it."""

    def __init__(self, config: ExactDuplicates) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._on = config.on

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Later examples of the same text. Samples of one prompt never repeat its prompt."""
        first: dict[tuple[str, ...], TextExample] = {}
        reasons: dict[int, str] = {}
        for index, example in enumerate(examples):
            known = first.setdefault(self._key(example), example)
            same_prompt = self._on == "prompt" and known.item == example.item
            if known is not example and not same_prompt:
                what = "prompt and answer" if self._on == "both" else self._on
                where = f"sample {known.sample} of {known.item}"
                reasons[index] = f"same {what} as an earlier example: {where}"
        return reasons

    def _key(self, example: TextExample) -> tuple[str, ...]:
        prompt = [f"{message.role} {_digest(message.content)}" for message in example.messages]
        answer = [_digest(answered(example))]
        return tuple({"prompt": prompt, "answer": answer, "both": prompt + answer}[self._on])


def _digest(text: str) -> str:
    """Of the folded text; an answer may hold half of a surrogate pair."""
    return hashlib.sha256(fold(text).encode("utf-8", "surrogatepass")).hexdigest()
