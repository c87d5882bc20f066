r"""The final answer in a text: after ``####``, in ``\boxed{}``, between ``<answer>`` tags."""

from __future__ import annotations

import re
import unicodedata

from overproof.config.filters import Extraction

__all__ = ["final_answer", "normalised"]

_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def final_answer(text: str, config: Extraction) -> str | None:
    """The last answer in the configured form, ``None`` where there is none of that form.

    ``auto`` takes whichever form stands last, and the whole text where there is none.
    """
    if config.pattern is not None:
        groups = [match[1] for match in re.finditer(config.pattern, text)]
        return groups[-1].strip() if groups and groups[-1] is not None else None
    if config.extract == "whole":
        return text.strip()
    found = [
        place
        for form, place in (("boxed", _boxed(text)), ("tags", _last(_TAGS, text)),
                            ("hashes", _last(_HASHES, text)))
        if place is not None and config.extract in ("auto", form)
    ]  # fmt: skip
    if found:
        return max(found)[1].strip()
    return text.strip() if config.extract == "auto" else None


def normalised(answer: str) -> str:
    """An answer as votes are counted: without case, outer punctuation and the forms of a number.

    ``$1,000.00`` and ``1000`` are one answer; ``1000`` and ``1000 apples`` are two.
    """
    folded = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    folded = re.sub(r"^(?:\\text\{(.*)\}|\\mathrm\{(.*)\})$", r"\1\2", folded)
    folded = _THOUSANDS.sub("", folded.strip("$*_`'\" ").rstrip(".!;,").strip("$*_`'\" "))
    if _NUMBER.fullmatch(folded):
        sign = "-" if folded.startswith("-") else ""
        whole, _, part = folded.lstrip("+-").partition(".")
        whole, part = whole.lstrip("0") or "0", part.rstrip("0")
        folded = sign + whole + (f".{part}" if part else "")
        return "0" if folded == "-0" else folded
    return folded


def _last(pattern: re.Pattern[str], text: str) -> tuple[int, str] | None:
    found = list(pattern.finditer(text))
    return (found[-1].start(), found[-1][1]) if found else None


def _boxed(text: str) -> tuple[int, str] | None:
    r"""The last whole ``\boxed{...}``; braces nest."""
    for begin in reversed([match.start() for match in re.finditer(r"\\(?:f)?boxed\s*\{", text)]):
        opened = text.index("{", begin)
        depth = 0
        for place in range(opened, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return begin, text[opened + 1 : place]
    return None
