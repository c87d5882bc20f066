"""Declared and permitted uses, signed by whoever permitted them.

An evaluation suite, or synthetic data under contract, looks like distillation because it is much
like it. What sets it apart is a permission; a permission must be signed, must end, and covers the
use that was declared and no other. An entry that is malformed, expired or wrongly signed exempts
nobody and is reported, never silently passed over.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from unicodedata import category

from pydantic import ValidationError

from overproof.config.guard import Exemption
from overproof.errors import ConfigError
from overproof.guard.key_strength import STRONG, weakness_of
from overproof.records.hashing import canonical_json

__all__ = ["Exemptions", "Refused", "ends_at", "sign"]

UNSIGNED = "0" * 64
# Of the categories of letters and marks, and drawn as nothing: fillers, selectors, joiners.
UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
FIELDS = "docs/guard-settings.md, under [[exemptions]], says which fields there are"


@dataclass(frozen=True)
class Refused:
    """An entry that exempts nobody.

    Attributes:
        place: which entry, from 1.
        who: the org or account that it names, as far as it can be read.
        reason: why.
    """

    place: int
    who: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    exemption: Exemption
    until: float


def sign(entry: Exemption | Mapping[str, Any], key: bytes) -> Exemption:
    """The entry with its signature: HMAC-SHA256 (RFC 2104) over its other fields.

    They are written as canonical JSON, ``org`` and ``account`` both, one of them null.

    Args:
        entry: its own ``signature``, if any, is not looked at.
        key: the provider's key of exemptions, at least 16 bytes.

    Raises:
        ConfigError: a malformed entry, a field that is empty, a pattern, of several lines or has
            blanks around it, a date that cannot be read, or a key that is too short or too regular.
    """
    raw = entry.model_dump() if isinstance(entry, Exemption) else dict(entry)
    try:
        given = Exemption.model_validate(raw | {"signature": UNSIGNED})
        _until(given.until)
    except ValidationError as error:
        raise ConfigError("the exemption", _reason(error), FIELDS) from None
    except ValueError as error:
        raise ConfigError("the exemption", str(error), "write a date such as 2027-01-31") from None
    for name in ("org", "account", "use", "signed_by"):
        if (said := getattr(given, name)) is not None:
            _check_field(f"--{name.replace('_', '-')}", said)
    _check(key)
    return given.model_copy(update={"signature": _signature(given, key)})


def ends_at(entry: Exemption) -> float:
    """When a permission ends, seconds since the epoch; of a day alone, the end of it in UTC.

    Raises:
        ValueError: its date cannot be read.
    """
    return _until(entry.until)


class Exemptions:
    """The entries that hold.

    Args:
        entries: as the config read them, or as plain mappings.
        key: the provider's key of exemptions; without one no entry can be verified.

    Attributes:
        refused: entries that exempt nobody, with the reason; those that have merely expired are
            in ``expired(now)``, as that depends on event time.

    Raises:
        ConfigError: a key too short or too regular to mean anything.
    """

    def __init__(
        self, entries: Sequence[Exemption | Mapping[str, Any]] = (), key: bytes | None = None
    ) -> None:
        if key is not None:
            _check(key)
        self.refused: list[Refused] = []
        self._orgs: dict[str, list[_Entry]] = {}
        self._accounts: dict[str, list[_Entry]] = {}
        self._places: list[tuple[int, _Entry]] = []
        for place, raw in enumerate(entries, 1):
            self._take(place, raw, key)

    def _take(self, place: int, raw: Exemption | Mapping[str, Any], key: bytes | None) -> None:
        who = "?"
        try:
            if isinstance(raw, Mapping):
                who = str(raw.get("org") or raw.get("account") or "?")[:200]
            entry = raw if isinstance(raw, Exemption) else Exemption.model_validate(raw)
            who = str(entry.org or entry.account)
            until = _until(entry.until)
        except ValidationError as error:
            self.refused.append(Refused(place, who, f"is malformed: {_reason(error)}"))
            return
        except ValueError as error:
            self.refused.append(Refused(place, who, str(error)))
            return
        if key is None:
            self.refused.append(Refused(place, who, "cannot be verified: no key of exemptions"))
            return
        # Compared as bytes: compare_digest refuses strings that are not ASCII.
        if not hmac.compare_digest(_signature(entry, key).encode(), entry.signature.encode()):
            self.refused.append(Refused(place, who, "has a signature that does not verify"))
            return
        held = _Entry(entry, until)
        self._places.append((place, held))
        if entry.org is not None:
            self._orgs.setdefault(entry.org, []).append(held)
        else:
            self._accounts.setdefault(str(entry.account), []).append(held)

    def __len__(self) -> int:
        return len(self._places)

    def spares(
        self, account: str, org: str | None, declared_use: str | None, now: float
    ) -> str | None:
        """Why this account is spared at ``now``, in words; None where nothing spares it.

        A customer that declared another use than the one permitted is not spared by it.
        """
        found: Iterable[_Entry] = self._accounts.get(account, ())
        if org is not None:
            found = [*found, *self._orgs.get(org, ())]
        for held in found:
            entry = held.exemption
            if now < held.until and declared_use in {None, entry.use}:
                return f"{entry.use}, permitted by {entry.signed_by} until {entry.until}"
        return None

    def expired(self, now: float) -> list[Refused]:
        """Entries that were rightly signed and have ended by ``now``."""
        return [
            Refused(
                place,
                str(held.exemption.org or held.exemption.account),
                f"ended on {held.exemption.until}",
            )
            for place, held in self._places
            if now >= held.until
        ]


def _signature(entry: Exemption, key: bytes) -> str:
    said = canonical_json(entry.model_dump(exclude={"signature"}))
    return hmac.new(key, said, hashlib.sha256).hexdigest()


def _until(text: str) -> float:
    """Seconds since the epoch; a date without a time lasts to the end of its day in UTC."""
    try:
        when = datetime.fromisoformat(text)  # which takes any character between date and time
        if "T" not in text and " " not in text:
            when = datetime.combine(date.fromisoformat(text), time.max)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"has {text[:40]!r} for a date") from None


def _check_field(option: str, said: str) -> None:
    """Refuse what would be signed and then permit nobody, or could not be read where it stands.

    Organisations and accounts are compared letter by letter with the log; so is a declared use.
    """
    if not said.strip():
        raise ConfigError(option, "is empty", "say who may do what, and who answers")
    names = option in {"--org", "--account"}
    if any(category(char) in {"Cc", "Zl", "Zp"} for char in said):
        raise ConfigError(
            option, f"holds a line break or another control character: {said[:80]!r}",
            "write it in one line",
        )  # fmt: skip
    if names and any(category(char) in {"Cf", "Cs"} or char in UNSEEN for char in said):
        raise ConfigError(
            option, f"holds a character that cannot be seen: {said[:80]!a}",
            "write the name as the log does, letter by letter",
        )  # fmt: skip
    if said != said.strip():
        raise ConfigError(option, f"has blanks around it: {said[:80]!r}", "write it without them")
    if names and "*" in said:
        raise ConfigError(
            option, f"is {said[:80]!r}, and patterns are not understood: it would permit nobody",
            "name one, as the log does; sign an entry for each",
        )  # fmt: skip


def _check(key: bytes) -> None:
    if weakness := weakness_of(key):
        raise ConfigError("the key of exemptions", weakness, STRONG)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
