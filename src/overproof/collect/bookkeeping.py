"""What the ledger is told of an answer: who gave it, under which terms, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from overproof.clients.pricing import cost_usd, is_known
from overproof.clients.terms import TermsVerdict
from overproof.collect.budget import Budget
from overproof.collect.filters.protocol import Check
from overproof.collect.spending import uncertain_usd
from overproof.config.teacher import PriceConfig
from overproof.records.exchange import Completion, Exchange, Outcome, Request

__all__ = ["Bookkeeper", "checked"]


class Bookkeeper:
    """Makes exchanges.

    Args:
        teacher: its name.
        budget: for prices.
        verdict: the teacher's licence and terms, kept with every exchange.
    """

    def __init__(self, teacher: str, budget: Budget, verdict: TermsVerdict) -> None:
        self._teacher = teacher
        self._budget = budget
        self._verdict = verdict

    def lost(
        self, requests: Sequence[Request], reached: int, uncertain: int, error: str
    ) -> list[Exchange]:
        """Requests whose attempts came to no answer."""
        return [
            self.exchange(
                request,
                Completion(
                    outcome=Outcome.FAILED,
                    error=error,
                    attempts=max(reached, 1),
                    uncertain_attempts=uncertain,
                    choice=choice,
                ),
            )
            for choice, request in enumerate(requests)
        ]

    def exchange(self, request: Request, completion: Completion) -> Exchange:
        """An answer as the ledger keeps it, with what it cost."""
        budget = self._budget
        price = budget.prices.of(request.model)
        return Exchange(
            request=request,
            completion=completion,
            teacher=self._teacher,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            cost_usd=_cost(price, completion),
            uncertain_usd=uncertain_usd(
                price,
                request,
                completion.uncertain_attempts,
                completion.choice,
                batch=budget.batch,
            ),
            licence=self._verdict.licence,
            terms=self._verdict.terms,
        )


def checked(completion: Completion, check: Check | None) -> Completion:
    """The completion, malformed where ``check`` says why."""
    if check is None or completion.outcome is not Outcome.ANSWERED:
        return completion
    reason = check(completion)
    if reason is None:
        return completion
    uncounted = int(completion.usage is None)
    return completion.model_copy(
        update={
            "outcome": Outcome.MALFORMED,
            "error": reason,
            "uncertain_attempts": completion.uncertain_attempts + uncounted,
        }
    )


def _cost(price: PriceConfig, completion: Completion) -> float | None:
    """US dollars for what was counted, ``None`` where it is not known what that is worth."""
    if completion.usage is None and completion.outcome in (Outcome.FAILED, Outcome.MALFORMED):
        if not completion.uncertain_attempts and completion.outcome is Outcome.FAILED:
            return 0.0  # refused, and not billed
        return 0.0 if is_known(price) and completion.uncertain_attempts else None
    return cost_usd(price, completion.usage, batch=completion.batch is not None)
