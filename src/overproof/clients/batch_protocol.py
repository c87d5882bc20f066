"""What a provider's batch API offers: submit many requests at once, look, read the results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from overproof.records.exchange import Completion, Request

__all__ = [
    "KEY_PREFIX",
    "BatchApi",
    "BatchLimits",
    "BatchLine",
    "BatchState",
    "BatchView",
    "BrokenDownload",
    "Found",
    "LostBatch",
    "ResultsGone",
    "Submission",
    "Submitted",
    "Unanswered",
    "custom_id_of",
]


KEY_PREFIX = "sha256:"


def custom_id_of(request: Request) -> str:
    """What names a request within a batch: the 64 hex digits of its key.

    Anthropic allows ``^[a-zA-Z0-9_-]{1,64}$``; OpenAI any text.
    """
    return request.key.removeprefix(KEY_PREFIX)


class BatchState(StrEnum):
    """Where a batch stands.

    ``ENDED`` batches have results to read, whether all requests were answered or not. ``FAILED``
    ones never ran. ``GONE`` ones are not known to the provider. ``UNREADABLE`` says that nobody
    could be asked just now.
    """

    UNDER_WAY = "under way"
    ENDED = "ended"
    FAILED = "failed"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Submitted(StrEnum):
    """What came of submitting a batch. ``UNKNOWN``: it may exist although nobody said so."""

    CREATED = "created"
    NOT_NOW = "not now"
    TOO_LARGE = "too large"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Submission:
    """One attempt to submit: its outcome, the batch's id, the wait asked for, and the reason.

    ``reached`` is false where nobody was there to take it.
    """

    outcome: Submitted
    id: str = ""
    wait_s: float | None = None
    why: str = ""
    reached: bool = True


@dataclass(frozen=True)
class Unanswered:
    """A request that a batch did not answer, and that was not billed.

    ``again`` says that another batch may answer it; ``uncertain`` that it may have been billed
    after all, as nobody counted.
    """

    error: str
    status: int | None = None
    again: bool = False
    uncertain: bool = False


@dataclass(frozen=True)
class BatchLine:
    """What a batch says of one request."""

    custom_id: str
    result: Completion | Unanswered


@dataclass(frozen=True)
class BatchView:
    """A batch at one look.

    ``done`` of ``total`` requests are finished, ``None`` where the provider does not say.
    ``files`` is where the results are read. ``rest`` is what holds for a request that the results
    leave out. ``bad_lines`` are those that kept a batch from running, numbered from 0, with the
    reason. ``queue_full`` says that a smaller or a later batch would have been taken.
    """

    id: str
    state: BatchState
    word: str = ""
    done: int | None = None
    total: int | None = None
    files: tuple[str, ...] = ()
    rest: Unanswered = Unanswered("the batch's results leave it out", again=True, uncertain=True)
    why: str = ""
    bad_lines: dict[int, str] = field(default_factory=dict)
    queue_full: bool = False
    took_s: float | None = None
    wait_s: float | None = None


@dataclass(frozen=True)
class LostBatch:
    """A batch that may have been submitted: nobody was told its id.

    ``since`` is when it was about to be submitted, in seconds since 1970; ``known`` are the ids
    of batches that are other ones.
    """

    tag: str
    custom_ids: frozenset[str]
    since: float
    known: frozenset[str]


@dataclass(frozen=True)
class Found:
    """What looking for a lost batch came to: its id, or ``None``.

    Without an id, ``certain`` tells that there is no such batch; otherwise it cannot be told, or
    not ``yet``.
    """

    id: str | None
    certain: bool
    yet: bool = False
    why: str = ""


@dataclass(frozen=True)
class BatchLimits:
    """The most that one batch of this provider holds."""

    requests: int
    bytes: int


class BrokenDownload(Exception):  # noqa: N818 - a passing state, never shown as an error
    """Results could not be read to their end; reading them again may succeed."""


class ResultsGone(Exception):  # noqa: N818 - as above
    """Results, or a part of them, were deleted or have expired at the provider."""


class BatchApi(Protocol):
    """A provider's batch API. Every method tries once; trying again is up to the caller.

    Methods raise ``SecretError`` where the key is refused, and ``TeacherError`` where the provider
    rejects what is asked for good.
    """

    limits: BatchLimits
    shown: str

    async def open(self) -> None:
        """Open the connections."""

    async def close(self) -> None:
        """Close the connections; batches go on at the provider."""

    def line(self, request: Request) -> bytes:
        """The request as the batch holds it, without a line end.

        Raises:
            ValueError: it cannot be asked so.
        """

    async def submit(self, tag: str, lines: Sequence[bytes]) -> Submission:
        """Create a batch; ``tag`` is ours and random, to find it again by."""

    async def look(self, batch_id: str) -> BatchView:
        """Where the batch stands."""

    def results(
        self, view: BatchView, requests: Mapping[str, Request]
    ) -> AsyncGenerator[BatchLine, None]:
        """What an ended batch says of its requests, in any order.

        Args:
            view: of the batch.
            requests: by custom id, those whose answers are waited for.

        Raises:
            BrokenDownload: the connection broke on the way.
            ResultsGone: after all that is left of them.
        """

    async def find(self, lost: LostBatch) -> Found:
        """Look for a batch whose id is not known.

        Raises:
            BrokenDownload: the provider cannot be asked just now.
        """
