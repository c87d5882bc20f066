"""Phrasings on disk: the slots, the sealed key that chooses among them, and what a suspect says.

* *slots* (JSON Lines): ``{"slot": "greeting", "phrasings": ["…", "…"]}``, phrasings that mean the
  same, or values of a fictitious fact. None may stand within another of its slot, or a text with
  the longer one would count for both.
* ``phrasings.secret.json``: key, salt, slots and accounts. ``phrasings.manifest.json``: salted
  hashes of each, to be shown; its own hash is what is published before serving.
* ``assignment.secret.jsonl``: for each account and slot the phrasing to serve.
* *texts* of the suspect (JSON Lines): ``{"text": "…", "prompt": "…", "slot": "…"}``. A phrasing
  that stands in the prompt is no choice of the suspect's and does not count there. Where ``slot``
  names what was asked about, only its phrasings are looked for.
* *served* (JSON Lines), optional: ``{"account": "…", "slot": "…"}``, what really went out; it
  describes and decides nothing.

Phrasings are found whatever their case and white space, as whole words, once a text.
"""

from __future__ import annotations

import datetime
import json
import secrets
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overproof.audit.phrasings import Slot, check_key, choose_phrasing, key_commitment, new_key
from overproof.errors import ConfigError, DataError
from overproof.records.files import atomically
from overproof.records.hashing import content_hash
from overproof.records.log_lines import json_rows

__all__ = [
    "SealedPhrasings",
    "count_phrasings",
    "read_phrasing_slots",
    "read_phrasing_texts",
    "read_sealed_phrasings",
    "read_served_slots",
    "seal_phrasings",
    "slots_of_accounts",
]

FORMAT = "overproof-phrasings/1"
SECRET, MANIFEST = "phrasings.secret.json", "phrasings.manifest.json"
ASSIGNMENT = "assignment.secret.jsonl"
SLOT_FORM = 'one object a line: {"slot": "…", "phrasings": ["…", "…"]}'
TEXT_FORM = 'one object a line: {"text": "…"}, with "prompt" and "slot" where known'
SERVED_FORM = 'one object a line: {"account": "…", "slot": "…"}'
MOST_LINES = 5_000_000

Slots = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class SealedPhrasings:
    """A key with the slots among whose phrasings it chooses.

    Attributes:
        key: secret.
        slots: of each its phrasings.
        accounts: whose answers are marked; empty where that was left open.
        sha256: ``sha256:`` and the hash of the manifest, to be published.
        at: UTC, when it was sealed, by the sealing machine's clock.
    """

    key: bytes
    slots: Slots
    accounts: tuple[str, ...]
    sha256: str
    at: str


