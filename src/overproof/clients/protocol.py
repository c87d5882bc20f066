"""The teacher protocol: what every client offers and what it declares that it can do."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from overproof.records.exchange import Completion, Record, Request

__all__ = ["Capabilities", "DrawsMany", "Meter", "Teacher"]


class Capabilities(Record):
    """What a teacher can do; a recipe that needs more is refused by ``plan``.

    ``top_logprobs`` is the largest k it returns (0: none); ``assistant_prefill`` that it continues
    a last message of role assistant; ``tokenize`` that it tells how a text is tokenised.
    ``context_length`` is in tokens, ``None`` where unknown. ``choices`` is how many answers one
    call may draw. ``structured`` and ``tools`` say that a JSON Schema and functions can be handed
    over; ``batch`` that everything goes through a batch API.
    """

    top_logprobs: int = 0
    prompt_logprobs: bool = False
    assistant_prefill: bool = False
    tokenize: bool = False
    seed: bool = False
    temperature: bool = True
    batch: bool = False
    context_length: int | None = None
    choices: int = 1
    structured: bool = False
    tools: bool = False


class Meter(Protocol):
    """Watches what attempts may cost. A teacher tells it of every attempt that it sends."""

    async def before(self) -> None:
        """Reserve the worst case of one more attempt, or wait until there is room.

        Raises:
            BudgetError: a cap of the recipe leaves no room for it.
        """

    def after(self, completion: Completion, *, reached: bool) -> None:
        """Settle an attempt with what came of it; ``reached`` tells whether it left this machine.

        An attempt that may have been billed though nobody counted its tokens stays charged at its
        reservation, marked uncertain.
        """

    def pause(self) -> None:
        """The request waits to be tried again: what it holds may be used by others."""

    async def resume(self) -> None:
        """The wait is over."""


class Teacher(Protocol):
    """A teacher that answers requests. Used as an async context manager.

    ``complete`` never raises for a single bad answer: it returns a completion whose outcome says
    what happened. It raises ``TeacherUnreachableError`` where nobody answers at all, and
    ``SecretError`` where the key is refused.
    """

    name: str
    model: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def capabilities(self) -> Capabilities:
        """What this teacher can do. Final only inside the context."""

    async def check(self) -> str | None:
        """Why asking would be in vain, with the way out; nothing is spent to find out.

        ``None`` when somebody answers, or when it cannot be told without spending.
        """

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request."""

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text`` in the teacher's tokenizer, ``None`` where it cannot tell."""


class DrawsMany(Teacher, Protocol):
    """A teacher whose ``capabilities.choices`` is above 1."""

    async def complete_many(
        self, requests: Sequence[Request], meter: Meter | None = None
    ) -> list[Completion]:
        """Answer requests that differ in ``sample`` alone, in one call of ``n`` choices.

        At most ``capabilities.choices`` of them. The usage of the call stands with the first.
        """
