"""The recipe's caps, kept over the whole run: whatever may be spent is reserved beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from overproof.clients.pricing import cost_usd, price_of
from overproof.config.recipe import PriceConfig, Recipe
from overproof.errors import BudgetError
from overproof.records.exchange import Exchange, Request, Usage

__all__ = ["Budget", "worst_case_usd"]

# Role, separators and the like: what a chat template adds to a message.
TOKENS_AROUND_A_MESSAGE = 16


def worst_case_usd(price: PriceConfig, request: Request) -> float | None:
    """The most that a request can cost in US dollars, ``None`` where the price is unknown.

    A tokenizer of bytes makes at most one token of a byte, and the answer at most ``max_tokens``.
    """
    around = TOKENS_AROUND_A_MESSAGE * len(request.messages)
    tokens = around + sum(len(m.content.encode(errors="replace")) for m in request.messages)
    price = price.model_copy(update={"cached_input": None})
    usage = Usage(input_tokens=tokens, output_tokens=request.parameters.max_tokens)
    return cost_usd(price, usage)


class Budget:
    """Calls and money of a run, those of earlier sessions included.

    Args:
        recipe: for the caps and the price.
        exchanges: the run's ledger; what was collected counts, what was imported does not. An
            exchange of unknown cost counts at its worst case.
    """

    def __init__(self, recipe: Recipe, exchanges: Iterable[Exchange]) -> None:
        self._caps = recipe.budget
        self._price = price_of(recipe.teacher)
        self._calls = 0
        self._usd = 0.0
        if self._caps.max_calls is None and self._caps.max_cost_usd is None:
            return
        for exchange in exchanges:
            if exchange.source == "collected":
                known = exchange.cost_usd
                worst = worst_case_usd(self._price, exchange.request) if known is None else known
                self._calls += 1
                self._usd += worst or 0.0

    @property
    def problem(self) -> BudgetError | None:
        """Why the cap on money cannot be kept, ``None`` where it can or there is none."""
        price, cap = self._price, self._caps.max_cost_usd
        if cap is None or None not in (price.input, price.output):
            return None
        return BudgetError(
            f"budget.max_cost_usd = {cap:g}",
            "cannot be kept: the teacher's price is unknown",
            "state input and output in [teacher.price], or remove the cap",
        )

    def reserve(self, request: Request) -> float | None:
        """Reserve the worst case of one request.

        Returns:
            The US dollars reserved, or ``None`` where the money does not suffice while so much is
            reserved for others; ``exhausted`` words it.

        Raises:
            BudgetError: the cap on calls is reached, or the cap on money cannot be kept.
        """
        if self.problem is not None:
            raise self.problem
        calls, cap = self._caps.max_calls, self._caps.max_cost_usd
        if calls is not None and self._calls >= calls:
            raise BudgetError(
                f"budget.max_calls = {calls}",
                f"is reached: the run has made {self._calls} calls",
                "raise it and run the same command again: every answer so far is in the ledger",
            )
        worst = worst_case_usd(self._price, request) or 0.0
        if cap is not None and self._usd + worst > cap:
            return None
        self._calls += 1
        self._usd += worst
        return worst

    def settle(self, reserved: float, cost: float | None) -> None:
        """Put the actual cost in place of the reservation, which stays where it is unknown."""
        if cost is not None:
            self._usd += cost - reserved

    def release(self, reserved: float) -> None:
        """Give a reservation back: the request was never answered, nor recorded."""
        self._calls -= 1
        self._usd -= reserved

    def exhausted(self, request: Request) -> BudgetError:
        """The error for a request that the money does not suffice for."""
        worst = worst_case_usd(self._price, request) or 0.0
        return BudgetError(
            f"budget.max_cost_usd = {self._caps.max_cost_usd:g}",
            f"would be passed: ${self._usd:.4f} are spent, and the next request can cost up to "
            f"${worst:.4f}",
            "raise it and run the same command again: every answer so far is in the ledger",
        )
