"""No teacher at all: a recipe that lives on answers imported or collected before."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from overproof.clients.protocol import Capabilities, Meter
from overproof.errors import TeacherError
from overproof.records.exchange import Completion, Request

__all__ = ["LedgerOnlyTeacher"]


class LedgerOnlyTeacher:
    """Stands where a teacher would; every request that reaches it is one the ledger lacks."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.name = f"{model}@ledger"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @property
    def capabilities(self) -> Capabilities:
        """None of them."""
        return Capabilities(temperature=False)

    async def check(self) -> None:
        """The ledger needs nobody to answer."""
        return

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:  # noqa: ARG002
        """Refuse: there is nobody to ask.

        Raises:
            TeacherError: always.
        """
        raise TeacherError(
            f"request {request.key}",
            "is not in the ledger, and this recipe has no teacher to ask",
            "import the answers with `overproof import`, or name a teacher of kind 'openai' or "
            "'embedded'",
        )

    async def tokenize(self, text: str) -> None:  # noqa: ARG002
        """Nobody knows."""
        return
