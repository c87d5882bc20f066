"""Texts and chats that exports are proved on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = ["CHATS", "TEXTS", "SampleChat", "sample_chats"]


@dataclass(frozen=True)
class SampleChat:
    """Messages as chat templates take them, and an answer to them."""

    messages: tuple[dict[str, str], ...]
    answer: str


def _asked(text: str, answer: str, system: str = "") -> SampleChat:
    said = ({"role": "system", "content": system},) if system else ()
    return SampleChat((*said, {"role": "user", "content": text}), answer)


CHATS = (
    _asked("What is 12 + 30?", "12 + 30 is 42."),
    _asked("Name three primary colours.", "Red, yellow and blue.", "Answer briefly."),
    _asked("Spell 'straße' backwards.", "eßarts"),
    _asked('Give {"city": "Oslo"} as YAML.', "city: Oslo\n"),
)
# Where tokenizers differ: digits, runs of white space, contractions in capitals, scripts, joined
# emoji, control characters, and the names of special tokens are left to the chats.
TEXTS = (
    "",
    " ",
    "Hello, world!",
    "  two before, two after  ",
    "tabs\tand\n\nlines\r\n  indented\n\n\n   deep",
    "1 12 123 1234 12345 3.14159 1,000,000 ½ ² Ⅷ ٣٤٥",
    "I'll, I'LL, they're, THEY'RE, 'tis; don't'd've",
    "snake_case camelCase kebab-case a.b.c() != [x] {y} <z> &amp; #1 @me $5 50%",
    "naïve café façade Ærøskøbing Ελληνικά русский язык",
    "汉字かな交じり文、한국어 텍스트。 ไทย हिन्दी العربية עברית",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇳🇴 👍🏽 🚀🚀",
    "\u00a0no-break\u2003em\u200bzero\ufeffbom\u2028line",
    "a" * 64 + " " * 17 + "b",
    "<tag attr='1'>&nbsp;</tag> `code` ```py\nx = 1\n```",
    "\x00\x01\x7f control",
)


def sample_chats(directory: Path, most: int = 8) -> tuple[SampleChat, ...]:
    """Chats of the run that a student's directory belongs to, else a few of our own.

    They come from ``RUN/dataset/tune.jsonl`` and ``train.jsonl``, never from the test split.
    """
    for split in ("tune", "train"):
        path = directory.resolve().parent.parent / "dataset" / f"{split}.jsonl"
        if path.is_file():
            with path.open(encoding="utf-8") as stream:
                found = [_chat_of(json.loads(line)) for line in islice(stream, most * 4)]
            if chats := [chat for chat in found if chat is not None][:most]:
                return tuple(chats)
    return CHATS


def _chat_of(row: dict[str, Any]) -> SampleChat | None:
    """A line of the chat format; none with tools, which engines render each in its own way."""
    *before, last = row["messages"]
    if row.get("tools") or not before or not last.get("content"):
        return None
    if any(m["role"] not in ("system", "user", "assistant") for m in before):
        return None
    plain = tuple({"role": m["role"], "content": m["content"]} for m in before)
    return SampleChat(plain, last["content"])
