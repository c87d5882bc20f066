"""What a scorer is: it looks at one answer at a time and knows nothing of who gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from overproof.records.exchange import ToolCall

__all__ = ["Answer", "Known", "Score", "Scorer"]


@dataclass(frozen=True)
class Answer:
    """What a contestant said: text, calls of functions, or both."""

    text: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is known of a prompt: a right answer, facts for verifiers, what the teacher said."""

    item: str
    reference: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    teacher: Answer | None = None


@dataclass(frozen=True)
class Score:
    """How right an answer is.

    ``details`` are further figures in [0, 1], of which means are taken. ``counts`` are summed over
    all answers first, such as the fields found, missed and made up that micro figures are made of.
    """

    value: float
    details: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores answers. ``needs`` is ``reference``, ``reasoning_gym`` or ``teacher``."""

    @property
    def name(self) -> str:
        """As the recipe names it."""
        ...

    @property
    def needs(self) -> str:
        """What must be known of a prompt."""
        ...

    def score(self, answer: Answer, known: Known) -> Score:
        """The score of one answer, in [0, 1].

        Raises:
            DataError: the reference or the facts are not what this scorer reads.
        """
        ...

    def same(self, one: Answer, other: Answer) -> bool:
        """Whether two answers say the same."""
        ...
