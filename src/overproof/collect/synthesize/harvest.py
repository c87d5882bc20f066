"""The harvest of a strategy: candidates in, distinct prompts out, everything else accounted for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from overproof.collect.synthesize.diversity import Diversity
from overproof.collect.synthesize.protocol import (
    Candidate,
    Dropped,
    StrategyReport,
    StrategyTools,
    messages_of_text,
)
from overproof.config.synthesize import StrategySection
from overproof.records.exchange import Outcome
from overproof.records.text_dataset import Origin, Prompt

__all__ = ["Harvest"]


class Harvest:
    """What a strategy has made so far, and whether it should go on.

    Args:
        name: the strategy's.
        config: how many prompts are wanted, how different, and when to give up.
        tools: for the system message, the embedder and the held-out texts.
        earlier: texts of the prompts that strategies before this one have made.
        rouge: a threshold of ROUGE-L that new prompts must stay below.
        unit: what candidates come in, for the notes.
    """

    def __init__(
        self,
        name: str,
        config: StrategySection,
        tools: StrategyTools,
        earlier: Sequence[str] = (),
        *,
        rouge: float | None = None,
        unit: str = "answers",
    ) -> None:
        self.name = name
        self.made: list[Prompt] = []
        self.dropped: list[Dropped] = []
        self.notes: list[str] = []
        self._config = config
        self._tools = tools
        self._earlier = earlier
        self._unit = unit
        self._diversity = Diversity(config, tools.embedder, rouge)
        self._answers: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._seen = 0
        self._recent: deque[int] = deque(maxlen=config.patience)

    async def begin(self, seeds: Sequence[Prompt]) -> None:
        """Remember what there is already; to be called once, before the first answer."""
        await self._diversity.know(self._tools.held_out, "a held-out prompt")
        await self._diversity.know([seed.text for seed in seeds], "a seed")
        await self._diversity.know(self._earlier, "an earlier prompt")

    @property
    def wanted(self) -> int:
        """How many prompts are still wanted."""
        return self._config.count - len(self.made)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do: enough prompts, or hardly a new one of late."""
        if self.wanted <= 0:
            return True
        recent = self._recent
        return len(recent) == recent.maxlen and sum(recent) < self._config.floor * len(recent)

    async def take(
        self,
        candidates: Sequence[Candidate],
        *,
        outcome: Outcome | None = None,
        request_key: str | None = None,
    ) -> None:
        """Take the candidates of one answer; the rest beyond ``count`` is counted as surplus.

        Args:
            candidates: in the order in which they were found.
            outcome: of the teacher's answer, ``None`` where no teacher was asked.
            request_key: of that answer.
        """
        before = len(self.made)
        if outcome is not None:
            self._answers[outcome.value] += 1
        keys = (request_key,) if request_key else ()
        sound = [each for each in candidates if each.rejected is None]
        texts = [each.compared or each.text for each in sound]
        verdicts = dict(zip(map(id, sound), await self._diversity.admit(texts), strict=True))
        for each in candidates:
            self._seen += 1
            like = verdicts.get(id(each))
            if each.rejected is not None:
                self._drop(each, each.rejected, keys)
            elif like is not None:
                self._drop(each, like.reason, keys, like.text, like.similarity)
            elif self.wanted <= 0:
                self._drop(each, "more than wanted", keys)
            else:
                self.made.append(self._prompt(each, keys, asked=outcome is not None))
        self._recent.append(len(self.made) - before)

    def close(self, ended: str = "there is nothing more to ask") -> None:
        """Say in the notes why there are fewer prompts than wanted; ``ended``: why else."""
        if self.wanted <= 0:
            return
        if self.over:
            brought, n = sum(self._recent), len(self._recent)
            ended = (
                f"the last {n} {self._unit} brought {brought} new prompt"
                f"{'' if brought == 1 else 's'}"
            )
        self.notes.append(f"stopped at {len(self.made)} of {self._config.count}: {ended}")

    def report(self) -> StrategyReport:
        """The account in figures."""
        return StrategyReport(
            name=self.name,
            seen=self._seen,
            dropped=len(self.dropped),
            reasons=dict(self._reasons),
            notes=tuple(self.notes),
            wanted=self._config.count,
            made=len(self.made),
            answers=dict(self._answers),
        )

    def _drop(
        self,
        candidate: Candidate,
        reason: str,
        keys: tuple[str, ...],
        like: str | None = None,
        similarity: float | None = None,
    ) -> None:
        self._reasons[reason.split(": ", 1)[0]] += 1
        self.dropped.append(
            Dropped(
                strategy=self.name,
                text=candidate.text,
                reason=reason,
                like=like,
                similarity=similarity,
                source=candidate.source,
                parents=candidate.parents,
                request_keys=keys,
            )
        )

    def _prompt(self, candidate: Candidate, keys: tuple[str, ...], *, asked: bool) -> Prompt:
        messages, item = messages_of_text(candidate.text, self._tools.system)
        return Prompt(
            item=item,
            messages=messages,
            origin=Origin(
                kind=self.name,
                source=candidate.source,
                parents=candidate.parents,
                teacher=self._tools.teacher if asked else None,
                request_keys=keys,
            ),
            reference=candidate.reference,
            facts=dict(candidate.facts),
        )
