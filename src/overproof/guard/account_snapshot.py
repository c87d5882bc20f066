"""One account to plain values and back, for a snapshot."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

from overproof.guard.account import NO_CAPABILITIES, AccountState
from overproof.guard.counters import NO_TURNS, BottomK, packed, unpacked
from overproof.guard.pivot import Move, Pivot

__all__ = ["FIELDS", "plain_account", "restored_account"]

FIELDS = tuple(AccountState.__slots__)
HOURS = 21  # bytes for 168 bits, more than a packed integer holds


def plain_account(account: AccountState) -> list[Any]:
    """Its fields in the order of `FIELDS`, as numbers, strings, bytes, lists and dicts."""
    return [_plain(name, getattr(account, name)) for name in FIELDS]


def restored_account(values: list[Any]) -> AccountState:
    """The account that `plain_account` described.

    Raises:
        ValueError: the values are not those of one account.
    """
    fields = dict(zip(FIELDS, values, strict=True))
    account = AccountState(fields["index"], fields["account"], fields["first_seen"])
    for name, value in fields.items():
        setattr(account, name, _rich(name, value))
    return account


def _plain(name: str, value: Any) -> Any:
    if name in _WRITE and value is not None:
        return _WRITE[name](value)
    return value


def _rich(name: str, value: Any) -> Any:
    if name in _READ and value is not None:
        return _READ[name](value)
    return value


def _own_models(models: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {model: list(seen) for model, seen in models.items()}


def _read_turns(value: list[bytes]) -> BottomK:
    hashes = unpacked("Q", value[0])
    return BottomK(hashes, value[1]) if hashes else NO_TURNS


def _read_capabilities(value: bytes) -> array[int]:
    counts = unpacked("I", value)
    return counts if any(counts) else NO_CAPABILITIES


_WRITE: dict[str, Callable[[Any], Any]] = {
    "hours": lambda value: value.to_bytes(HOURS, "little"),
    "daily": packed,
    "capabilities": packed,
    "turns": lambda value: [packed(value.hashes), value.counts],
    "_others": _own_models,
    "_pivot": Pivot.state,
    "_texts": packed,
}
_READ: dict[str, Callable[[Any], Any]] = {
    "hours": lambda value: int.from_bytes(value, "little"),
    "daily": partial(unpacked, "I"),
    "capabilities": _read_capabilities,
    "turns": _read_turns,
    "_others": _own_models,
    "_pivot": lambda value: Pivot(*value),
    "best_pivot": lambda value: Move(*value),
    "temperatures": tuple,
    "changes": lambda value: tuple(tuple(change) for change in value),
    "_texts": partial(unpacked, "Q"),
}
