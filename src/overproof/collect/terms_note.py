"""What the ledger keeps of a teacher's terms: the verdict, and the right that was attested."""

from __future__ import annotations

from overproof.clients.terms import check_terms
from overproof.config.teacher import TeacherConfig
from overproof.records.ledger import Ledger

__all__ = ["record_terms"]


def record_terms(ledger: Ledger, config: TeacherConfig) -> None:
    """Note verdict, clause and version of the terms, and the attestation, where they are new.

    Raises:
        TermsError: the teacher may not be learned from.
    """
    said = config.terms
    if said.training == "attested":
        _note_once(ledger, "attestation", {"teacher": config.model, **said.model_dump()})
    verdict = check_terms(config).model_dump(mode="json")
    _note_once(ledger, "terms", {"teacher": config.model, **verdict})


def _note_once(ledger: Ledger, name: str, body: dict[str, str]) -> None:
    known = [note for note in ledger.notes(name) if note["teacher"] == body["teacher"]]
    if not known or any(known[-1].get(key) != value for key, value in body.items()):
        ledger.note(name, body)
