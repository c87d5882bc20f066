"""May this teacher's outputs train a model? Asked before anything is spent. No legal advice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NoReturn

from overproof.clients.pricing import host_of
from overproof.clients.terms_list import (
    TermsEntry,
    of_host,
    of_licence,
    of_model_name,
    read_terms,
    strictest,
)
from overproof.clients.weights_licence import licence_of_weights
from overproof.config.teacher import TeacherConfig
from overproof.errors import TermsError
from overproof.records.exchange import Record

__all__ = ["TermsVerdict", "check_terms", "of_answers", "refusal"]

_WEIGHTS = ("embedded", "local")
_ATTEST = (
    'read them; if you hold a right, write under [teacher.terms] training = "attested" with '
    'attestation = "the right you hold"'
)


class TermsVerdict(Record):
    """Why this teacher may be learned from.

    ``basis``: ``licence`` (weights under a licence that allows it), ``terms`` (the provider's terms
    allow it), ``stated`` (the recipe says that the terms allow it), ``attested`` (the user claims a
    right), ``not needed`` (the fake), or ``recorded`` (answers collected before carry their own).
    ``terms`` is one line for the ledger and the model card. ``terms_say`` is what the known terms
    say of training, ``clause`` and ``source`` are their words and document, ``terms_version`` the
    date and hash of the file that they stand in.
    """

    basis: Literal["licence", "terms", "stated", "attested", "not needed", "recorded"]
    licence: str
    terms: str
    terms_say: Literal["yes", "no", "conditions", "unknown"] = "unknown"
    clause: str = ""
    source: str = ""
    attestation: str = ""
    terms_version: str = ""


def check_terms(config: TeacherConfig) -> TermsVerdict:
    """Decide whether this teacher may be learned from.

    The host's terms, the licence of weights and what a model's name gives away are all looked up;
    the strictest counts. What forbids or asks for conditions yields to an attestation alone, not to
    ``training = "allowed"``. A loopback address settles nothing: the weights or the API behind it
    have terms too.

    Raises:
        TermsError: it may not, or nobody has said that it may.
        ConfigError: the file of terms cannot be read.
    """
    said = config.terms
    entries, licence, unknown = _known(config)
    worst = strictest(entries)
    about = {
        "terms_version": read_terms().version,
        "terms_say": worst.verdict if worst else "unknown",
        "clause": worst.says if worst else "",
        "source": worst.source if worst else "",
        "attestation": said.attestation,
    }

    def verdict(basis: str, terms: str) -> TermsVerdict:
        found = {"basis": basis, "licence": licence, "terms": terms, **about}
        return TermsVerdict.model_validate(found)

    if said.training == "attested":
        return verdict("attested", f"attested: {said.attestation}")
    if worst is not None and worst.verdict != "yes":
        refusal(f"teacher {config.model}", worst)
    if said.training == "allowed":
        where = f" ({said.url})" if said.url else ""
        return verdict("stated", f"allowed, says the recipe{where}")
    if config.kind == "fake":
        return verdict("not needed", "a stand-in, not a model")
    if config.kind == "ledger":
        return verdict("recorded", "as recorded with each answer")
    if worst is not None and not unknown:
        if config.kind in _WEIGHTS:
            return verdict("licence", f"allowed by {licence}")
        return verdict("terms", f"allowed by {worst.what}, {worst.as_of}")
    named = f"; nothing is known of its licence {unknown[0]!r}" if unknown else ""
    raise TermsError(
        f"teacher {config.model}",
        f"nobody has said that its outputs may train a model{named}",
        'read its terms, then write under [teacher.terms] either training = "allowed" with '
        'licence and url, or training = "attested" with attestation = "the right you hold"',
    )


def of_answers(model: str, licence: str) -> list[TermsEntry]:
    """What is known of answers in a log, by the model that gave them and the licence it names.

    Which host answered is not known, so only what forbids or asks for conditions is of use.
    """
    named = of_licence(licence) if licence != "unknown" else []
    found = [*of_model_name(model, weights=False), *named]
    return [entry for entry in dict.fromkeys(found) if entry.verdict != "yes"]


def refusal(culprit: str, entry: TermsEntry) -> NoReturn:
    """Refuse a teacher under terms that are known.

    Raises:
        TermsError: always.
    """
    if entry.verdict == "unknown":
        raise TermsError(
            culprit,
            f"is governed by {entry.what} ({entry.source}), which overproof knows of and has not "
            "read: whether its outputs may train a model is unknown",
            _ATTEST,
        )
    if entry.verdict == "conditions":
        raise TermsError(
            culprit,
            f"may train a model on a condition only: {entry.needs}. {entry.says} ({entry.source})",
            'if you meet it, write under [teacher.terms] training = "attested" with attestation = '
            '"how you meet it"',
        )
    raise TermsError(
        culprit,
        f'forbids it: {entry.says} ({entry.source}); training = "allowed" does not override that',
        _ATTEST,
    )


def _known(config: TeacherConfig) -> tuple[Sequence[TermsEntry], str, Sequence[str]]:
    """What is known of a teacher: entries, licence, and names of licences that are not known."""
    said = config.terms.licence
    if config.kind in _WEIGHTS:
        found = licence_of_weights(config)
        licence = "; ".join(found.names) or said
        return found.entries, licence, found.unknown
    if config.kind in ("fake", "ledger"):
        return (), "none" if config.kind == "fake" and said == "unknown" else said, ()
    by_host = of_host(host_of(config))
    by_name = of_model_name(config.model, weights=False)
    named: Iterable[TermsEntry] = of_licence(said) if said != "unknown" else ()
    if not by_host:
        # Whoever serves a model may forbid what its licence allows, so a licence alone permits
        # nothing here; what it forbids, it forbids everywhere.
        by_name = [entry for entry in by_name if entry.verdict != "yes"]
        named = [entry for entry in named if entry.verdict != "yes"]
    return tuple(dict.fromkeys([*by_host, *by_name, *named])), said, ()
