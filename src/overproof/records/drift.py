"""Whether a teacher stayed the same during a run: versions seen, canaries asked again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from overproof.records.exchange import Exchange, Outcome, Record, Request

__all__ = ["CANARY_SAMPLE", "DriftReport", "VersionSeen", "is_canary", "versions_of"]

CANARY_SAMPLE = 1_000_000
"""The first sample number of canaries: no task draws so many answers to one prompt."""


class VersionSeen(Record):
    """A version that a teacher said it was, in answer to requests for the model ``asked``.

    ``first`` and ``last`` are ISO 8601 in UTC: when its first and its last answer came.
    """

    teacher: str
    asked: str
    model: str | None
    fingerprint: str | None
    answers: int
    first: str
    last: str

    @property
    def name(self) -> str:
        """Model and fingerprint, as far as the teacher told them."""
        told = self.model or "a model without a name"
        return f"{told} ({self.fingerprint})" if self.fingerprint else told


class DriftReport(Record):
    """What is known about change in a teacher while it was asked.

    ``canaries`` prompts were asked again in ``rounds`` rounds after the baseline. ``changed`` is
    ``yes`` where the teacher named another version in the course of the run, or where the p-value
    is at most ``alpha``, the share of runs without a change in which that happens by chance;
    ``cannot say`` where ``smallest_p``, the least that so few answers can give, is above it.
    """

    canaries: int
    rounds: int
    changed: Literal["yes", "no", "cannot say"]
    p_value: float | None = None
    smallest_p: float | None = None
    alpha: float
    versions: tuple[VersionSeen, ...] = ()
    statements: tuple[str, ...] = ()


def is_canary(request: Request) -> bool:
    """Whether a request was asked to watch for drift, and is no part of a dataset."""
    return request.sample >= CANARY_SAMPLE


def versions_of(exchanges: Iterable[Exchange]) -> tuple[VersionSeen, ...]:
    """Every version that answered, by teacher and model asked, in the order of their first answer.

    Answers that were imported, and failures, which come from nobody, are left out.
    """
    seen: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    for exchange in exchanges:
        completion = exchange.completion
        told = completion.model is not None or completion.system_fingerprint is not None
        if exchange.source != "collected" or (completion.outcome is Outcome.FAILED and not told):
            continue
        key = (
            exchange.teacher,
            exchange.request.model,
            completion.model,
            completion.system_fingerprint,
        )
        times = seen.setdefault(key, ["0", exchange.created_at, exchange.created_at])
        times[0] = str(int(times[0]) + 1)
        times[1] = min(times[1], exchange.created_at)
        times[2] = max(times[2], exchange.created_at)
    versions = [
        VersionSeen(
            teacher=teacher,
            asked=asked,
            model=model,
            fingerprint=fingerprint,
            answers=int(count),
            first=first,
            last=last,
        )
        for (teacher, asked, model, fingerprint), (count, first, last) in seen.items()
    ]
    return tuple(sorted(versions, key=lambda version: version.first))
