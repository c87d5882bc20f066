"""Asking a teacher for prompts: what all strategies that ask have in common.

Which question comes next depends on the recipe and on the answers before it alone, never on speed:
so a run that is resumed asks the same questions again, and finds their answers in the ledger.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from overproof.collect.filters.protocol import Check
from overproof.collect.synthesize.harvest import Harvest
from overproof.collect.synthesize.lists import UnreadableError
from overproof.collect.synthesize.protocol import (
    Candidate,
    Dropped,
    StrategyReport,
    StrategyTools,
    one_turn,
)
from overproof.config.synthesize import AskingSection
from overproof.errors import ConfigError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request
from overproof.records.text_dataset import Prompt

__all__ = ["AskingStrategy", "Question", "seeds_of"]

# A question may build on the prompts made by all answers but the last few: this many requests can
# be in flight, and which prompts a question sees does not depend on how fast the answers came.
LAG = 16

C = TypeVar("C", bound=AskingSection)


@dataclass(frozen=True)
class Question:
    """One request for new prompts.

    ``sample`` tells apart questions of the same words. ``about`` is the strategy's own.
    """

    words: str
    schema: dict[str, Any]
    sample: int = 0
    about: Any = None


class AskingStrategy(ABC, Generic[C]):
    """A strategy that asks the teacher: it says what to ask and how an answer is read.

    Args:
        config: its section of the recipe.
        tools: the teacher and what else it may need.
        earlier: texts of the prompts that strategies before this one have made.
    """

    name: ClassVar[str]
    builds_on_answers: ClassVar[bool] = False

    def __init__(self, config: C, tools: StrategyTools, earlier: Sequence[str] = ()) -> None:
        self.config = config
        self.tools = tools
        self._harvest = Harvest(self.name, config, tools, earlier, rouge=self.rouge)

    @property
    def rouge(self) -> float | None:
        """A threshold of ROUGE-L that new prompts must stay below."""
        return None

    @property
    def notes(self) -> list[str]:
        """What is worth knowing of the last call of ``prompts``."""
        return self._harvest.notes

    @property
    def dropped(self) -> list[Dropped]:
        """The candidates that became no prompts, each with its reason."""
        return self._harvest.dropped

    def report(self) -> StrategyReport:
        """What came of the last call of ``prompts``."""
        return self._harvest.report()

    @abstractmethod
    def prepare(self, seeds: Sequence[Prompt]) -> None:
        """Look at the seeds once, before the first question."""

    @abstractmethod
    def question(self, number: int, made: Sequence[Prompt]) -> Question | None:
        """The question of this number, counting from 0; ``None`` when there is none left.

        ``made`` are the new prompts that it may build on; empty unless ``builds_on_answers``.
        """

    @abstractmethod
    def read(self, question: Question, text: str, *, cut: bool) -> list[Candidate]:
        """The candidates in an answer; ``cut`` when it ended at ``max_tokens``.

        Raises:
            UnreadableError: the answer is not what was asked for; it is asked for again.
        """

    @property
    def per_answer(self) -> int:
        """How many prompts an answer may bring."""
        return self.config.per_request

    async def prompts(self, seeds: Sequence[Prompt]) -> list[Prompt]:
        """Ask until there are ``count`` distinct prompts, or hardly a new one comes any more.

        Where asking ends early, the answers still under way are not used, so that the prompts do
        not depend on how many those are; the ledger has them.
        """
        self.prepare(seeds)
        await self._harvest.begin(seeds)
        waiting: deque[tuple[Question, Request, asyncio.Task[Completion]]] = deque()
        made_after = [0]  # how many prompts there were after so many answers
        number, more = 0, True
        try:
            while not self._harvest.over:
                while more and len(waiting) < self._most_in_flight():
                    usable = made_after[max(0, number - LAG + 1)] if self.builds_on_answers else 0
                    question = self.question(number, self._harvest.made[:usable])
                    more = question is not None
                    if question is not None:
                        waiting.append((question, *self._send(question)))
                        number += 1
                if not waiting:
                    break
                question, request, task = waiting.popleft()
                await self._take(question, request, await task)
                made_after.append(len(self._harvest.made))
        finally:
            for _, _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in waiting), return_exceptions=True)
        self._harvest.close()
        return self._harvest.made

    def _most_in_flight(self) -> int:
        """No more than would bring what is wanted if every answer brought all it may."""
        needed = math.ceil(self._harvest.wanted / self.per_answer)
        return min(self.tools.width, needed, LAG if self.builds_on_answers else needed)

    def _send(self, question: Question) -> tuple[Request, asyncio.Task[Completion]]:
        config, tools = self.config, self.tools
        request = Request(
            model=tools.model,
            messages=(Message(role="user", content=question.words),),
            parameters=Parameters(
                max_tokens=config.max_tokens,
                temperature=config.temperature,
                extra=dict(tools.extra),
                response_schema=question.schema if tools.structured else None,
            ),
            sample=question.sample,
        )
        return request, asyncio.ensure_future(tools.ask(request, self._check(question)))

    def _check(self, question: Question) -> Check:
        def check(completion: Completion) -> str | None:
            if completion.outcome is not Outcome.ANSWERED:
                return None
            try:
                self.read(question, completion.text, cut=False)
            except UnreadableError as problem:
                return str(problem)
            return None

        return check

    async def _take(self, question: Question, request: Request, completion: Completion) -> None:
        outcome = completion.outcome
        candidates: list[Candidate] = []
        if outcome in (Outcome.ANSWERED, Outcome.TRUNCATED):
            try:
                cut = outcome is Outcome.TRUNCATED
                candidates = self.read(question, completion.text, cut=cut)
            except UnreadableError:
                outcome = Outcome.MALFORMED if outcome is Outcome.ANSWERED else outcome
        await self._harvest.take(candidates, outcome=outcome, request_key=request.key)


def seeds_of(seeds: Sequence[Prompt], kind: str, notes: list[str]) -> list[Prompt]:
    """The seeds that a strategy can work on; what is left out is said in ``notes``.

    Raises:
        ConfigError: there is none.
    """
    usable = one_turn(seeds)
    if not usable:
        raise ConfigError(
            f"synthesize: kind = '{kind}'",
            "has no seeds to start from" + (": all have several turns" if seeds else ""),
            "name a file of prompts in [data]; or say from = 'all' below an entry that makes some, "
            "such as kind = 'documents'",
        )
    if len(usable) < len(seeds):
        notes.append(f"seeds of several turns left out: {len(seeds) - len(usable)}")
    return usable
