"""What a run has spent, and could have at most: calls, tokens and US dollars together."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.clients.pricing import cost_usd
from overproof.clients.worst_case import worst_usage
from overproof.config.teacher import PriceConfig
from overproof.records.exchange import Exchange, Outcome, Request, Usage

__all__ = ["NOTHING", "Spending", "most_of", "spent_on", "uncertain_usd", "worst_case_usd"]

_USABLE = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FILTERED)


@dataclass(frozen=True, slots=True)
class Spending:
    """Calls, tokens (in and out together) and US dollars."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)

    def times(self, factor: int) -> Spending:
        """So many times as much."""
        return Spending(self.calls * factor, self.tokens * factor, self.usd * factor)

    def at_least_nothing(self) -> Spending:
        """Each part, or 0 where it is less."""
        return Spending(max(self.calls, 0), max(self.tokens, 0), max(self.usd, 0.0))

    def within(self, other: Spending) -> bool:
        """Whether no part is more than the other's."""
        return self.calls <= other.calls and self.tokens <= other.tokens and self.usd <= other.usd


NOTHING = Spending()


def worst_case_usd(
    price: PriceConfig, request: Request, choices: int = 1, *, batch: bool = False
) -> float | None:
    """The most that a call can cost in US dollars, ``None`` where the price is unknown.

    See ``worst_usage`` for its tokens. Each counts at the dearest that it can turn out to be:
    fresh, cached or written to a cache; reasoning or answer.
    """
    return _worst_usd(price, worst_usage(request, choices), batch=batch)


def most_of(
    price: PriceConfig, request: Request, choices: int = 1, *, batch: bool = False
) -> Spending:
    """The most that one attempt can spend; an unknown price counts as none."""
    worst = worst_usage(request, choices)
    usd = _worst_usd(price, worst, batch=batch)
    return Spending(1, worst.input_tokens + worst.output_tokens, usd or 0.0)


def uncertain_usd(
    price: PriceConfig, request: Request, attempts: int, choice: int = 0, *, batch: bool = False
) -> float:
    """What attempts of unknown billing may have cost one choice of a call at most, in US dollars.

    The first choice bears the prompt; an unknown price counts as none.
    """
    if not attempts:
        return 0.0
    return attempts * (_worst_usd(price, _worst_share(request, choice), batch=batch) or 0.0)


def spent_on(price: PriceConfig, exchange: Exchange) -> Spending:
    """What an exchange of the ledger spent, at most where nobody counted.

    The choices of one call share its input, its usage and its attempts, which stand with the
    first.
    """
    completion = exchange.completion
    usage, choice = completion.usage, completion.choice
    uncounted = _is_uncounted(exchange)
    blind = completion.uncertain_attempts + uncounted
    tokens = 0 if usage is None else usage.input_tokens + usage.output_tokens
    usd = exchange.uncertain_usd + (exchange.cost_usd or 0.0)
    if blind:
        worst = _worst_share(exchange.request, choice)
        tokens += blind * (worst.input_tokens + worst.output_tokens)
        unpriced = uncounted if exchange.cost_usd is None else 0
        batch = completion.batch is not None
        usd += uncertain_usd(price, exchange.request, unpriced, choice, batch=batch)
    return Spending(0 if choice else completion.attempts, tokens, usd)


def _worst_share(request: Request, choice: int) -> Usage:
    worst = worst_usage(request)
    return Usage(output_tokens=worst.output_tokens) if choice else worst


def _is_uncounted(exchange: Exchange) -> bool:
    """Whether an answer without usage, or a failure in an older ledger, took uncounted tokens."""
    completion = exchange.completion
    if completion.usage is not None:
        return False
    old = exchange.cost_usd is None and completion.uncertain_attempts == 0
    return completion.outcome in _USABLE or old


def _worst_usd(price: PriceConfig, worst: Usage, *, batch: bool) -> float | None:
    """The dearest of the kinds that these tokens can turn out to be.

    The cost is linear in each kind, so it is highest where all tokens are of one kind. A prompt
    shorter than feared may miss the price for long ones, which may be lower in a part.
    """
    n_in, n_out = worst.input_tokens, worst.output_tokens
    costs = [
        cost_usd(each, worst.model_copy(update=kind | thought), batch=batch)
        for each in (
            [price] if price.long is None else [price, price.model_copy(update={"long": None})]
        )
        for kind in ({}, {"cached_tokens": n_in}, {"cache_write_tokens": n_in})
        for thought in ({}, {"reasoning_tokens": n_out})
    ]
    known = [cost for cost in costs if cost is not None]
    return max(known, default=None)
