"""Language, by py3langid's naive Bayes over byte n-grams (Lui and Baldwin, ACL 2012)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from overproof.collect.filters.texts import part_of
from overproof.config.filters import Language
from overproof.errors import ConfigError
from overproof.records.text_dataset import TextExample

__all__ = ["LanguageFilter"]

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", re.DOTALL)
LETTERS = 0.75  # of what is not white space: code, tables and formulas have fewer
LONGEST = 240  # characters that are looked at: more change no verdict, and cost time


class LanguageFilter:
    """Drops texts that are surely in another language."""

    def __init__(self, config: Language) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._identifier = _identifier()
        known = set(self._identifier.labels)
        if unknown := sorted(set(config.allowed) - known):
            raise ConfigError(
                "filters.language.allowed",
                f"{unknown[0]!r} is no language that can be told",
                f"known: {', '.join(sorted(known))}",
            )

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Texts of another language; short and doubtful ones are kept, and counted in a note."""
        config = self._config
        reasons: dict[int, str] = {}
        kept: Counter[str] = Counter()
        for index, example in enumerate(examples):
            prose = " ".join(_CODE.sub(" ", part_of(example, config.on)).split())[:LONGEST]
            letters = sum(map(str.isalpha, prose))
            if letters < config.min_characters:
                kept["too short to tell"] += 1
                continue
            if letters < LETTERS * (len(prose) - prose.count(" ")):
                kept["too few letters for prose"] += 1
                continue
            language, confidence = self._identifier.classify(prose)
            if language in config.allowed:
                continue
            if confidence < config.min_confidence:
                kept["too doubtful to tell"] += 1
            else:
                reasons[index] = f"{config.on} is in {language}: confidence {confidence:.2f}"
        self.notes = [f"{count} kept: {why}" for why, count in sorted(kept.items())]
        return reasons


@cache
def _identifier() -> Any:
    """One of our own: the library's shared one is open to anybody's settings."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
