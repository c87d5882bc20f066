"""What a request asks for, from its text alone: the traits that a sketch keeps.

Pure and deterministic; linear in a text that is capped first. None of the traits can be turned
back into text.
"""

from __future__ import annotations

import msgspec

from overproof.guard.text.capability import capability_of
from overproof.guard.text.heads import read_heads
from overproof.guard.text.language import language_of
from overproof.guard.text.spotting import body_of
from overproof.guard.text.technique import technique_of

__all__ = ["Traits", "text_traits"]


class Traits(msgspec.Struct, frozen=True, gc=False):
    """Traits of one request's text.

    Attributes:
        elicitation: how much it asks for reasoning to be written out, 0 to 1.
        rubric: how much it asks for an answer to be graded, 0 to 1.
        synthesis: how much it asks for training data, 0 to 1.
        technique: an index into ``TECHNIQUES``; 0 none.
        capability: an index into ``CAPABILITIES``.
        language: ISO 639-1; "" where it cannot be told.
    """

    elicitation: float
    rubric: float
    synthesis: float
    technique: int
    capability: int
    language: str


def text_traits(system: str, turn: str) -> Traits:
    """The traits of a system prompt and the last user turn; either may be empty.

    Of long texts it reads the first 384 bytes of the system prompt, and the first 576 and the last
    448 of the turn. Give it the text as it was sent: letters' case and punctuation are folded here.

    Raises:
        HashMismatchError: the lexicon or the weights are not those that were measured.
    """
    heads = read_heads()
    body = body_of(system, turn)
    hits = heads.lexicon.spot(body)
    of = heads.by_name
    elicitation, rubric, synthesis, technique = heads.odds(body, hits)
    return Traits(
        of["elicitation"].probability(elicitation),
        of["rubric"].probability(rubric),
        of["synthesis"].probability(synthesis),
        technique_of(heads.lexicon, hits, body, likely=technique > 0),
        capability_of(heads.lexicon, hits, turn),
        language_of(turn or system),
    )
