"""A judge that compares answers in both orders, and says how noisy it is.

Position bias and its remedy, the swap, are those of Zheng et al., *Judging LLM-as-a-Judge*
(arXiv:2306.05685). Ties, contradictions and unreadable answers are outcomes of their own.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from overproof.collect.filters.judge_votes import (
    Side,
    Verdict,
    ask_for,
    combined,
    side_of,
    unreadable,
)
from overproof.collect.filters.protocol import FilterTools
from overproof.collect.filters.texts import answered
from overproof.config.filters import Judge
from overproof.errors import DataError, TeacherError
from overproof.records.exchange import Parameters
from overproof.records.text_dataset import TextExample
from overproof.stats.intervals import wilson

__all__ = ["JudgeFilter"]

NOT_HAD = (Verdict.UNREADABLE, Verdict.UNJUDGED)
FEWEST_PROBES = 5


class JudgeFilter:
    """Drops answers that lose against a reference, or against another sample of their prompt."""

    def __init__(self, config: Judge, tools: FilterTools) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._tools = tools
        self._model = config.model or tools.model
        self._parameters = Parameters(max_tokens=config.max_tokens, temperature=config.temperature)
        self._turns = asyncio.Semaphore(tools.width)

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Answers without a verdict that keeps them.

        Raises:
            DataError: no prompt has a reference to compare with, or no prompt two samples.
            TeacherError: more verdicts than ``max_unjudged`` could not be had, or the judge tells
                answers to other prompts from fitting ones no better than a coin.
        """
        self.notes = []
        if not examples:
            return {}
        verdicts = await (
            self._against_references(examples)
            if self._config.against == "reference"
            else self._among_samples(examples)
        )
        counts = Counter(verdict.value for verdict, _ in verdicts.values())
        self.notes.append(
            f"{self._model} judged {len(verdicts)} answers: "
            + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        )
        if untouched := len(examples) - len(verdicts):
            self.notes.append(f"{untouched} kept unjudged: nothing to compare them with")
        not_had = sum(counts[verdict.value] for verdict in NOT_HAD)
        self._check(not_had / len(verdicts), f"{not_had} of {len(verdicts)} verdicts were not had")
        if not await self._tells([examples[index] for index in verdicts]):
            void = (Verdict.UNJUDGED, "the judge tells nothing")
            verdicts = {i: void if self._keeps(v[0]) else v for i, v in verdicts.items()}
        return {
            index: f"{verdict.value}: {why}"
            for index, (verdict, why) in verdicts.items()
            if not self._keeps(verdict)
        }

    def _keeps(self, verdict: Verdict) -> bool:
        if verdict in NOT_HAD:
            return self._config.on_unjudged == "keep"
        return verdict.value in self._config.keep

    def _check(self, share: float, what: str) -> None:
        if share > self._config.max_unjudged and self._config.on_unjudged == "fail":
            raise TeacherError(
                f"judge {self._model}",
                f"{what}, more than max_unjudged = {self._config.max_unjudged:g} allows",
                "mend the judge and run the same command again: verdicts already had are not "
                "asked for twice; or say in on_unjudged what becomes of answers without one",
            )

    async def _side(self, prompt: str, a: str, b: str, turn: int = 0) -> Side:
        request = ask_for(
            self._model,
            self._config.criteria,
            prompt,
            (a, b),
            parameters=self._parameters,
            turn=turn,
        )
        async with self._turns:
            return side_of(await self._tools.ask(request, unreadable))

    async def _verdict(self, prompt: str, one: str, other: str, turn: int = 0) -> Verdict:
        first, second = await asyncio.gather(
            self._side(prompt, one, other, turn), self._side(prompt, other, one, turn)
        )
        return combined(first, second)

    async def _against_references(
        self, examples: Sequence[TextExample]
    ) -> dict[int, tuple[Verdict, str]]:
        known = [(index, one.reference) for index, one in enumerate(examples) if one.reference]
        if not known:
            raise DataError(
                "filters.judge", "no prompt has a reference to compare answers with",
                "name a column in [data] reference, or say against = 'samples'",
            )  # fmt: skip
        verdicts = await asyncio.gather(
            *(
                self._verdict(examples[index].asked, answered(examples[index]), reference)
                for index, reference in known
            )
        )
        why = "compared with the reference in both orders"
        return {index: (verdict, why) for (index, _), verdict in zip(known, verdicts, strict=True)}

    async def _among_samples(
        self, examples: Sequence[TextExample]
    ) -> dict[int, tuple[Verdict, str]]:
        prompts: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            prompts.setdefault(example.item, []).append(index)
        several = [indices for indices in prompts.values() if len(indices) > 1]
        if not several:
            raise DataError(
                "filters.judge", "no prompt has two answers to compare",
                "raise [task] samples, or say against = 'reference'",
            )  # fmt: skip
        found = await asyncio.gather(*(self._best(examples, indices) for indices in several))
        return {index: verdict for verdicts in found for index, verdict in verdicts.items()}

    async def _best(
        self, examples: Sequence[TextExample], indices: list[int]
    ) -> dict[int, tuple[Verdict, str]]:
        """The best so far meets each further sample, and is replaced by one that wins."""
        best, verdicts = indices[0], dict[int, tuple[Verdict, str]]()
        verdicts[best] = (Verdict.WIN, "the best of its prompt")
        judged = lost = False
        for index in indices[1:]:
            prompt = examples[index].asked
            one, other = answered(examples[index]), answered(examples[best])
            verdict = Verdict.TIE if one == other else await self._verdict(prompt, one, other)
            lost = lost or verdict in NOT_HAD
            judged = judged or (one != other and verdict not in NOT_HAD)
            why = f"compared with sample {examples[best].sample} in both orders"
            if verdict is Verdict.WIN:
                verdicts[best] = (Verdict.LOSS, f"lost to sample {examples[index].sample}")
                verdicts[index] = (Verdict.WIN, "the best of its prompt")
                best = index
            else:
                verdicts[index] = (verdict, why)
        if lost and not judged:
            # Samples of equal text stand and fall together.
            why = "no comparison of its prompt was had"
            verdicts |= {
                index: (Verdict.UNJUDGED, why)
                for index, (verdict, _) in verdicts.items()
                if verdict not in NOT_HAD
            }
        return verdicts

    async def _tells(self, examples: list[TextExample]) -> bool:
        """State how far the judge can be trusted, by probes whose right answer is known.

        Returns:
            Whether it tells fitting answers from others at all, as far as that can be seen.
        """
        rng = random.Random(self._tools.seed)
        chosen = rng.sample(examples, min(self._config.probes, len(examples)))
        others = [self._stranger(example, examples, rng) for example in chosen]
        itself = await asyncio.gather(
            *(self._side(one.asked, answered(one), answered(one)) for one in chosen)
        )
        pairs = [(one, other) for one, other in zip(chosen, others, strict=True) if other]
        first, again = [
            await asyncio.gather(
                *(self._verdict(one.asked, answered(one), str(other), turn) for one, other in pairs)
            )
            for turn in (0, 1)
        ]
        said = [side for side in itself if side not in (Side.UNREADABLE, Side.FAILED)]
        self._state("prefers one of two equal answers", sum(s is not Side.TIE for s in said), said)
        both = [pair for pair in zip(first, again, strict=True) if not set(pair) & set(NOT_HAD)]
        self._state(
            "contradicts its own verdict when asked again", sum(a != b for a, b in both), both
        )
        had = [verdict for verdict in first if verdict not in NOT_HAD]
        self._state("contradicts itself when the order is swapped",
                    sum(v is Verdict.INCONSISTENT for v in had), had)  # fmt: skip
        right = sum(verdict is Verdict.WIN for verdict in first)
        self._state("prefers the answer to the prompt over one to another", right, had)
        wrong = sum(verdict is Verdict.LOSS for verdict in first)
        if right > wrong or (had and len(pairs) < FEWEST_PROBES) or not pairs:
            return True
        self._check(
            1.0, f"it prefers an answer to another prompt {wrong} times of {len(pairs)}, the "
            f"fitting one {right} times, so it tells nothing"
        )  # fmt: skip
        self.notes.append(
            "THE JUDGE TELLS NOTHING: it cannot tell a fitting answer from another, so none of its "
            f"verdicts counts (on_unjudged = {self._config.on_unjudged!r})"
        )
        return False

    @staticmethod
    def _stranger(
        example: TextExample, examples: list[TextExample], rng: random.Random
    ) -> str | None:
        """An answer to another prompt, another text than the example's."""
        for other in rng.sample(examples, min(20, len(examples))):
            if other.item != example.item and answered(other) != answered(example):
                return answered(other)
        return None

    def _state(self, what: str, count: int, seen: Sequence[object]) -> None:
        if seen:
            share = wilson(count, len(seen))
            self.notes.append(
                f"noise floor: {what} in {count} of {len(seen)} probes "
                f"({share.estimate:.0%}, 95 % interval {share.low:.0%} to {share.high:.0%})"
            )
        else:
            self.notes.append(f"noise floor: whether it {what} could not be measured")