def plain_text(text: str) -> str:
    """The text in which phrasings are looked for: one form, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_phrasing_slots(path: Path) -> Slots:
    """Slots with their phrasings, in the file's order.

    Raises:
        DataError: FILE:LINE of a slot without two phrasings, or of phrasings that cannot be told
            apart.
    """
    found: Slots = {}
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, SLOT_FORM)
        name, phrasings = row.get("slot"), row.get("phrasings")
        if not isinstance(name, str) or not name:
            raise DataError(where, "does not name its slot", SLOT_FORM)
        if not isinstance(phrasings, list) or not all(isinstance(p, str) for p in phrasings):
            raise DataError(where, "its phrasings are no list of texts", SLOT_FORM)
        if name in found:
            raise DataError(where, f"names the slot {name!r} again", "name each slot once")
        _check_apart(where, [plain_text(p) for p in phrasings])
        found[name] = tuple(phrasings)
    if not found:
        raise DataError(str(path), "holds no slot", SLOT_FORM)
    return found


def _check_apart(where: str, plain: Sequence[str]) -> None:
    """Refuse phrasings that a text could not tell apart."""
    if len(plain) < 2 or not all(plain):
        raise DataError(where, "has fewer than two phrasings, or an empty one", SLOT_FORM)
    for i, one in enumerate(plain):
        for j, other in enumerate(plain):
            if i != j and _within(one, other):
                raise DataError(
                    where, f"phrasing {i + 1} stands within phrasing {j + 1}",
                    "make them different enough that a text has one or the other",
                )  # fmt: skip


def _within(phrasing: str, text: str) -> bool:
    """Whether a phrasing stands in a text as whole words; both plain."""
    start = text.find(phrasing)
    while start >= 0:
        end = start + len(phrasing)
        before, after = text[start - 1 : start], text[end : end + 1]
        inner = (before + phrasing[:1]).isalnum() and before != ""
        outer = (phrasing[-1:] + after).isalnum() and after != ""
        if not inner and not outer:
            return True
        start = text.find(phrasing, start + 1)
    return False


def seal_phrasings(
    slots: Slots, out: Path, accounts: Sequence[str] = (), now: datetime.datetime | None = None
) -> SealedPhrasings:
    """Draw a key, commit to it, to the slots and the accounts, and write what to serve.

    Raises:
        ConfigError: something was sealed there before, or too many lines to write out.
        DataError: a full disk, a missing permission.
    """
    for path in (out / SECRET, out / MANIFEST, out / ASSIGNMENT):
        if path.exists():
            raise ConfigError(
                str(path), "exists already", "what was sealed stays: name another directory"
            )
    if len(slots) * len(accounts) > MOST_LINES:
        raise ConfigError(
            f"{len(accounts):,} accounts of {len(slots):,} slots", "are too many to write out",
            "leave the accounts out, and choose in serving with choose_phrasing",
        )  # fmt: skip
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    key, salt = new_key(), secrets.token_hex(16)
    secret = {
        "format": FORMAT, "key": key.hex(), "salt": salt, "accounts": list(accounts),
        "slots": {name: list(phrasings) for name, phrasings in slots.items()},
    }  # fmt: skip
    manifest = _manifest(secret, moment.isoformat(timespec="seconds"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_secret(out / ASSIGNMENT, _assignment(key, slots, accounts))
        _write_secret(out / SECRET, iter((json.dumps(secret, ensure_ascii=False) + "\n",)))
        with atomically(out / MANIFEST) as partial:  # the last: it says that all is there
            partial.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            str(out), f"cannot be written: {error.strerror or error}",
            "make room or give permission, remove what is there and seal again",
        ) from error  # fmt: skip
    return read_sealed_phrasings(out)


def _manifest(secret: Mapping[str, Any], at: str) -> dict[str, Any]:
    salt = secret["salt"]
    return {
        "format": FORMAT,
        "at": at,
        "key": key_commitment(bytes.fromhex(secret["key"]), bytes.fromhex(salt)),
        "slots": content_hash({"salt": salt, "slots": secret["slots"]}),
        "accounts": content_hash({"salt": salt, "accounts": secret["accounts"]}),
        "slot_count": len(secret["slots"]),
        "account_count": len(secret["accounts"]),
    }


def _assignment(key: bytes, slots: Slots, accounts: Sequence[str]) -> Iterator[str]:
    for account in accounts:
        for name, phrasings in slots.items():
            choice = choose_phrasing(key, account, name, len(phrasings))
            row = {"account": account, "slot": name, "choice": choice, "text": phrasings[choice]}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _write_secret(path: Path, lines: Iterator[str]) -> None:
    """Written where only its owner can read it, from the first byte on."""
    with atomically(path, private=True) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)


def read_sealed_phrasings(directory: Path) -> SealedPhrasings:
    """The sealed key and slots, held against their manifest.

    Raises:
        DataError: a file is missing, is none of these, or was changed after it was sealed.
    """
    path = directory / MANIFEST
    manifest, secret = _json(path), _json(directory / SECRET)
    try:
        if manifest["format"] != FORMAT or secret["format"] != FORMAT:
            raise ValueError("another format")
        key = bytes.fromhex(secret["key"])
        slots = {str(name): tuple(map(str, each)) for name, each in secret["slots"].items()}
        accounts = tuple(str(name) for name in secret["accounts"])
        expected = _manifest(secret, manifest["at"])
    except (ValueError, LookupError, TypeError, AttributeError):
        expected, key, slots, accounts = None, b"", {}, ()
    # Raised out here: the error of a reader holds what it read, and that is the key.
    if expected is None:
        raise DataError(
            str(directory / SECRET), "is no sealed assignment", "`overproof audit assign` seals one"
        )
    for name, value in expected.items():
        if manifest.get(name) != value:
            raise DataError(
                str(path), f"does not fit its secret file: {name} was changed after it was sealed",
                "restore both files as they were sealed",
            )  # fmt: skip
    check_key(key)
    return SealedPhrasings(key, slots, accounts, content_hash(manifest), str(manifest["at"]))


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            str(path), "is not there", "`overproof audit assign` seals an assignment"
        ) from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raise DataError(str(path), "is no JSON object", "restore it as it was sealed")
    return raw


def read_phrasing_texts(path: Path, slots: Slots) -> list[tuple[str, str, str | None]]:
    """What the suspect said: plain text, plain prompt, and the slot it was asked about.

    Raises:
        DataError: FILE:LINE of a line that is no text, or names a slot that is not there.
    """
    found: list[tuple[str, str, str | None]] = []
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, TEXT_FORM)
        text, prompt, slot = row.get("text"), row.get("prompt", ""), row.get("slot")
        if not isinstance(text, str):
            raise DataError(where, "has no text", TEXT_FORM)
        if slot is not None and (not isinstance(slot, str) or slot not in slots):
            raise DataError(where, f"names the slot {slot!r}, which was not sealed", TEXT_FORM)
        if not isinstance(prompt, str):
            prompt = json.dumps(prompt, ensure_ascii=False)
        found.append((plain_text(text), plain_text(prompt), slot))
    if not found:
        raise DataError(str(path), "holds no text", TEXT_FORM)
    return found


def count_phrasings(
    slots: Slots, texts: Sequence[tuple[str, str, str | None]]
) -> dict[str, tuple[int, ...]]:
    """Of each slot, in how many texts each of its phrasings stands."""
    plain = {name: [plain_text(p) for p in phrasings] for name, phrasings in slots.items()}
    counts = {name: [0] * len(phrasings) for name, phrasings in plain.items()}
    for text, prompt, asked in texts:
        for name in plain if asked is None else (asked,):
            for i, phrasing in enumerate(plain[name]):
                if phrasing in text and _within(phrasing, text) and not _within(phrasing, prompt):
                    counts[name][i] += 1
    return {name: tuple(each) for name, each in counts.items()}


def read_served_slots(path: Path) -> set[tuple[str, str]]:
    """Which slot went out to which account.

    Raises:
        DataError: FILE:LINE of a line that does not say so.
    """
    found: set[tuple[str, str]] = set()
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, SERVED_FORM)
        account, slot = row.get("account"), row.get("slot")
        if not isinstance(account, str) or not isinstance(slot, str):
            raise DataError(where, "does not name an account and a slot", SERVED_FORM)
        found.add((account, slot))
    if not found:
        raise DataError(str(path), "holds no line", SERVED_FORM)
    return found


def slots_of_accounts(counts: Mapping[str, tuple[int, ...]], accounts: Sequence[str]) -> list[Slot]:
    """All slots that were assigned to these accounts, with what the suspect says there.

    Which of them went out must not choose among them: see `overproof.audit.phrasings`.
    """
    return [Slot(account, name, each) for account in accounts for name, each in counts.items()]
