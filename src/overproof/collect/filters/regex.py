"""Regular expressions that a text must, or must not, match."""

from __future__ import annotations

import re
from collections.abc import Sequence

from overproof.collect.filters.texts import part_of
from overproof.config.filters import Regex
from overproof.records.text_dataset import TextExample

__all__ = ["RegexFilter"]


class RegexFilter:
    """Drops texts by patterns, searched for anywhere in them."""

    def __init__(self, config: Regex) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        flags = re.IGNORECASE if config.ignore_case else re.NOFLAG
        self._on = config.on
        self._must = [re.compile(pattern, flags) for pattern in config.must]
        self._must_not = [re.compile(pattern, flags) for pattern in config.must_not]

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """The first pattern that speaks against a text is its reason."""
        reasons: dict[int, str] = {}
        for index, example in enumerate(examples):
            text = part_of(example, self._on)
            missing = next((p for p in self._must if not p.search(text)), None)
            found = next((m for p in self._must_not if (m := p.search(text))), None)
            if missing:
                reasons[index] = f"{self._on} without a match of {missing.pattern}"
            elif found:
                reasons[index] = (
                    f"{self._on} matches {found.re.pattern}: {found[0][:60]!r} at {found.start()}"
                )
        return reasons
