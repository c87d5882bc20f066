"""Reading what a teacher wrote when it was asked for a list of prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from overproof.stats.shingles import fold

__all__ = [
    "UnreadableError",
    "list_words",
    "object_schema",
    "read_list",
    "read_objects",
    "unusable",
]

_FENCE = re.compile(r"```[\w-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_ENTRY = re.compile(
    r"^[ \t]*(?:\*\*)?(?:(?:prompt|version|question|variant|paraphrase)[ \t]*)?"
    r"(?:#?\d{1,3}[.):]|[-*•–](?=[ \t]))(?:\*\*)?[ \t]*(.*)$",
    re.IGNORECASE,
)
# What a list, or a habit of lists, puts before an entry that is itself one line.
_LABEL = re.compile(
    r"^(?:\d{1,3}[.)][ \t]+|(?:prompt|version|question|variant|paraphrase)[ \t]*#?\d{0,3}:[ \t]*)+",
    re.IGNORECASE,
)
# Half a surrogate pair cannot be written as UTF-8; control characters come of broken answers.
_GARBLED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffd]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("`", "`"), ("**", "**"))
# What a rewriting model says of its task (the elimination step of Evol-Instruct, section 3.2).
_MAKING = re.compile(
    r"\b(?:the )?(?:given|original|rewritten|seed|new|example|above|created) prompts?\b"
    r"|</?(?:prompt|passage)>|\bparaphrase[ds]?\b|^(?:sure|certainly|of course|here (?:are|is))\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^(?:i(?:['’]m| am) (?:sorry|unable|not able)|i (?:can(?:not|['’]t)|won['’]t)|as an ai\b"
    r"|sorry, )",
    re.IGNORECASE,
)


class UnreadableError(ValueError):
    """An answer that holds no list; the message says what is wrong with it."""


def object_schema(**fields: Any) -> dict[str, Any]:
    """The JSON Schema of an object that has exactly these fields, as strict servers want it."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


PROMPTS_SCHEMA = object_schema(prompts={"type": "array", "items": {"type": "string"}})


def list_words(count: int, structured: bool) -> str:
    """How to say in which form ``count`` prompts are wanted."""
    if structured:
        return f'Answer with a JSON object {{"prompts": [...]}} that holds {count} of them.'
    return f"Write a numbered list of {count}, one to a line, and nothing else."


def read_list(text: str, *, cut: bool = False) -> list[str]:
    """The entries of a list: JSON, a numbered or bulleted list, or else one entry a line.

    Args:
        text: the answer.
        cut: the answer ended at ``max_tokens``, so that its last entry is left out.

    Raises:
        UnreadableError: there is no entry.
    """
    value = _json_in(text)
    if value is not None:
        entries = [_text_of(entry) for entry in _entries_of(value)]
    else:
        if text.lstrip().startswith(("{", "[", "```json")):
            raise UnreadableError("the answer is broken JSON")
        entries = _lines(text)
        if cut:
            entries = entries[:-1]
    cleaned = [clean for entry in entries if (clean := _clean(entry))]
    if not cleaned:
        raise UnreadableError("the answer holds no list")
    return cleaned


def read_objects(text: str, fields: Sequence[str], *, cut: bool = False) -> list[dict[str, str]]:
    """The objects of a list: JSON, or blocks of lines ``Field: text``.

    Args:
        text: the answer.
        fields: every object must have them, none empty.
        cut: the answer ended at ``max_tokens``, so that its last block is left out.

    Raises:
        UnreadableError: no object has all the fields.
    """
    value = _json_in(text)
    found: list[dict[str, Any]] = []
    if value is not None:
        found = [entry for entry in _entries_of(value) if isinstance(entry, dict)]
    else:
        found = [*_blocks(text, fields)]
        if cut:
            found = found[:-1]
    whole = []
    for entry in found:
        lowered = {str(key).lower(): value for key, value in entry.items()}
        values = {field: _clean(_text_of(lowered.get(field, ""))) for field in fields}
        if all(values.values()):
            whole.append(values)
    if not whole:
        raise UnreadableError(f"the answer holds no list of {', '.join(fields)}")
    return whole


