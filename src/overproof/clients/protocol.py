"""The teacher protocol: what every client offers and what it declares that it can do."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from overproof.records.exchange import Completion, Record, Request

__all__ = ["Capabilities", "Teacher"]


class Capabilities(Record):
    """What a teacher can do; a recipe that needs more is refused by ``plan``.

    ``top_logprobs`` is the largest k it returns (0: none); ``assistant_prefill`` that it continues
    a last message of role assistant; ``tokenize`` that it tells how a text is tokenised.
    ``context_length`` is in tokens, ``None`` where unknown.
    """

    top_logprobs: int = 0
    prompt_logprobs: bool = False
    assistant_prefill: bool = False
    tokenize: bool = False
    seed: bool = False
    temperature: bool = True
    batch: bool = False
    context_length: int | None = None


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

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text`` in the teacher's tokenizer, ``None`` where it cannot tell."""
