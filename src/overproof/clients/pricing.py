"""What an answer costs in API money. An unknown price stays unknown; it never becomes zero."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from overproof.clients.price_list import ListedPrice, listed_price
from overproof.config.teacher import PriceConfig, TeacherConfig
from overproof.records.exchange import Record, Usage

__all__ = [
    "HALF",
    "PriceOrigin",
    "Prices",
    "age_of_price",
    "cost_usd",
    "host_of",
    "is_known",
    "price_of",
    "priced",
]

PRICES_FILE = Path(__file__).with_name("prices.toml")
HALF = 0.5
"""What batch APIs charge of the price, where nothing else is said."""

_FREE = {"embedded", "fake", "ledger", "local"}
_HOSTS = {"anthropic": "api.anthropic.com"}


class PriceOrigin(Record):
    """A price with where it comes from.

    ``origin``: ``recipe`` (``[teacher.price]`` says it all), ``listed`` (a list of prices, perhaps
    with parts from the recipe; ``entry`` is its entry), ``free`` (nothing is paid for a teacher
    that runs here) or ``unknown``.
    """

    price: PriceConfig
    origin: Literal["recipe", "listed", "free", "unknown"]
    entry: ListedPrice | None = None


def host_of(config: TeacherConfig) -> str:
    """The host that is asked, in lower case; empty where the teacher runs here."""
    if config.base_url is None:
        return _HOSTS.get(config.kind, "")
    return (urlsplit(config.base_url).hostname or "").lower()


def priced(config: TeacherConfig) -> PriceOrigin:
    """The price of this teacher in US dollars a million tokens, with its origin.

    The recipe's own ``[teacher.price]`` wins, then the user's list, then the shipped one; teachers
    that run here cost no API money. A loopback address is not taken for free: it may be a proxy to
    an API that bills.

    Raises:
        ConfigError: a list of prices cannot be read.
    """
    said = config.price.model_dump(exclude_none=True)
    if config.kind in _FREE:
        price = PriceConfig(**({"input": 0.0, "output": 0.0} | said))
        return PriceOrigin(price=price, origin="recipe" if said else "free")
    if "input" in said and "output" in said:
        # A list would add the parts left out here, of a price that the user has set aside.
        return PriceOrigin(price=config.price, origin="recipe")
    entry = listed_price(config.model, host_of(config), PRICES_FILE)
    if entry is None:
        return PriceOrigin(price=config.price, origin="recipe" if said else "unknown")
    listed = entry.price.model_dump(exclude_none=True)
    return PriceOrigin(price=PriceConfig(**(listed | said)), origin="listed", entry=entry)


def price_of(config: TeacherConfig) -> PriceConfig:
    """The price of this teacher in US dollars a million tokens; see ``priced``."""
    return priced(config).price


def is_known(price: PriceConfig) -> bool:
    """Whether calls can be charged at that price."""
    return price.input is not None and price.output is not None


class Prices:
    """Prices of the models that requests of one recipe name: the teacher's, and a judge's.

    ``[teacher.price]`` is the price of ``teacher.model`` alone. Another model asked at the same
    host costs what the lists say. What runs here is one model, whatever it calls itself.

    Args:
        config: the teacher.

    Raises:
        ConfigError: a list of prices cannot be read.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self.teacher = price_of(config)
        self._config = config
        self._found = {config.model: self.teacher}

    def of(self, model: str) -> PriceConfig:
        """The price of a request that names ``model``."""
        if self._config.kind in _FREE:
            return self.teacher
        if model not in self._found:
            other = {"model": model, "price": PriceConfig()}
            self._found[model] = price_of(self._config.model_copy(update=other))
        return self._found[model]


def age_of_price(origin: PriceOrigin, today: date) -> str:
    """Where a price comes from and how old it is, in words."""
    if origin.entry is None:
        words = {
            "recipe": "price as the recipe says",
            "free": "no API money: the teacher runs here",
            "unknown": "no price is known for this teacher",
        }
        return words[origin.origin]
    entry = origin.entry
    days = entry.age_days(today)
    said = "price without a date" if days is None else f"price as of {entry.as_of}, {days} days old"
    return f"{said}: check it against {entry.source}"


def cost_usd(price: PriceConfig, usage: Usage | None, *, batch: bool = False) -> float | None:
    """Cost of one answer in US dollars, ``None`` where it cannot be known.

    Tokens read from a cache and written to one are part of the input, tokens of reasoning part of
    the output; each kind without a price of its own costs what the whole does.

    Args:
        price: in US dollars a million tokens.
        usage: as the server counted it.
        batch: whether a batch API answered, for ``price.batch`` of the price.
    """
    if price.input is None or price.output is None:
        return None
    if usage is None:
        return 0.0 if price.input == price.output == 0 else None
    if price.long is not None and usage.input_tokens > price.long.tokens:
        price = _long(price)
    cached = min(max(usage.cached_tokens, 0), usage.input_tokens)
    written = min(max(usage.cache_write_tokens, 0), usage.input_tokens - cached)
    thought = min(max(usage.reasoning_tokens, 0), usage.output_tokens)
    of_input, of_output = price.input or 0.0, price.output or 0.0
    total = (
        (usage.input_tokens - cached - written) * of_input
        + cached * _or(price.cached_input, of_input)
        + written * _or(price.cache_write, of_input)
        + (usage.output_tokens - thought) * of_output
        + thought * _or(price.reasoning, of_output)
    )
    factor = (HALF if price.batch is None else price.batch) if batch else 1.0
    return total * factor / 1e6


def _or(own: float | None, whole: float) -> float:
    return whole if own is None else own


def _long(price: PriceConfig) -> PriceConfig:
    """The price of a long prompt; parts it does not name rise as their whole does."""
    long = price.long
    assert long is not None
    in_ratio = long.input / price.input if price.input else 1.0
    out_ratio = long.output / price.output if price.output else 1.0

    def risen(own: float | None, short: float | None, ratio: float) -> float | None:
        return own if own is not None or short is None else short * ratio

    return price.model_copy(
        update={
            "input": long.input,
            "output": long.output,
            "cached_input": risen(long.cached_input, price.cached_input, in_ratio),
            "cache_write": risen(long.cache_write, price.cache_write, in_ratio),
            "reasoning": risen(None, price.reasoning, out_ratio),
            "long": None,
        }
    )
