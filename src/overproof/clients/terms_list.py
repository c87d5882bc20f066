"""What is known of providers' terms and models' licences: the shipped file and the user's own."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from overproof.errors import ConfigError
from overproof.records.exchange import Record

__all__ = [
    "TERMS_FILE",
    "TermsEntry",
    "TermsList",
    "of_host",
    "of_licence",
    "of_licence_text",
    "of_model_name",
    "read_terms",
    "strictest",
]

TERMS_FILE = Path(__file__).with_name("terms.toml")
HASH_DIGITS = 12

_TITLE = 600
"""Characters of a licence's text in which it must name itself."""

_WAY_OUT = "the head of overproof's own terms.toml shows the form"


class TermsEntry(Record):
    """What one provider's terms, or one licence, say of training on outputs.

    ``clause`` decides; ``quoted`` says that the words are the document's own, ``seen`` that they
    were read in it. ``needs`` is what ``conditions`` ask for. ``as_of`` is the document's date, or
    the day it was read.
    """

    name: str = Field(min_length=1)
    what: str
    training: Literal["yes", "no", "conditions"]
    clause: str
    source: str = Field(min_length=1)
    as_of: str = Field(min_length=1)
    needs: str = ""
    quoted: bool = False
    seen: bool = False
    read: str = ""
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["yes", "no", "conditions", "unknown"]:
        """``training``, but ``unknown`` where nobody has read the clause."""
        return self.training if self.seen else "unknown"

    @property
    def says(self) -> str:
        """The clause with its document and date, on one line."""
        words = f"“{self.clause}”" if self.quoted else self.clause
        return f"{self.what}, {self.as_of}: {words}"


class TermsList(NamedTuple):
    """Every entry, and the version to record: date and hashes of the files they stand in."""

    entries: tuple[TermsEntry, ...]
    version: str


def read_terms() -> TermsList:
    """The shipped entries and those of ``$OVERPROOF_TERMS``.

    Raises:
        ConfigError: a file cannot be read, or an entry is not one; file and entry are the culprit.
    """
    own = os.environ.get("OVERPROOF_TERMS")
    files = [TERMS_FILE, *([Path(own).expanduser()] if own else [])]
    stamps = []
    for path in files:
        try:
            stamps.append((path, path.stat().st_mtime_ns))
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise ConfigError(str(path), reason, "mend $OVERPROOF_TERMS, or unset it") from None
    return _read(tuple(stamps))


@cache
def _read(stamps: tuple[tuple[Path, int], ...]) -> TermsList:
    entries: list[TermsEntry] = []
    versions = []
    for path, _ in stamps:
        try:
            raw = path.read_bytes()
            content = tomllib.loads(raw.decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(str(path), f"is not TOML: {error}", _WAY_OUT) from error
        listed = content.get("terms", [])
        if not isinstance(listed, list) or not listed:
            raise ConfigError(str(path), "has no [[terms]]", _WAY_OUT)
        taken = {entry.name for entry in entries}
        for number, each in enumerate(listed, start=1):
            entries.append(_entry(each, f"{path}: terms {number}", taken))
            taken.add(entries[-1].name)
        shipped = path == TERMS_FILE
        digest = hashlib.sha256(raw).hexdigest()[:HASH_DIGITS]
        label = str(content.get("version", "")) if shipped else "own"
        versions.append(f"{label} sha256:{digest}".strip())
    return TermsList(tuple(entries), ", ".join(versions))


def _entry(raw: Any, where: str, taken: set[str]) -> TermsEntry:
    try:
        entry = TermsEntry.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        name = raw.get("name", "no name") if isinstance(raw, dict) else "no table"
        raise ConfigError(f"{where} ({name})", f"{key}: {first['msg']}", _WAY_OUT) from error
    where = f"{where} ({entry.name})"
    if entry.name in taken:
        raise ConfigError(where, "has the name of another entry", "give it a name of its own")
    if not (entry.hosts or entry.models or entry.licences):
        raise ConfigError(where, "applies to nothing", "say hosts, models or licences")
    if entry.training == "conditions" and not entry.needs:
        raise ConfigError(where, "has conditions, and does not say which", "say them in `needs`")
    return entry


def of_host(host: str) -> list[TermsEntry]:
    """Entries that govern an API host."""
    return [
        entry
        for entry in read_terms().entries
        if any(fnmatch.fnmatchcase(host.lower(), pattern) for pattern in entry.hosts)
    ]


def of_model_name(model: str, *, weights: bool) -> list[TermsEntry]:
    """Entries that a model's name gives away.

    Args:
        model: as a recipe or a log names it, perhaps behind ``ORG/``.
        weights: whether weights run here: then no provider's terms apply, only licences.
    """
    names = {model.lower(), model.lower().rsplit("/", 1)[-1]}
    return [
        entry
        for entry in read_terms().entries
        if not (weights and entry.hosts)
        and any(fnmatch.fnmatchcase(n, p.lower()) for n in names for p in entry.models)
    ]


def of_licence(licence: str) -> list[TermsEntry]:
    """Entries of a licence by the name that registries and model cards give it."""
    folded = licence.strip().casefold()
    return [
        entry
        for entry in read_terms().entries
        if folded in {name.casefold() for name in (entry.name, *entry.licences)} and entry.licences
    ]


def of_licence_text(text: str) -> list[TermsEntry]:
    """Entries of a licence by its text, which names itself at its head."""
    head = _flat(text)[:_TITLE]
    return [
        entry for entry in read_terms().entries if any(_flat(mark) in head for mark in entry.marks)
    ]


def strictest(entries: Iterable[TermsEntry]) -> TermsEntry | None:
    """The entry that allows least: no before unknown before conditions before yes."""
    order: Sequence[str] = ("no", "unknown", "conditions", "yes")
    return min(entries, key=lambda entry: order.index(entry.verdict), default=None)


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
