"""Length in characters, words or tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from overproof.clients.registry import resolve
from overproof.collect.filters.texts import part_of
from overproof.config.filters import Length
from overproof.errors import ModelError
from overproof.records.text_dataset import TextExample

__all__ = ["LengthFilter"]

_WORD = re.compile(r"\w+")
_COUNT: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(_WORD.findall(text)),
}


class LengthFilter:
    """Drops what is too short or too long."""

    def __init__(self, config: Length, home: Path) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._count = _COUNT.get(config.unit)
        if config.tokenizer:
            self._count = _token_counter(config.tokenizer, home)

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Texts outside of the limits; one whose tokens nobody counted is kept, and noted."""
        config = self._config
        reasons: dict[int, str] = {}
        unknown = 0
        for index, example in enumerate(examples):
            if self._count is not None:
                length: int | None = self._count(part_of(example, config.on))
            else:
                length = example.output_tokens
            if length is None:
                unknown += 1
            elif length < config.min:
                reasons[index] = f"{config.on} below {config.min} {config.unit}: {length}"
            elif config.max is not None and length > config.max:
                reasons[index] = f"{config.on} above {config.max} {config.unit}: {length}"
        self.notes = []
        if self._count is None:
            self.notes.append("tokens as the server counted them, reasoning included")
        if unknown:
            self.notes.append(f"{unknown} kept: the server did not count their tokens")
        return reasons


def _token_counter(name: str, home: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    path = home / name if (home / name).exists() else resolve(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare exceptions
        raise ModelError(
            str(file), f"is no tokenizer: {error}", "name a tokenizer.json or a folder with one"
        ) from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