def unusable(text: str, longest: int, asked: str = "") -> str | None:
    """Why a text cannot be a prompt, ``None`` where it may be one.

    Args:
        text: what the teacher wrote.
        longest: characters that a prompt may have.
        asked: the words that asked for it, without the prompts they show: no echo of them is one.
    """
    if _GARBLED.search(text):
        return "is garbled"
    if sum(map(str.isalnum, text)) < 2:
        return "has no words"
    if len(text) > longest:
        return "is longer than max_chars"
    if _REFUSAL.search(text):
        return "is a refusal"
    if _MAKING.search(text):
        return "speaks of its making"
    return "echoes what was asked" if len(text) > 20 and fold(text) in fold(asked) else None


def _json_in(text: str) -> Any | None:
    """The JSON object or list that a text is, but for a few words; ``None`` where it is none."""
    fenced = _FENCE.search(text)
    for body in ([fenced[1]] if fenced else []) + [text]:
        for start in sorted(i for i in (body.find("{"), body.find("[")) if i >= 0):
            try:
                value, length = json.JSONDecoder().raw_decode(body[start:])
            except (ValueError, RecursionError):
                continue
            if _entries_of(value) and 2 * length >= len(body.strip()):
                return value
    return None


def _entries_of(value: Any) -> list[Any]:
    """A list, the first list in an object, or an object as the only entry."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for inner in value.values():
            if isinstance(inner, list):
                return inner
        return [value] if value else []
    return []


def _text_of(entry: Any) -> str:
    """An entry as text; of an object, its only text or the one named as such."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, bool) or entry is None:
        return ""
    if isinstance(entry, int | float):
        return str(entry)
    if isinstance(entry, dict):
        texts = {str(k).lower(): v for k, v in entry.items() if isinstance(v, str)}
        for name in ("prompt", "text", "instruction", "question"):
            if name in texts:
                return texts[name]
        return next(iter(texts.values()), "") if len(texts) == 1 else ""
    return ""


def _lines(text: str) -> list[str]:
    """Numbered or bulleted entries with the lines that continue them, else every line."""
    fenced = _FENCE.search(text)
    lines = (fenced[1] if fenced else text).splitlines()
    entries: list[list[str]] = []
    gap = False
    for line in lines:
        if found := _ENTRY.match(line):
            entries.append([found[1]])
            gap = False
        elif not line.strip():
            gap = True
        elif entries and not gap:
            entries[-1].append(line.rstrip())
    if entries:
        return ["\n".join(entry) for entry in entries]
    plain = [line for line in lines if line.strip()]
    # A line that announces a list is none of its entries.
    return plain[1:] if len(plain) > 1 and plain[0].rstrip().endswith(":") else plain


def _blocks(text: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """Blocks of lines ``Field: text``; each begins with the first field."""
    names = "|".join([*fields, *(field[0] for field in fields)])
    label = re.compile(
        rf"^[ \t]*(?:[-*•]|\d{{1,3}}[.)])?[ \t]*(?:\*\*)?({names})[ \t]*\d{{0,3}}(?:\*\*)?[:.)]"
        rf"(?:\*\*)?[ \t]*(.*)$",
        re.IGNORECASE,
    )
    initials = {field[0]: field for field in fields}
    blocks: list[dict[str, str]] = []
    current = ""
    for line in text.splitlines():
        if found := label.match(line):
            said = found[1].lower()
            current = initials.get(said, said)
            if current == fields[0]:
                blocks.append({})
            if blocks:
                blocks[-1][current] = found[2]
        elif blocks and current and line.strip():
            blocks[-1][current] += "\n" + line.strip()
    return blocks


def _clean(text: str) -> str:
    """Without the numbers, quotes, stars and white space that a list puts round its entries."""
    text = _SURROGATE.sub("\ufffd", text).strip()
    if "\n" not in text:
        text = _LABEL.sub("", text)
    if text.endswith(('",', "',", "”,")):
        text = text[:-1]
    for left, right in _QUOTES:
        inner = text[len(left) : -len(right)]
        if (
            len(text) > len(left) + len(right)
            and text.startswith(left)
            and text.endswith(right)
            and left not in inner
            and right not in inner
        ):
            text = inner.strip()
    return text
