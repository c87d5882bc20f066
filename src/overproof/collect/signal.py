"""What a teacher says of one input: a distribution over labels, from log-probs or from votes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overproof.collect.asker import Asker
from overproof.collect.labels import LabelTrie, TopTokens, parse_answer
from overproof.collect.prompts import Prompter
from overproof.config.recipe import Recipe
from overproof.records.exchange import Completion, Outcome, Parameters, Request

__all__ = ["LabelAnswer", "Questioner"]

LEAST_MASS = 0.01
"""An answer whose tokens give all labels together less than this names no label: malformed."""

NO_LOGPROBS = (
    "the answer has no log-probs though they were asked for: set teacher.top_logprobs = 0 (then "
    "labels come from votes), or ask a server that offers them"
)


@dataclass(frozen=True)
class LabelAnswer:
    """The teacher's answer on one input, before calibration.

    ``low``, ``high`` and ``point`` are of shape (labels,); see ``LabelMass``. They are zeros where
    the outcome is not ``ANSWERED``.
    """

    outcome: Outcome
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    point: NDArray[np.float64]
    request_keys: tuple[str, ...]
    error: str = ""


class Questioner:
    """Asks for one input's label distribution.

    Args:
        recipe: for the task and the seed.
        asker: where requests go.
        model: the teacher's name for itself.
        prompter: how an input becomes messages.
        top_logprobs: alternatives to ask for; 0 asks for votes.
        seeds: whether votes are given a seed each.
        can_prefill: whether an answer can be begun for the teacher.
        first_sample: number of the first vote, so that a second asking draws its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        asker: Asker,
        model: str,
        prompter: Prompter,
        *,
        top_logprobs: int,
        seeds: bool = False,
        can_prefill: bool = False,
        first_sample: int = 0,
    ) -> None:
        self._task = recipe.task
        self._model = model
        self._body = recipe.teacher.body  # it changes answers, so it is part of their address
        self._seed = recipe.run.seed if seeds else None
        self._asker = asker
        self._prompter = prompter
        self._top = top_logprobs
        self._can_prefill = can_prefill
        self._first_sample = first_sample
        self._fold = prompter.rendering == "words"
        self._trie = LabelTrie(
            prompter.answers, fold=self._fold, follow_all=self._task.follow == "all"
        )

    async def ask(self, text: str) -> LabelAnswer:
        """The label distribution of one input."""
        return await (self._from_logprobs(text) if self._top else self._from_votes(text))

    def first_requests(self, text: str) -> list[Request]:
        """The requests that an input needs whatever is answered: the trie's root, or the votes."""
        if self._top:
            return [self._logprob_request(text, "")]
        first = self._first_sample
        return [self._vote_request(text, n) for n in range(first, first + self._task.samples)]

    def _logprob_request(self, text: str, prefill: str) -> Request:
        return Request(
            model=self._model,
            messages=self._prompter.messages(text, prefill),
            parameters=Parameters(
                max_tokens=1, temperature=0.0, top_logprobs=self._top, extra=self._body
            ),
            sample=self._first_sample,
        )

    def _vote_request(self, text: str, sample: int) -> Request:
        return Request(
            model=self._model,
            messages=self._prompter.messages(text),
            parameters=Parameters(
                max_tokens=self._task.max_tokens,
                temperature=self._task.temperature,
                seed=None if self._seed is None else self._seed + sample,
                extra=self._body,
            ),
            sample=sample,
        )

    async def _from_logprobs(self, text: str) -> LabelAnswer:
        keys: list[str] = []
        last: list[Completion] = []

        async def ask_top(prefill: str) -> TopTokens | None:
            if prefill and not self._can_prefill:
                return None
            request = self._logprob_request(text, prefill)
            # Only the first question can be answered by no label at all.
            completion = await self._asker.ask(request, None if prefill else self._no_label)
            keys.append(request.key)
            last.append(completion)
            return top_tokens(completion)

        mass = await self._trie.score(ask_top)
        if mass is None:
            outcome = _outcome_without_logprobs(last[0])
            error = last[0].error or (NO_LOGPROBS if outcome is Outcome.MALFORMED else outcome)
            return self._nothing(outcome, keys, error)
        if mass.known < LEAST_MASS:
            said = last[0].text.strip() or "(nothing)"
            return self._nothing(Outcome.MALFORMED, keys, f"names none of the labels: {said!r}")
        return LabelAnswer(Outcome.ANSWERED, mass.low, mass.high, mass.point, tuple(keys))

    async def _from_votes(self, text: str) -> LabelAnswer:
        keys: list[str] = []
        votes: Counter[str | None] = Counter()
        worst: Completion | None = None
        for request in self.first_requests(text):
            completion = await self._asker.ask(request, self._no_vote)
            keys.append(request.key)
            label = self._label_of(completion)
            votes[label] += 1
            worst = completion if label is None else worst
        counts = np.array([votes[label] for label in self._prompter.answers], float)
        if not counts.sum():
            assert worst is not None
            answered = worst.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
            outcome = Outcome.MALFORMED if answered else worst.outcome
            said = worst.error or f"names none of the labels: {worst.text[:80]!r}"
            return self._nothing(outcome, keys, said)
        low = counts / self._task.samples
        high = low + votes[None] / self._task.samples
        # Half a vote shared by all labels: one without a vote is unlikely, not impossible.
        point = (counts + 0.5 / len(counts)) / (counts.sum() + 0.5)
        return LabelAnswer(Outcome.ANSWERED, low, high, point, tuple(keys))

    def _no_label(self, completion: Completion) -> str | None:
        """Why an answer's log-probs say nothing of the labels; a ``Check``."""
        top = top_tokens(completion)
        if top is None:
            return NO_LOGPROBS
        if self._trie.possible_mass(top) < LEAST_MASS:
            return _names_none(completion)
        return None

    def _no_vote(self, completion: Completion) -> str | None:
        """Why an answer is no vote; a ``Check``."""
        return None if self._label_of(completion) else _names_none(completion)

    def _label_of(self, completion: Completion) -> str | None:
        if completion.outcome not in (Outcome.ANSWERED, Outcome.TRUNCATED):
            return None
        return parse_answer(completion.text, self._prompter.answers, fold=self._fold)

    def _nothing(self, outcome: Outcome, keys: list[str], error: str) -> LabelAnswer:
        zeros = np.zeros(len(self._prompter.answers))
        return LabelAnswer(outcome, zeros, zeros, zeros, tuple(keys), error)


def _names_none(completion: Completion) -> str:
    return f"names none of the labels: {completion.text.strip()[:80] or '(nothing)'!r}"


def top_tokens(completion: Completion) -> TopTokens | None:
    """Bytes and probabilities of the first position's alternatives, ``None`` without any."""
    if completion.outcome not in (Outcome.ANSWERED, Outcome.TRUNCATED):
        return None
    if not completion.logprobs or not completion.logprobs[0].top:
        return None
    return [
        (bytes(top.data) if top.data is not None else top.token.encode(), math.exp(top.logprob))
        for top in completion.logprobs[0].top
    ]


def _outcome_without_logprobs(completion: Completion) -> Outcome:
    """An answer that should have had log-probs and has none is malformed."""
    if completion.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED):
        return Outcome.MALFORMED
    return completion.outcome
