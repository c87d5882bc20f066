"""Putting the judge's comparisons to a model, with a ledger of its own: ``RUN/judge.sqlite``.

What the judge said, and what the teacher answered a second time for the noise floor, is kept there
with its price, apart from the answers that students were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from overproof.clients.connect import connect, redaction_of
from overproof.clients.pricing import cost_usd, price_of
from overproof.clients.protocol import Teacher
from overproof.config.teacher import PriceConfig, TeacherConfig
from overproof.config.text_certificate import JudgeConfig, TextCertificateConfig
from overproof.config.text_recipe import TextRecipe
from overproof.errors import BudgetError
from overproof.evaluate.scorers.protocol import Answer
from overproof.evaluate.text.answers import in_parallel
from overproof.evaluate.text.entrants import Entrant
from overproof.evaluate.text.judge import Judge, Pair, judged, noise_floor
from overproof.evaluate.text.rows import HeldOutRow, exchange_of
from overproof.evaluate.text.scoring import written
from overproof.records.certificate import CostLine, Interval
from overproof.records.exchange import Completion, Exchange, Outcome, Request
from overproof.records.ledger import Ledger
from overproof.records.redact import Redactor
from overproof.records.text_certificate import JudgeResult

__all__ = ["Judgements", "judge_calls", "judge_pairs"]

NO_ANSWER = "(no answer)"
OPEN = Callable[[TeacherConfig], Teacher]


@dataclass(frozen=True)
class Judgements:
    """What the judge said, what it cost, and what is to be said of it."""

    results: tuple[JudgeResult, ...]
    costs: tuple[CostLine, ...]
    notes: tuple[str, ...]


def judge_calls(config: TextCertificateConfig, n_students: int, n_test: int) -> int:
    """The most requests that judging takes: both orders of every pair, and the noise floor.

    Pairs are those of every student with the teacher, with its untrained base and with every other
    student, as where all but one are SFT baselines; what is alike is asked for nothing. The noise
    floor takes a second answer of the teacher to each of its prompts, which counts here.

    Args:
        config: the recipe's ``[certificate]``.
        n_students: students of the recipe.
        n_test: test prompts.
    """
    if config.judge is None or not n_students:
        return 0
    with_base = n_students * ("base" in config.baselines)
    contests = n_students + with_base + n_students * (n_students - 1) // 2
    return 2 * contests * n_test + 3 * min(config.judge.repeats, n_test)


class Kept:
    """Asks a teacher what the ledger does not know yet.

    Args:
        teacher: an open one.
        config: of that teacher; its prices are what calls cost.
        ledger: open for writing.
        max_calls: how many calls the ledger may hold in all, as ``budget.max_calls`` caps them.
    """

    def __init__(
        self,
        teacher: Teacher,
        config: TeacherConfig,
        ledger: Ledger,
        max_calls: int | None = None,
    ) -> None:
        self._teacher = teacher
        self._price: PriceConfig = price_of(config)
        self._batch = config.batch
        self._ledger = ledger
        self._max_calls = max_calls
        self._calls = sum(line.calls or 0 for line in ledger.costs())

    async def __call__(self, request: Request) -> Completion:
        """The kept answer, or a new one that is kept before it is returned."""
        known = self._ledger.lookup(request.key)
        if known is not None:
            return known.completion
        if self._max_calls is not None and self._calls >= self._max_calls:
            raise BudgetError(
                "budget.max_calls",
                f"is reached: the judge and the second answers for its noise floor have taken "
                f"{self._max_calls:,} calls",
                "raise it and run the same command again (judgements so far are kept), or take "
                "[certificate.judge] out",
            )
        self._calls += 1
        completion = await self._teacher.complete(request)
        await self._ledger.append(
            Exchange(
                request=request,
                completion=completion,
                teacher=self._teacher.name,
                created_at=datetime.now(UTC).isoformat(),
                cost_usd=cost_usd(self._price, completion.usage, batch=self._batch),
            )
        )
        return completion


async def judge_pairs(
    recipe: TextRecipe,
    rows: Sequence[HeldOutRow],
    contests: Sequence[tuple[Entrant, Entrant]],
    *,
    path: Path,
    teacher_ledger: Ledger | None,
    say: Callable[[str], None],
    open_teacher: OPEN | None = None,
) -> Judgements:
    """Judge every contest on all test prompts, and the teacher against itself on some.

    Args:
        recipe: with a judge.
        rows: N test prompts.
        contests: pairs of entrants with N answers each.
        path: the judge's ledger.
        teacher_ledger: the run's, where the teacher's requests are.
        say: hears what is being done.
        open_teacher: makes a teacher of a configuration; ``connect`` where unsaid.

    Raises:
        TeacherError: judge or teacher cannot be reached; judgements so far are kept.
        LedgerError: they cannot be written.
    """
    config = recipe.certificate.judge
    if config is None:
        raise ValueError("the recipe has no judge")
    confidence = recipe.certificate.confidence
    floor: Interval | None = None
    with Ledger.open(path, write=True, redactor=Redactor(redaction_of(config.teacher))) as ledger:
        itself, notes = await _against_itself(
            recipe,
            config,
            rows=rows,
            ledger=ledger,
            teacher_ledger=teacher_ledger,
            open_teacher=open_teacher or connect,
        )
        async with (open_teacher or connect)(config.teacher) as teacher:
            kept = Kept(teacher, config.teacher, ledger, recipe.budget.max_calls)
            judge = Judge(config, teacher.model, kept, teacher.capabilities.context_length)
            if itself:
                say(f"judge {teacher.model}: the teacher against itself on {len(itself)} prompts")
                floor = noise_floor(await judge.compare(itself), confidence)
            results: list[JudgeResult] = []
            for first, second in contests:
                say(f"judge {teacher.model}: {first.name} against {second.name}")
                tally = await judge.compare(_pairs(rows, first, second))
                names = (first.name, second.name)
                result = judged(names, teacher.name, tally, floor, confidence)
                if result is None:
                    notes.append(
                        f"The judge gave no readable judgement of {first.name} against "
                        f"{second.name}: there is no win rate."
                    )
                else:
                    results.append(result)
            if judge.cut:
                notes.append(
                    f"In {judge.cut:,} comparisons the judge saw prompt or answers cut in their "
                    "middle: they were too long for it."
                )
        costs = [
            line.model_copy(update={"what": f"judging: {line.what}"}) for line in ledger.costs()
        ]
    return Judgements(tuple(results), tuple(costs), tuple(notes))


def _pairs(rows: Sequence[HeldOutRow], first: Entrant, second: Entrant) -> list[Pair]:
    return [
        Pair(row.text, _text(one.outcome, one.answer), _text(other.outcome, other.answer))
        for row, one, other in zip(rows, first.said, second.said, strict=True)
    ]


def _text(outcome: Outcome, answer: Answer) -> str:
    text = "" if outcome is Outcome.FAILED else written(answer)
    return text if text.strip() else NO_ANSWER


async def _against_itself(
    recipe: TextRecipe,
    config: JudgeConfig,
    *,
    rows: Sequence[HeldOutRow],
    ledger: Ledger,
    teacher_ledger: Ledger | None,
    open_teacher: OPEN,
) -> tuple[list[Pair], list[str]]:
    """The teacher's answers with a second sample of each, asked for where there is none yet."""
    if not config.repeats:
        return [], []
    if recipe.teacher.kind == "ledger":
        return [], ["The judge's noise floor is unknown: imported answers have no second sample."]
    asked = [
        (row, exchange.request)
        for row in rows
        if row.teacher is not None and (exchange := exchange_of(teacher_ledger, row)) is not None
    ][: config.repeats]
    if not asked:
        return [], ["The judge's noise floor is unknown: the ledger holds no test request."]
    teacher_config = recipe.teacher.model_copy(update={"batch": False})
    async with open_teacher(teacher_config) as teacher:
        kept = Kept(teacher, teacher_config, ledger, recipe.budget.max_calls)
        again = await in_parallel(
            [_second(request) for _, request in asked], kept, teacher_config.workers
        )
    pairs = [
        Pair(row.text, written(row.teacher), written(Answer(one.text, one.tool_calls)))
        for (row, _), one in zip(asked, again, strict=True)
        if one.outcome is Outcome.ANSWERED
    ]
    notes = []
    if pairs and all(pair.alike for pair in pairs):
        notes.append(
            f"The teacher answered all {len(pairs)} test prompts that it was asked twice alike, so "
            "the noise floor says nothing of the judge."
        )
    return pairs, notes


def _second(request: Request) -> Request:
    """The same request once more: another sample, and with a seed another seed."""
    asked = request.parameters
    if asked.seed is not None:
        asked = asked.model_copy(update={"seed": asked.seed + 1})
    return request.model_copy(update={"sample": request.sample + 1, "parameters": asked})
