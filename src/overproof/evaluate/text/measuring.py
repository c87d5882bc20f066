"""Letting everybody answer the test prompts, and reading one another's answers.

Answers are kept under ``RUN/answers/NAME/`` as they come, so that a further run asks for what is
missing alone::

    test.jsonl  tune.jsonl     answers, with the log-probs of their tokens
    read-by-teacher.jsonl      what the teacher's weights make of them
    of-teacher.jsonl           what these weights make of the teacher's answers
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from overproof.config.text_recipe import TextRecipe
from overproof.evaluate.candidates import as_interval
from overproof.evaluate.text.answers import Weights, requests_for, weights_at
from overproof.evaluate.text.bill import Bill
from overproof.evaluate.text.deferral import DEFAULT_SCORE, deferral_curve, of_logprobs
from overproof.evaluate.text.deferral_rule import record_rule, rule_of_curve
from overproof.evaluate.text.entrants import (
    TEACHER,
    Base,
    Entrant,
    Said,
    answer_test,
    base_entrant,
    let_answer,
    student_entrant,
)
from overproof.evaluate.text.perplexity import perplexity, read_answers
from overproof.evaluate.text.rows import HeldOutRow
from overproof.evaluate.text.scoring import Field
from overproof.records.certificate import Interval
from overproof.records.exchange import Message, Outcome
from overproof.records.lm_student import LmStudentCard
from overproof.records.run import RunPaths
from overproof.records.text_certificate import DeferralCurve

__all__ = ["Measured", "deferral_of", "measure"]

Say = Callable[[str], None]


@dataclass
class Measured:
    """Everybody with their answers; perplexities by name; why answers could not be read."""

    students: list[Entrant]
    bases: list[tuple[Base, Entrant]]
    by_teacher: dict[str, Interval] = field(default_factory=dict)
    of_teacher: dict[str, Interval] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def entrants(self) -> list[Entrant]:
        """Students, then bases."""
        return [*self.students, *(entrant for _, entrant in self.bases)]

    def folder(self, entrant: Entrant) -> str:
        """The name of its directory under ``RUN/answers``."""
        return next((b.folder for b, other in self.bases if other is entrant), entrant.name)


async def measure(
    recipe: TextRecipe,
    *,
    paths: RunPaths,
    field_: Field,
    teacher: Entrant,
    cards: dict[str, LmStudentCard],
    bases: Sequence[Base],
    say: Say,
) -> Measured:
    """Let students and bases answer, and read the answers where the teacher's weights are here.

    Raises:
        OverproofError: weights that cannot be loaded, a full disk; answers so far are kept.
    """
    students = [student_entrant(recipe, paths.students / n, card) for n, card in cards.items()]
    measured = Measured(students, [(base, base_entrant(base, cards)) for base in bases])
    requests = requests_for(recipe, field_.rows, "student")
    home = paths.dir / "answers"
    for entrant in measured.entrants:
        say(f"{entrant.name}: answering {len(requests):,} test prompts")
        await answer_test(entrant, requests, home / measured.folder(entrant) / "test.jsonl")
    if recipe.certificate.perplexity and recipe.teacher.kind == "local":
        await _read_one_another(
            recipe, home=home, field_=field_, teacher=teacher, measured=measured, say=say
        )
    return measured


async def _read_one_another(
    recipe: TextRecipe, *, home: Path, field_: Field, teacher: Entrant, measured: Measured, say: Say
) -> None:
    """Perplexities: the teacher's of everybody's text, and everybody's of the teacher's text."""
    reader = weights_at(recipe, recipe.teacher.model)
    own = _texts(field_.rows, teacher.said)
    for entrant in [teacher, *measured.entrants]:
        say(f"{entrant.name}: reading answers")
        folder = home / (TEACHER + "@" if entrant is teacher else measured.folder(entrant))
        texts = _texts(field_.rows, entrant.said)
        found = await _perplexity(recipe, reader, texts, folder / "read-by-teacher.jsonl", measured)
        if found is not None:
            measured.by_teacher[entrant.name] = found
        if entrant.weights is not None:
            path = folder / "of-teacher.jsonl"
            found = await _perplexity(recipe, entrant.weights, own, path, measured)
            if found is not None:
                measured.of_teacher[entrant.name] = found


def _texts(
    rows: Sequence[HeldOutRow], said: Sequence[Said]
) -> list[tuple[tuple[Message, ...], str]]:
    """Chats with an answer of words; calls alone have no text that could be read."""
    return [
        (row.messages, one.answer.text)
        for row, one in zip(rows, said, strict=True)
        if one.outcome is not Outcome.FAILED and one.answer.text.strip()
    ]


async def _perplexity(
    recipe: TextRecipe,
    reader: Weights,
    texts: list[tuple[tuple[Message, ...], str]],
    path: Path,
    measured: Measured,
) -> Interval | None:
    readings = await read_answers(reader, texts, path)
    measured.unread.update(given.error or "unknown" for given in readings if not given.logprobs)
    found = perplexity(
        readings,
        confidence=recipe.certificate.confidence,
        resamples=recipe.certificate.bootstrap,
        seed=recipe.run.seed,
    )
    return None if found is None else as_interval(found)


async def deferral_of(
    recipe: TextRecipe,
    *,
    paths: RunPaths,
    field_: Field,
    tune: Sequence[HeldOutRow],
    student: Entrant,
    bill: Bill,
    teacher_model: str,
) -> tuple[DeferralCurve, str] | None:
    """What a student gains by passing on what it is unsure of; its rule goes to the run.

    Returns:
        The curve, and what its costs rest on; ``None`` where the teacher answered nothing in
        one of the splits.
    """
    stated, directory = recipe.certificate.agreement, student.directory
    asked = [row for row in tune if row.teacher is not None]
    if stated is None or directory is None or not asked or not field_.answered:
        return None
    path = paths.dir / "answers" / student.name / "tune.jsonl"
    given = await let_answer(student, requests_for(recipe, asked, "student"), path)
    share, basis = bill.share_of_teacher(student.speed)
    test_rows = [field_.rows[i] for i in field_.answered]
    splits = []
    for said, rows in (
        ([Said.by_weights(one) for one in given], asked),
        ([student.said[i] for i in field_.answered], test_rows),
    ):
        costs = np.tile([share, 1.0], (len(rows), 1))
        splits.append((_confidences(said), field_.agrees(said, rows), costs))
    curve = deferral_curve(
        student.name, splits[0], splits[1], stated, level=recipe.certificate.confidence
    )
    limit = recipe.certificate.max_tokens or recipe.task.max_tokens
    rule = rule_of_curve(curve, directory, teacher_model, max_tokens=limit, stop=recipe.task.stop)
    record_rule(paths.dir, rule)
    return curve, basis


def _confidences(said: Sequence[Said]) -> list[float]:
    """As the served student has them: nothing for what is no whole answer."""
    return [
        of_logprobs(one.logprobs, DEFAULT_SCORE)
        if one.outcome in (Outcome.ANSWERED, Outcome.REFUSED) and one.logprobs
        else 0.0
        for one in said
    ]
