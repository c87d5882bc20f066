"""Committing to ghosts: which answer will be served before any is drawn, all answers afterwards.

1. *Before generation* `draw_indices` draws, for each slot of the log, which of its answers will be
   served, from the system's cryptographic generator (or the caller's public beacon); their salted
   commitments go into a Merkle tree whose root is published (`commit_indices`).
2. *After serving*, each request with all its answers is one leaf of a second tree (`commit_log`):
   salted SHA-256 of each answer and of the prompt, so that a leaf can be shown without its texts,
   and of all that decides whether and how a request counts (`Marks`). Of the older form,
   ``overproof-ghosts-1``, leaves hold no marks; such a log is still read, under its own rule.
3. *At the audit* `verify_log` recomputes both trees and names the first item that is not what was
   committed, and the slots that no request of the log uses: dropping prompts is seen.

A root proves an order of events only once it has been published or time-stamped (RFC 3161, a
transparency log); the time in a manifest is its writer's word.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from overproof.audit.merkle import leaf_hash, merkle_root
from overproof.records.hashing import canonical_json

__all__ = [
    "FORMAT",
    "LOG_FORMAT",
    "CommitmentCheck",
    "IndexOpening",
    "Integrity",
    "Manifest",
    "Marks",
    "SealedRequest",
    "commit_indices",
    "commit_log",
    "draw_indices",
    "seal_request",
    "verify_log",
]

FORMAT = "overproof-ghosts-1"  # of served indices, of every hash's domain, and of older logs
LOG_FORMAT = "overproof-ghosts-2"  # leaves of a log commit to marks, too
SALT_BYTES = 16


class Integrity(StrEnum):
    """What a log is, held against its commitment."""

    INTACT = "intact"
    ALTERED = "altered"


@dataclass(frozen=True)
class IndexOpening:
    """Which of ``answers`` answers slot ``slot`` will serve; secret until the audit.

    Raises:
        ValueError: no answer to choose from, or a choice that is none of them.
    """

    slot: int
    answers: int
    served: int
    salt: str

    def __post_init__(self) -> None:
        if self.slot < 0 or not 0 <= self.served < self.answers:
            raise ValueError(f"answer {self.served} of {self.answers} at slot {self.slot}")

    @property
    def commitment(self) -> str:
        """Hex SHA-256, salted."""
        return _hashed("index", [self.salt, self.slot, self.answers, self.served])


@dataclass(frozen=True)
class Marks:
    """What decides whether and how a request counts, beside its texts.

    Whoever may change these after he has seen the suspect's scores chooses which prompts are left
    out. Each tuple has one value an answer, in the order of generation, or none at all.

    Attributes:
        cached: whether it came from a cache.
        retries: how often the served answer was drawn anew.
        tokens: lengths; None where unknown.
        finish_reasons: as the server told them.
        teacher: the teacher's own total log-probs in nats.
    """

    cached: bool = False
    retries: int = 0
    tokens: tuple[int | None, ...] = ()
    finish_reasons: tuple[str | None, ...] = ()
    teacher: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class SealedRequest:
    """A request with every answer, in the order of generation, and the salts of its commitments.

    Attributes:
        id: the provider's name of the request.
        prompt: text, or a list of messages.
        answers: all that were drawn; ``index.served`` says which went out.
        salts: one for the prompt, then one an answer.
        index: the opening of the slot.
        group: requests that share a pool of ghosts have one in common.
        marks: what decides whether and how it counts.
    """

    id: str
    prompt: Any
    answers: tuple[str, ...]
    salts: tuple[str, ...]
    index: IndexOpening
    group: str | None = None
    marks: Marks = Marks()

    @property
    def leaf(self) -> str:
        """Hex leaf hash over the salted commitments."""
        return self.leaf_under(LOG_FORMAT)

    def leaf_under(self, form: str) -> str:
        """The leaf hash by the rule of a format; that of the older one leaves the marks out."""
        named: dict[str, Any] = {
            "format": form,
            "id": self.id,
            "group": self.group,
            "prompt": _hashed("prompt", [self.salts[0], self.prompt]),
            "answers": [
                _hashed("answer", [salt, text])
                for salt, text in zip(self.salts[1:], self.answers, strict=True)
            ],
            "index": self.index.commitment,
        }
        if form != FORMAT:
            named["marks"] = _hashed("marks", [self.salts[0], asdict(self.marks)])
        return leaf_hash(canonical_json(named)).hex()


@dataclass(frozen=True)
class Manifest:
    """What is published (the root) and what names an altered item (the leaves).

    Attributes:
        what: ``indices`` or ``log``.
        root: hex Merkle root.
        leaves: hex leaf hashes in order.
        at: when, ISO 8601 in UTC, by its writer's clock.
        format: by which rule its leaves were made.
    """

    what: str
    root: str
    leaves: tuple[str, ...]
    at: str
    format: str = FORMAT


@dataclass(frozen=True)
class CommitmentCheck:
    """A log held against its commitments.

    Attributes:
        integrity: intact or altered.
        reason: what is not as it was committed, in plain words; empty where intact.
        first_altered: id of the first such item, where one can be named.
        unused_slots: how many committed slots no request of the log uses.
        indices_committed: whether the served indices were held against a commitment, too.
        root: of the log, hex; None where none is known.
        root_published: whether the log was held against a root given from outside of its files.
        index_root: of the served indices; None where none were committed.
        index_root_published: as ``root_published``.
        covers_marks: whether leaves commit to marks; older ones do not.
    """

    integrity: Integrity
    reason: str = ""
    first_altered: str | None = None
    unused_slots: int = 0
    indices_committed: bool = False
    root: str | None = None
    root_published: bool = False
    index_root: str | None = None
    index_root_published: bool = False
    covers_marks: bool = True


def _hashed(kind: str, value: Any) -> str:
    return hashlib.sha256(f"{FORMAT}/{kind}".encode() + b"\x00" + canonical_json(value)).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def draw_indices(
    slots: int, answers: int, *, choose: Callable[[int], int] = secrets.randbelow
) -> list[IndexOpening]:
    """Draw which answer each slot will serve, before any answer exists.

    Args:
        slots: how many requests the log may hold.
        answers: K + 1, how many answers each will draw.
        choose: a uniform draw below its argument; a public beacon may stand in for the system's
            generator, never the order in which answers finish.
    """
    if answers < 2:
        raise ValueError("a served answer needs at least one ghost: draw two answers or more")
    return [
        IndexOpening(slot, answers, choose(answers), secrets.token_hex(SALT_BYTES))
        for slot in range(slots)
    ]


def commit_indices(openings: Sequence[IndexOpening], at: str | None = None) -> Manifest:
    """The manifest of the served indices; publish its root before generating.

    Raises:
        ValueError: slots that are not 0, 1, 2, ….
    """
    if [opening.slot for opening in openings] != list(range(len(openings))):
        raise ValueError("slots are numbered 0, 1, 2, … without a gap")
    leaves = [leaf_hash(bytes.fromhex(opening.commitment)) for opening in openings]
    return _manifest("indices", leaves, at)


def _manifest(what: str, leaves: Sequence[bytes], at: str | None) -> Manifest:
    form = FORMAT if what == "indices" else LOG_FORMAT
    return Manifest(
        what, merkle_root(leaves).hex(), tuple(leaf.hex() for leaf in leaves), at or _now(), form
    )


def seal_request(  # noqa: PLR0917
    index: IndexOpening, request_id: str, prompt: Any, answers: Sequence[str],
    group: str | None = None, marks: Marks | None = None,
) -> SealedRequest:  # fmt: skip
    """Seal a request with all its answers, in the order in which they were generated.

    Raises:
        ValueError: not as many answers as the slot was drawn for.
    """
    if len(answers) != index.answers:
        raise ValueError(f"slot {index.slot} draws {index.answers} answers, not {len(answers)}")
    salts = tuple(secrets.token_hex(SALT_BYTES) for _ in range(len(answers) + 1))
    return SealedRequest(request_id, prompt, tuple(answers), salts, index, group, marks or Marks())


def commit_log(requests: Sequence[SealedRequest], at: str | None = None) -> Manifest:
    """The manifest of a log; publish its root, keep the log."""
    return _manifest("log", [bytes.fromhex(request.leaf) for request in requests], at)


def verify_log(
    requests: Sequence[SealedRequest],
    manifest: Manifest,
    *,
    root: str | None = None,
    indices: Manifest | None = None,
    index_root: str | None = None,
) -> CommitmentCheck:
    """Hold a log against what was committed, and name the first item that differs.

    Args:
        requests: the opened log.
        manifest: of the log, with its leaves.
        root: as it was published; the manifest's own where it is None.
        indices: manifest of the served indices, committed before generation.
        index_root: as that was published.
    """
    return replace(
        _verified(requests, manifest, root, indices, index_root),
        root=manifest.root,
        root_published=root is not None,
        index_root=None if indices is None else indices.root,
        index_root_published=indices is not None and index_root is not None,
        covers_marks=manifest.format != FORMAT,
    )


def _verified(
    requests: Sequence[SealedRequest],
    manifest: Manifest,
    root: str | None,
    indices: Manifest | None,
    index_root: str | None,
) -> CommitmentCheck:
    for name, held, published in (("log", manifest, root), ("indices", indices, index_root)):
        if held is None:
            continue
        recomputed = merkle_root([bytes.fromhex(leaf) for leaf in held.leaves]).hex()
        if recomputed != held.root or (published is not None and recomputed != published.lower()):
            return _altered(f"the leaves of the {name} do not give the root that was published")
    for place, (request, leaf) in enumerate(zip(requests, manifest.leaves, strict=False)):
        unmarked = manifest.format != FORMAT or request.marks == Marks()
        if not unmarked or request.leaf_under(manifest.format) != leaf:
            return _altered(f"item {place + 1} is not what was committed", request.id)
    if len(requests) < len(manifest.leaves):
        return _altered(f"{len(manifest.leaves) - len(requests)} committed item(s) are missing")
    if len(requests) > len(manifest.leaves):
        extra = requests[len(manifest.leaves)]
        return _altered("the log holds an item that was never committed", extra.id)
    return _indices_check(requests, indices)


def _indices_check(requests: Sequence[SealedRequest], indices: Manifest | None) -> CommitmentCheck:
    used: set[int] = set()
    for request in requests:
        slot = request.index.slot
        if slot in used:
            return _altered(f"slot {slot} is used twice", request.id)
        used.add(slot)
        if indices is None:
            continue
        own = leaf_hash(bytes.fromhex(request.index.commitment)).hex()
        if slot >= len(indices.leaves) or indices.leaves[slot] != own:
            reason = f"the served index of slot {slot} is not the one committed before generation"
            return _altered(reason, request.id)
    unused = 0 if indices is None else len(indices.leaves) - len(used)
    return CommitmentCheck(
        Integrity.INTACT, unused_slots=unused, indices_committed=indices is not None
    )


def _altered(reason: str, first: str | None = None) -> CommitmentCheck:
    return CommitmentCheck(Integrity.ALTERED, reason, first)
