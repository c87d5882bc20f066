"""Between a log that is handed in and its commitment: sealing it, and holding it against that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from overproof.audit.commitments import (
    CommitmentCheck,
    IndexOpening,
    Integrity,
    Marks,
    SealedRequest,
    seal_request,
)
from overproof.audit.served import Answer, ServedRequest

__all__ = ["held_against", "marks_of", "name_of", "seal_served"]


def _in_order(request: ServedRequest) -> list[Answer]:
    """All answers in the order of generation."""
    answers = list(request.ghosts)
    answers.insert(request.position or 0, request.served)
    return answers


def name_of(request: ServedRequest, place: int) -> str:
    """The id that a request is committed under: its own, or its place in the log."""
    return f"request {place + 1}" if request.id == request.where else request.id


def marks_of(request: ServedRequest) -> Marks:
    """What decides whether and how a request counts, beside its texts."""
    answers = _in_order(request)
    return Marks(
        cached=request.cached,
        retries=request.retries,
        tokens=_stated([answer.tokens for answer in answers]),
        finish_reasons=_stated([answer.finish_reason for answer in answers]),
        teacher=_stated([answer.logprobs.get("teacher") for answer in answers]),
    )


def _stated(values: Sequence[Any]) -> tuple[Any, ...]:
    return () if all(value is None for value in values) else tuple(values)


def seal_served(opening: IndexOpening, request: ServedRequest, place: int) -> SealedRequest:
    """Seal a request with everything that its commitment covers.

    Args:
        opening: of the slot that it used.
        request: with its position.
        place: in the log, from 0.

    Raises:
        ValueError: not as many answers as the slot was drawn for.
    """
    texts = [answer.text for answer in _in_order(request)]
    return seal_request(
        opening, name_of(request, place), request.prompt, texts, request.group, marks_of(request)
    )


def held_against(
    requests: Sequence[ServedRequest], check: CommitmentCheck, sealed: Sequence[SealedRequest]
) -> CommitmentCheck:
    """The check of a log that was handed in beside its commitment: is it the committed one?

    Compared are the id, the prompt, the answers in their order, the position, the group and the
    marks: cached, retries, reasons of ending, the teacher's log-probs, and lengths in tokens. Those
    of a suspect or a reference come later and are not; nor are lengths where none were committed,
    which come with them. A commitment of the older form says nothing of marks.

    Args:
        requests: as handed in.
        check: of the sealed log, by `commitments.verify_log`.
        sealed: the opened log.
    """
    if check.integrity is Integrity.ALTERED:
        return check
    for place, (request, committed) in enumerate(zip(requests, sealed, strict=False)):
        what = _difference(request, committed, place, check.covers_marks)
        if what:
            return replace(
                check, integrity=Integrity.ALTERED, first_altered=request.where,
                reason=f"the log handed in is not the committed one: another {what}",
            )  # fmt: skip
    if len(requests) != len(sealed):
        reason = f"{len(requests)} request(s) handed in, {len(sealed)} were committed"
        return replace(check, integrity=Integrity.ALTERED, reason=reason)
    return check


def _difference(
    request: ServedRequest, committed: SealedRequest, place: int, has_marks: bool
) -> str:
    """What differs first, in words; empty where nothing does."""
    texts = tuple(answer.text for answer in _in_order(request))
    marks, theirs = marks_of(request), committed.marks
    pairs: list[tuple[str, Any, Any]] = [
        ("id", committed.id in (request.id, name_of(request, place)), True),
        ("prompt", request.prompt, committed.prompt),
        ("answer", texts, committed.answers),
        ("position", request.position, committed.index.served),
        ("group", request.group, committed.group),
    ]
    if has_marks:
        pairs += [
            ("mark as cached", marks.cached, theirs.cached),
            ("number of retries", marks.retries, theirs.retries),
            ("reason of ending", marks.finish_reasons, theirs.finish_reasons),
            ("log-prob of the teacher", marks.teacher, theirs.teacher),
        ]
        if theirs.tokens:
            pairs.append(("length in tokens", marks.tokens, theirs.tokens))
    return next((what for what, ours, held in pairs if ours != held), "")
