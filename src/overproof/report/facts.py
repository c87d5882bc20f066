"""Free-form records (provenance, looks) as groups of named facts in words, and sums."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from overproof.records.certificate import Certificate, CostLine
from overproof.records.exchange import Outcome
from overproof.report.formats import MINUS, capitalised, moment, percent, usd

__all__ = ["Fact", "find", "groups", "outcomes_of", "table", "title_of", "total_of", "uncertain_of"]

WORDS = {"sha256": "SHA-256", "url": "URL", "usd": "USD", "id": "ID", "api": "API", "n": "number"}
SHORT = 12  # digits of a hash that a table shows
HASH = re.compile(r"^(sha256:)?[0-9a-f]{16,128}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d")


class Fact(NamedTuple):
    """A name with its value in words; ``code`` says that the value is a hash."""

    name: str
    value: str
    code: bool = False


def title_of(key: str) -> str:
    """A key as a heading: ``input_sha256`` becomes ``Input SHA-256``."""
    words = [WORDS.get(word.lower(), word) for word in key.replace("_", " ").split()]
    return capitalised(" ".join(words))


def _number(value: float) -> str:
    return f"{value:,.4g}".replace("-", MINUS)


def say(value: Any) -> str:
    """A value in words; what is not there is called ``not given``."""
    if value is None or value in ("", [], {}, ()):
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return moment(value) if TIME.match(value) else value
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_brief(inner)}" for key, inner in value.items())
    if isinstance(value, Iterable):
        return ", ".join(say(inner) for inner in value)
    return str(value)


def _brief(value: Any) -> str:
    """As ``say``, a hash cut to its first digits."""
    text = say(value)
    return f"{text[:SHORT]}…" if isinstance(value, str) and HASH.match(text) else text


def _facts(
    mapping: Mapping[str, Any],
    prefix: str = "",
    *,
    shares: bool = False,
    names: Collection[str] = (),
) -> list[Fact]:
    facts: list[Fact] = []
    for key, value in mapping.items():
        if key in names:
            name = f"{prefix}{key}"  # as the user wrote it
        else:
            name = f"{prefix}{str(key).replace('_', ' ')}" if prefix else title_of(str(key))
        if isinstance(value, Mapping) and value:
            facts += _facts(value, f"{name} · ", names=names)
        else:
            text = percent(value) if shares and isinstance(value, int | float) else say(value)
            facts.append(Fact(name, text, isinstance(value, str) and bool(HASH.match(value))))
    return facts


def groups(mapping: Mapping[str, Any], names: Collection[str] = ()) -> list[tuple[str, list[Fact]]]:
    """A nested mapping as titled groups; what stands alone at the top comes last.

    Keys among ``names`` are left as they are: somebody gave them.
    """
    out: list[tuple[str, list[Fact]]] = []
    alone: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            shares = str(key).endswith("shares")
            title = str(key) if key in names else title_of(str(key))
            out.append((title, _facts(value, shares=shares, names=names)))
        else:
            alone[key] = value
    return [*out, ("The run", _facts(alone, names=names))] if alone else out


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Fact]]]:
    """Records of any keys as headings and rows, hashes cut short; what lacks is ``not given``."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    body = [
        [Fact(key, _brief(row.get(key)), bool(HASH.match(str(row.get(key))))) for key in keys]
        for row in rows
    ]
    return [title_of(key) for key in keys], body


def find(mapping: Mapping[str, Any], *keys: str) -> str | None:
    """The first non-empty text under any of ``keys``, searched from the top downwards."""
    for key in keys:
        value = mapping.get(key)
        if isinstance(value, str) and value:
            return value
    for value in mapping.values():
        if isinstance(value, Mapping):
            found = find(value, *keys)
            if found:
                return found
    return None


def outcomes_of(certificate: Certificate) -> list[str]:
    """The outcomes that occur, in the order of the enum, then any others."""
    present = {name for counts in certificate.outcomes.values() for name in counts}
    known = [str(outcome) for outcome in Outcome if outcome in present]
    return known + sorted(present - set(known))


def total_of(costs: tuple[CostLine, ...]) -> tuple[float | None, int]:
    """The sum of the known prices (``None`` where none is known) and the number of unknown ones."""
    known = [line.usd for line in costs if line.usd is not None]
    return (sum(known) if known else None), len(costs) - len(known)


def uncertain_of(costs: tuple[CostLine, ...]) -> str:
    """What may have been billed beyond what was counted, in words; empty where nothing may."""
    calls = sum(line.uncertain_calls for line in costs)
    if not calls:
        return ""
    most = sum(line.uncertain_usd for line in costs)
    sum_ = f"up to {usd(most)}" if most else "an unknown sum"
    return (
        f"and {sum_} more for {calls:,} call{'' if calls == 1 else 's'} that may have been billed"
    )
