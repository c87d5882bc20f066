"""Looks of a staged ghosts test on disk: what each was taken on, and what was seen.

``looks/NAME.K.json`` beside the sealed plan. A look is *opened*, with the digest of every request
that is new at it, before the suspect is asked about any of them; it is *taken* once all are scored,
and keeps the scores, so that a later look adds to what an earlier one saw and never replaces it. A
log that was refused before the suspect was asked has used up nothing, nor has a server that died
before all was scored: the look may be opened again, on other data too, and the journal shows it.

Each file states its own hash, which shows accidents; the journal of data beside the plan, to which
a line is added at every look, shows a look that was removed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from overproof.audit.served import Answer, Pool, ServedRequest
from overproof.errors import ConfigError, DataError
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash

__all__ = [
    "FOLDER",
    "Fate",
    "LookRecord",
    "PoolScores",
    "due_look",
    "read_looks",
    "request_digest",
    "require_same_data",
    "scores_of",
    "with_scores",
    "write_look",
]

FORMAT = "overproof-audit-look/1"
FOLDER = "looks"


class Fate(StrEnum):
    """How far a look has come."""

    OPENED = "opened"
    REFUSED = "ended before anything of the suspect was shown"
    CONTINUE = "taken, the test goes on"
    DECIDED = "taken, the test is decided"


@dataclass(frozen=True)
class PoolScores:
    """What was measured of one pool: of each answer, its length and log-probs by model."""

    ids: tuple[str, ...]
    tokens: tuple[int | None, ...]
    logprobs: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class LookRecord:
    """One look.

    Attributes:
        look: its number, from 1.
        requests: digest of each request that is new at it, in the log's order.
        models: what scored them: ``suspect`` and ``reference``, by name or digest of the weights.
        fate: how far it came.
        pools: scores of its pools, once taken.
        words: what it came to.
    """

    look: int
    requests: tuple[str, ...]
    models: dict[str, str] = field(default_factory=dict)
    fate: Fate = Fate.OPENED
    pools: tuple[PoolScores, ...] = ()
    words: str = ""


def request_digest(request: ServedRequest) -> str:
    """SHA-256 of all that the log says of a request, its place in the file aside."""
    body = asdict(request) | {"where": None}
    if request.id == request.where:
        body["id"] = None
    return content_hash(body)


def _path(directory: Path, name: str, look: int) -> Path:
    return directory / FOLDER / f"{name}.{look}.json"


def write_look(directory: Path, name: str, plan_sha256: str, record: LookRecord) -> None:
    """Write a look, whole or not at all; an earlier state of it is replaced.

    Raises:
        DataError: a full disk, a missing permission.
    """
    body = {"format": FORMAT, "name": name, "plan_sha256": plan_sha256, "record": asdict(record)}
    path = _path(directory, name, record.look)
    try:
        write_atomically(path, json.dumps(body | {"sha256": content_hash(body)}) + "\n")
    except OSError as error:
        raise DataError(
            str(path), f"cannot be written: {error.strerror or error}",
            "make room or give permission, and run the same look again",
        ) from error  # fmt: skip


def read_looks(directory: Path, name: str, plan_sha256: str) -> list[LookRecord]:
    """The looks of a test so far, in order.

    Raises:
        DataError: a file that is none, was altered or belongs to another plan.
    """
    found: list[LookRecord] = []
    while (path := _path(directory, name, len(found) + 1)).exists():
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            sha256 = raw.pop("sha256")
            if raw["format"] != FORMAT or content_hash(raw) != sha256:
                raise ValueError("its bytes do not have the hash that it states")
            if raw["plan_sha256"] != plan_sha256 or raw["name"] != name:
                raise ValueError("it belongs to another plan or test")
            record = _record(raw["record"])
            if record.look != len(found) + 1:
                raise ValueError(f"it is look {record.look}")
        except OSError as error:
            raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                str(path), f"is not a look as it was written: {error}",
                "restore the file; a look cannot be taken twice",
            ) from error  # fmt: skip
        found.append(record)
    return found


def _record(raw: dict[str, Any]) -> LookRecord:
    return LookRecord(
        look=raw["look"],
        requests=tuple(raw["requests"]),
        models=dict(raw["models"]),
        fate=Fate(raw["fate"]),
        pools=tuple(
            PoolScores(tuple(each["ids"]), tuple(each["tokens"]), tuple(each["logprobs"]))
            for each in raw["pools"]
        ),
        words=raw["words"],
    )


def due_look(
    name: str, records: Sequence[LookRecord], planned: Sequence[int], wanted: int | None = None
) -> int:
    """Which look is to be taken now, from 1.

    Args:
        name: of the test.
        records: the looks so far.
        planned: numbers of requests of all looks.
        wanted: the look that was asked for; the next where it is None. The last one that was
            taken may be asked for again, on the same data.

    Raises:
        ConfigError: it was not planned, comes out of order, or the test is decided.
    """
    total = len(planned)
    at = ", ".join(f"{n:,}" for n in planned)
    if wanted is not None and not 1 <= wanted <= total:
        raise ConfigError(
            f"{name}: look {wanted}", f"was not planned: there are {total}, at {at} requests",
            f"looks are numbered 1 to {total}",
        )  # fmt: skip
    taken = [each.look for each in records if each.fate in (Fate.CONTINUE, Fate.DECIDED)]
    last = taken[-1] if taken else 0
    is_over = bool(records) and records[-1].fate is Fate.DECIDED
    if wanted is None and is_over:
        raise ConfigError(
            name, f"was decided at look {last} of {total}: {records[-1].words}",
            f"its finding stands; --look {last} computes it again, on the same data",
        )  # fmt: skip
    due = last + 1 if wanted is None else wanted
    if is_over and due > last:
        raise ConfigError(
            f"{name}: look {due}", f"never comes: look {last} decided ({records[-1].words})",
            "a decided test takes no further look",
        )  # fmt: skip
    if due > last + 1:
        raise ConfigError(
            f"{name}: look {due}", f"comes out of order: look {last + 1} was not taken yet",
            f"take look {last + 1} first",
        )  # fmt: skip
    if due < last:
        raise ConfigError(
            f"{name}: look {due}", f"was taken before; look {last} came after it",
            "an earlier look is not taken again",
        )  # fmt: skip
    return due


def require_same_data(
    name: str,
    records: Sequence[LookRecord],
    digests: Sequence[str],
    models: dict[str, str],
    names: Sequence[str],
) -> None:
    """Refuse other requests, or other models, than earlier looks and an opened one were taken on.

    Args:
        name: of the test.
        records: the looks so far.
        digests: of the requests up to the look that is due, in order.
        models: what scores them now.
        names: of the requests, for the error.

    Raises:
        DataError: the first request that differs is named.
        ConfigError: another suspect or reference.
    """
    place = 0
    for record in records:
        if record.fate is Fate.REFUSED:
            continue
        for digest in record.requests:
            if place >= len(digests) or digests[place] != digest:
                which = names[place] if place < len(names) else f"request {place + 1}"
                raise DataError(
                    which, f"is not what look {record.look} of {name} was taken on (request "
                    f"{place + 1} of the log)",
                    "give the log as it was then; new requests come behind the old ones",
                )  # fmt: skip
            place += 1
        for model, was in record.models.items():  # none where it was opened and never taken
            if models.get(model) != was:
                raise ConfigError(
                    f"{name}: the {model}", f"is not the one of look {record.look}",
                    "all looks are taken with the same models",
                )  # fmt: skip


def scores_of(pools: Sequence[Pool]) -> tuple[PoolScores, ...]:
    """What to keep of pools that were scored."""
    return tuple(
        PoolScores(
            pool.ids,
            tuple(answer.tokens for answer in pool.answers),
            tuple(dict(answer.logprobs) for answer in pool.answers),
        )
        for pool in pools
    )


def with_scores(pools: Sequence[Pool], kept: Sequence[PoolScores], culprit: str) -> list[Pool]:
    """Pools as they were scored at an earlier look.

    Raises:
        DataError: they are not the same pools.
    """
    if len(pools) != len(kept):
        raise DataError(culprit, "holds scores of other prompts", "restore the file")
    found = []
    for pool, scores in zip(pools, kept, strict=True):
        if not len(pool.answers) == len(scores.tokens) == len(scores.logprobs):
            raise DataError(culprit, "holds scores of other prompts", "restore the file")
        answers = tuple(
            Answer(answer.text, tokens, dict(logprobs), answer.finish_reason)
            for answer, tokens, logprobs in zip(
                pool.answers, scores.tokens, scores.logprobs, strict=True
            )
        )
        found.append(Pool(pool.ids, pool.prompt, answers, pool.served, pool.cluster, pool.position))
    return found
