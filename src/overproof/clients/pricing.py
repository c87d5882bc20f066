"""What an answer costs in API money. An unknown price stays unknown; it never becomes zero."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from overproof.config.recipe import PriceConfig, TeacherConfig
from overproof.errors import ConfigError
from overproof.records.exchange import Usage

__all__ = ["cost_usd", "price_of"]

PRICES_FILE = Path(__file__).with_name("prices.toml")

_FREE = {"embedded", "fake", "ledger"}


def price_of(config: TeacherConfig) -> PriceConfig:
    """Price of this teacher in US dollars a million tokens.

    The recipe's own ``[teacher.price]`` wins, then the dated table; teachers that run inside
    overproof cost no API money. A loopback address is not taken for free: it may be a proxy to an
    API that bills.
    """
    said = config.price.model_dump(exclude_none=True)
    if config.kind in _FREE:
        return PriceConfig(**({"input": 0.0, "output": 0.0} | said))
    listed = _table(PRICES_FILE).get(config.model)
    return PriceConfig(**((listed.model_dump(exclude_none=True) if listed else {}) | said))


def cost_usd(price: PriceConfig, usage: Usage | None) -> float | None:
    """Cost of one answer in US dollars, ``None`` where it cannot be known.

    Without a price for cached input, cached tokens count at the full input price.
    """
    if price.input is None or price.output is None:
        return None
    if usage is None:
        return 0.0 if price.input == price.output == 0 else None
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = max(usage.input_tokens - usage.cached_tokens, 0)
    cached = usage.input_tokens - fresh
    total = fresh * price.input + cached * cached_price + usage.output_tokens * price.output
    return total / 1e6


@cache
def _table(path: Path) -> dict[str, PriceConfig]:
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("price", [])
    table: dict[str, PriceConfig] = {}
    for entry in entries:
        if missing := [key for key in ("model", "as_of", "source") if not entry.get(key)]:
            raise ConfigError(str(path), f"a price has no {missing[0]}", "say it: prices change")
        numbers = {k: v for k, v in entry.items() if k in PriceConfig.model_fields}
        table[entry["model"]] = PriceConfig(**numbers)
    return table
