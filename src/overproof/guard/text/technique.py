"""Which known way round a refusal a text uses.

The trained head ``technique`` says whether it uses any; the concepts it names say which. Names
follow the surveys of jailbreaks (Wei et al., arXiv 2307.02483; Shen et al., arXiv 2308.03825).
"""

from __future__ import annotations

from typing import Final

from overproof.guard.text.spotting import Hits, Lexicon

__all__ = ["TECHNIQUES", "technique_of"]

TECHNIQUES: Final = (
    "none",
    "persona without rules",
    "forced prefix",
    "encoding",
    "translation",
    "fiction",
    "many-shot",
    "payload splitting",
    "refusal suppression",
    "instruction override",
    "pretext",
    "prompt extraction",
    "double answer",
)
# The telling ones first: a persona prompt nearly always suppresses refusals as well.
_ORDER = (
    ("leak", 11),
    ("double", 12),
    ("encoding", 3),
    ("splitting", 7),
    ("prefix", 2),
    ("role", 1),
    ("override", 9),
    ("unlocked", 9),
    ("translation", 4),
    ("pretext", 10),
    ("fiction", 5),
    ("suppression", 8),
    ("pretend", 1),
    ("obey", 8),
)
_SHOTS = 8  # turns of a dialogue written into one prompt
_SMUGGLED = 8  # characters that a reader cannot see
_UNSEEN = (b"\xf3\xa0\x80", b"\xf3\xa0\x81", b"\xe2\x80\x8b", b"\xe2\x81\xa0")


def technique_of(lexicon: Lexicon, hits: Hits, body: bytes, *, likely: bool) -> int:
    """An index into `TECHNIQUES`; 0 where the text uses none.

    Args:
        lexicon: what ``hits`` were found with.
        hits: the text's concepts.
        body: the text as it was read.
        likely: what the trained head says.
    """
    if not body.isascii() and sum(map(body.count, _UNSEEN)) >= _SMUGGLED:
        return 3
    if (
        body.count(b"assistant ") >= _SHOTS
        and body.count(b"user ") + body.count(b"human ") >= _SHOTS
    ):
        return 6
    if not likely:
        return 0
    place = lexicon.place
    for name, technique in _ORDER:
        if hits.total >> place[f"technique.{name}"] & 1:
            return technique
    return 0
