"""Lists of prices: the one that is shipped, and the user's own, which comes first."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from overproof.config.teacher import PriceConfig
from overproof.errors import ConfigError
from overproof.records.exchange import Record

__all__ = ["UNDATED", "ListedPrice", "listed_price", "read_prices", "users_file"]

UNDATED = "undated"

_HOME = Path("~/.config/overproof/prices.toml")
_REQUIRED = ("model", "as_of", "source")
_KNOWN = {*_REQUIRED, "aliases", "provider", "note", *PriceConfig.model_fields}
_DATE = re.compile(r"\d{4}-\d\d(-\d\d)?")
_WAY_OUT = "the head of overproof's own prices.toml shows the form"


class ListedPrice(Record):
    """An entry of a list: the price of ``model`` and its ``aliases``, as known for a day.

    ``as_of`` is a day, a month, or ``undated``. ``hosts`` are those at which the price holds;
    none means any. ``file`` is the list that holds it.
    """

    model: str
    aliases: tuple[str, ...] = ()
    price: PriceConfig
    as_of: str
    source: str
    note: str = ""
    provider: str = ""
    hosts: tuple[str, ...] = ()
    file: str = ""

    def holds_at(self, host: str) -> bool:
        """Whether the price is that of calls to ``host``."""
        return not self.hosts or host in self.hosts

    def age_days(self, today: date) -> int | None:
        """Days since the price was known to hold, ``None`` where it has no date."""
        if self.as_of == UNDATED:
            return None
        year, month, day = (*(int(part) for part in self.as_of.split("-")), 1)[:3]
        return (today - date(year, month, day)).days


def users_file() -> Path | None:
    """The user's own list: ``$OVERPROOF_PRICES``, else the one in the home directory if there."""
    if named := os.environ.get("OVERPROOF_PRICES"):
        return Path(named).expanduser()
    home = _HOME.expanduser()
    return home if home.is_file() else None


def listed_price(model: str, host: str, shipped: Path) -> ListedPrice | None:
    """The price of exactly that model at that host; the user's own list comes first.

    A name that resembles an entry's finds nothing: a dated or fine-tuned model may cost more.

    Raises:
        ConfigError: a list cannot be read; file and entry are the culprit.
    """
    own = users_file()
    for file in [path for path in (own, shipped) if path is not None]:
        entry = read_prices(file).get(model)
        if entry is not None and entry.holds_at(host):
            return entry
    return None


def read_prices(path: Path) -> Mapping[str, ListedPrice]:
    """The entries of a list by model and alias.

    Raises:
        ConfigError: it cannot be read, or an entry is not one; file and entry are the culprit.
    """
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise ConfigError(str(path), reason, "mend $OVERPROOF_PRICES, or unset it") from None
    return _read(path, stamp)


@cache
def _read(path: Path, _stamp: int) -> dict[str, ListedPrice]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), f"is not TOML: {error}", _WAY_OUT) from error
    entries = content.get("price", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(str(path), "price is not a list of entries", _WAY_OUT)
    table: dict[str, ListedPrice] = {}
    for number, raw in enumerate(entries, start=1):
        where = f"{path}: price {number} ({raw.get('model') or 'no model'})"
        entry = _entry(raw, content, where, path)
        for name in (entry.model, *entry.aliases):
            if name in table:
                raise ConfigError(where, f"{name!r} has a price already", "keep one of the two")
            table[name] = entry
    return table


def _entry(raw: dict[str, Any], content: dict[str, Any], where: str, path: Path) -> ListedPrice:
    if missing := [key for key in _REQUIRED if not raw.get(key)]:
        raise ConfigError(where, f"has no {missing[0]}", "say it: prices change")
    if unknown := sorted(raw.keys() - _KNOWN):
        raise ConfigError(where, f"unknown key {unknown[0]!r}", _WAY_OUT)
    provider = raw.get("provider", "")
    hosts = content.get("hosts", {}).get(provider, []) if provider else []
    if provider and not hosts:
        raise ConfigError(where, f"[hosts] has no {provider!r}", "add its hosts, or drop provider")
    try:
        entry = ListedPrice(
            model=raw["model"],
            aliases=tuple(raw.get("aliases", ())),
            price=PriceConfig(**{k: v for k, v in raw.items() if k in PriceConfig.model_fields}),
            as_of=str(raw["as_of"]),
            source=content.get("sources", {}).get(raw["source"], raw["source"]),
            note=raw.get("note", ""),
            provider=provider,
            hosts=tuple(hosts),
            file=path.name,
        )
        if entry.as_of != UNDATED and not _DATE.fullmatch(entry.as_of):
            raise ValueError(entry.as_of)
        entry.age_days(date.today())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(where, f"{key}: {first['msg']}", _WAY_OUT) from error
    except (TypeError, ValueError) as error:
        reason = f"as_of is {raw['as_of']!r}, no day such as 2026-01-31"
        raise ConfigError(where, reason, f"say a day, a month, or {UNDATED!r}") from error
    if entry.price.input is None or entry.price.output is None:
        raise ConfigError(where, "has no input or no output", "say both, or leave the entry out")
    return entry
