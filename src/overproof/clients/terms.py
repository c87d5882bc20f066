"""May this teacher's outputs train a model? Asked before anything is spent."""

from __future__ import annotations

from typing import Literal

from overproof.clients import registry
from overproof.config.recipe import TeacherConfig
from overproof.errors import TermsError
from overproof.records.exchange import Record

__all__ = ["PERMISSIVE", "TermsVerdict", "check_terms"]

PERMISSIVE = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT"})


class TermsVerdict(Record):
    """Why this teacher may be learned from.

    ``basis``: ``licence`` (a pinned model under a permissive licence), ``stated`` (the recipe says
    that the terms allow it), ``attested`` (the user claims a right), ``not needed`` (the fake), or
    ``recorded`` (answers collected before carry their own). ``terms`` is one line for the ledger
    and the model card.
    """

    basis: Literal["licence", "stated", "attested", "not needed", "recorded"]
    licence: str
    terms: str


def check_terms(config: TeacherConfig) -> TermsVerdict:
    """Decide whether this teacher may be learned from.

    A loopback address settles nothing: the weights or the API behind it have terms too.

    Raises:
        TermsError: when nobody has said that it may.
    """
    said = config.terms
    if said.training == "attested":
        return TermsVerdict(
            basis="attested", licence=said.licence, terms=f"attested: {said.attestation}"
        )
    if said.training == "allowed":
        where = f" ({said.url})" if said.url else ""
        return TermsVerdict(
            basis="stated", licence=said.licence, terms=f"allowed, says the recipe{where}"
        )
    if config.kind == "fake":
        return TermsVerdict(basis="not needed", licence="none", terms="a stand-in, not a model")
    if config.kind == "ledger":
        return TermsVerdict(
            basis="recorded", licence=said.licence, terms="as recorded with each answer"
        )
    pinned = registry.find(config.model) if config.kind == "embedded" else None
    if pinned is not None and pinned.licence in PERMISSIVE:
        return TermsVerdict(
            basis="licence", licence=pinned.licence, terms=f"allowed by {pinned.licence}"
        )
    raise TermsError(
        f"teacher {config.model}",
        "nobody has said that its outputs may train a model",
        'read its terms, then write under [teacher.terms] either training = "allowed" with '
        'licence and url, or training = "attested" with attestation = "the right you hold"',
    )
