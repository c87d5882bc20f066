"""Canaries: prompts asked again during a long run, to see whether the teacher changed meanwhile.

    canaries = Canaries(recipe.drift, asker.ask, ledger)
    await canaries.baseline(first_requests)
    ...
    await canaries.maybe(calls_so_far)      # cheap, and never waits for an answer
    report = await canaries.finish()

Answers of real services scatter even where nothing changes, so the baseline asks each canary twice,
and only a test decides (``stats.distances_in_time``). Every asking is a ledger entry of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from overproof.collect.drift_words import statements_of, version_changes
from overproof.collect.filters.protocol import Ask
from overproof.config.running import DriftConfig
from overproof.errors import LedgerError, OverproofError
from overproof.records.drift import CANARY_SAMPLE, DriftReport, versions_of
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.ledger import HITS, Ledger
from overproof.stats.distances_in_time import Series, smallest_p, trend_p_value

__all__ = ["ALPHA", "Canaries", "canary_of", "distance"]

ALPHA = 0.01
MOST_TOKENS = 64
BASELINE = 2
# A test of more askings costs much and tells little more: evenly spaced ones stand for the rest.
MOST_TESTED = 40


class Canaries:
    """Asks a few requests of a run again and again.

    Nothing here fails a run: an error of the teacher or a spent budget ends the asking and is said
    in the report. A run of fewer requests than half of ``every`` asks no canary.

    Args:
        config: the recipe's ``[drift]``.
        ask: asks through the ledger, within the budget.
        ledger: open for writing: an interrupted run goes on with its earlier baseline, and the
            report is kept as a note "drift". Without it neither happens.
    """

    def __init__(self, config: DriftConfig, ask: Ask, ledger: Ledger | None = None) -> None:
        self._config = config
        self._ask = ask
        self._ledger = ledger
        self._canaries: list[Request] = []
        self._answers: list[dict[int, Completion]] = []
        self._round = BASELINE - 1
        self._since: int | None = None
        self._calls = 0
        self._task: asyncio.Task[None] | None = None
        self._stopped: str | None = None

    async def baseline(self, requests: Sequence[Request]) -> None:
        """Choose canaries among ``requests`` and ask each twice, or find that it was done before.

        Args:
            requests: the first requests of the run, in any order.
        """
        if not self._config.canaries or 2 * len(requests) < self._config.every:
            return
        self._canaries = self._earlier(requests) or [
            canary_of(request)
            for request in sorted(
                {request.key: request for request in requests}.values(), key=lambda r: r.key
            )[: self._config.canaries]
        ]
        self._answers = [{} for _ in self._canaries]
        self._note_choice()
        await self._ask_all(range(BASELINE))
        self._recall()

    async def maybe(self, calls: int) -> None:
        """Start a round in the background if ``every`` calls went by since the last one.

        Args:
            calls: how many calls this process has made so far.

        Raises:
            LedgerError: an earlier round could not be written.
        """
        self._calls = calls
        if self._since is None:
            self._since = calls
        if self._task is not None and self._task.done():
            self._task.result()  # a broken ledger breaks the run, here as anywhere
        if calls - self._since >= self._config.every and self._may_ask():
            self._start()

    async def finish(self) -> DriftReport:
        """Ask a last time if at least half of ``every`` calls went by, and say what is known."""
        if self._task is not None:
            await self._task
        if self._since is not None and 2 * (self._calls - self._since) >= self._config.every:
            if self._may_ask():
                self._start()
            if self._task is not None:
                await self._task
        report = await asyncio.to_thread(self._report)
        if self._ledger is not None:
            self._ledger.note("drift", report.model_dump(mode="json"))
        return report

    def _may_ask(self) -> bool:
        is_busy = self._task is not None and not self._task.done()
        return bool(self._canaries) and self._stopped is None and not is_busy

    def _start(self) -> None:
        self._since = self._calls
        self._round += 1
        self._task = asyncio.create_task(self._ask_all([self._round]))
        # Seen, also where the run ends before anybody asks.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _ask_all(self, rounds: Sequence[int]) -> None:
        """Ask every canary in these rounds; what fails is missing, and the run goes on."""

        async def one(i: int, number: int) -> None:
            completion = await self._ask(_numbered(self._canaries[i], number))
            if completion.outcome in HITS:
                self._answers[i][number] = completion

        asked = [one(i, number) for number in rounds for i in range(len(self._canaries))]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(result, LedgerError) or not isinstance(result, OverproofError | None):
                raise result
            if result is not None:
                self._stopped = f"{result.culprit}: {result.reason}"

    def _earlier(self, requests: Sequence[Request]) -> list[Request]:
        """The canaries of an interrupted run of the same model, from the ledger."""
        if self._ledger is None:
            return []
        notes = list(self._ledger.notes("canaries"))
        found = []
        for key in notes[-1]["keys"] if notes else []:
            exchange = self._ledger.lookup(key)
            if exchange is None or exchange.request.key != key:
                return []
            found.append(exchange.request)
        if any(canary.model != requests[0].model for canary in found):
            return []
        return found

    def _note_choice(self) -> None:
        if self._ledger is None:
            return
        keys = [canary.key for canary in self._canaries]
        if [note["keys"] for note in self._ledger.notes("canaries")][-1:] != [keys]:
            self._ledger.note("canaries", {"keys": keys})

    def _recall(self) -> None:
        """Take up the rounds that an interrupted run asked: its numbers are spent."""
        if self._ledger is None:
            return
        while True:
            found = [
                self._ledger.recorded(_numbered(canary, self._round + 1).key)
                for canary in self._canaries
            ]
            if not any(found):
                return
            self._round += 1
            for answers, entries in zip(self._answers, found, strict=True):
                for entry in entries:
                    if entry.exchange and entry.exchange.completion.outcome in HITS:
                        answers[self._round] = entry.exchange.completion

    def _report(self) -> DriftReport:
        versions = versions_of(self._ledger.exchanges()) if self._ledger is not None else ()
        said = version_changes(versions)
        series = [_series(answers) for answers in self._answers if len(answers) > BASELINE]
        rounds = self._round - BASELINE + 1 if self._canaries else 0
        floor = p_value = None
        if series:
            p_value = trend_p_value(series)
            longest = max(series, key=lambda one: len(one.times))
            floor = smallest_p([float(time) for time in longest.times], len(series))
        if said.replaced or (p_value is not None and p_value <= ALPHA):
            changed = "yes"
        else:
            changed = "cannot say" if floor is None or floor > ALPHA else "no"
        draft = DriftReport(
            canaries=len(self._canaries),
            rounds=rounds,
            changed=changed,
            p_value=p_value,
            smallest_p=floor,
            alpha=ALPHA,
            versions=versions,
        )
        words = (*said.words, *statements_of(draft, self._answers, self._stopped))
        return draft.model_copy(update={"statements": words})


def canary_of(request: Request) -> Request:
    """A request as a canary: greedy, short, with a sample number of its own.

    Log-probs are asked for as the task does; those of the prompt are not.
    """
    asked = request.parameters
    greedy = asked.model_copy(
        update={
            "temperature": 0.0,
            "top_p": None,
            "seed": None,
            "prompt_logprobs": None,
            "max_tokens": min(asked.max_tokens, MOST_TOKENS),
        }
    )
    return Request(
        model=request.model, messages=request.messages, parameters=greedy, sample=CANARY_SAMPLE
    )


def distance(one: Completion, other: Completion) -> tuple[float, float]:
    """How far two answers are apart: in what they say (0 or 1), and in the first token's odds.

    The second is the total variation between the distributions of the first token, as far as
    both tell its alternatives; 0 where they do not.
    """
    differs = _said(one) != _said(other)
    return float(differs), _total_variation(_first_token(one), _first_token(other))


def _numbered(canary: Request, number: int) -> Request:
    # Made anew: a copy would keep the cached key of the original.
    return Request(
        model=canary.model,
        messages=canary.messages,
        parameters=canary.parameters,
        sample=CANARY_SAMPLE + number,
    )


def _said(completion: Completion) -> tuple[object, ...]:
    is_refused = completion.outcome in (Outcome.REFUSED, Outcome.FILTERED)
    calls = tuple((call.name, call.arguments) for call in completion.tool_calls)
    return is_refused, completion.text, calls


def _first_token(completion: Completion) -> dict[object, float]:
    if not completion.logprobs:
        return {}
    first = completion.logprobs[0].top
    return {top.data or top.token: float(np.exp(top.logprob)) for top in first}


def _total_variation(one: dict[object, float], other: dict[object, float]) -> float:
    if not one or not other:
        return 0.0
    gap = sum(abs(one.get(token, 0.0) - other.get(token, 0.0)) for token in one.keys() | other)
    rest = abs(sum(one.values()) - sum(other.values()))  # what is not listed
    return 0.5 * (gap + rest)


def _series(answers: dict[int, Completion]) -> Series:
    """The answers to one canary; both of the baseline were asked at the same time."""
    numbers = sorted(answers)
    if len(numbers) > MOST_TESTED:
        kept = np.linspace(0, len(numbers) - 1, MOST_TESTED).round().astype(int)
        numbers = [numbers[i] for i in kept]
    n = len(numbers)
    distances = np.zeros((2, n, n))
    for i in range(n):
        for j in range(i):
            apart = distance(answers[numbers[i]], answers[numbers[j]])
            distances[:, i, j] = distances[:, j, i] = apart
    times = np.array([max(0, number - BASELINE + 1) for number in numbers], dtype=np.float64)
    return Series(times, distances)
