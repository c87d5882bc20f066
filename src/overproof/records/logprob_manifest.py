"""The manifest of a log-prob store: what it holds and which files it is made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from overproof.records.exchange import Record
from overproof.records.logprob_codec import LARGEST_VOCABULARY, MOST_PLACES, Kind

__all__ = ["Shard", "StoreManifest"]


class Shard(Record):
    """One file of records: which rows it holds and how wide their records are."""

    file: str
    rows: int = Field(ge=0)
    tokens: int = Field(ge=0)
    places: int = Field(ge=1, le=MOST_PLACES)
    size: int = Field(ge=0)
    sha256: str


class StoreManifest(Record):
    """What a store is.

    ``k`` is the most places that a token uses, ``draws`` how many tokens were drawn at each
    position (``sampled`` alone). ``fingerprint`` names what the store was made of. ``report`` is
    whatever its maker wants to remember of the making.
    """

    format: Literal["overproof-logprobs-1"] = "overproof-logprobs-1"
    kind: Kind
    k: int = Field(ge=1, le=MOST_PLACES)
    draws: int = Field(default=0, ge=0, le=255)
    vocabulary: int = Field(ge=1, le=LARGEST_VOCABULARY)
    fingerprint: str
    rows: int = Field(ge=0)
    tokens: int = Field(ge=0)
    known: int = Field(ge=0)
    rows_sha256: str
    shards: tuple[Shard, ...]
    report: dict[str, Any] = Field(default_factory=dict)
