"""Who is measured: the teacher, the students, the untrained bases; and what each of them said.

Shapes: N test prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from overproof.config.text_recipe import TextRecipe
from overproof.errors import RunError, StudentError
from overproof.evaluate.scorers.protocol import Answer
from overproof.evaluate.text.answers import Weights, ask_weights, speed_of, weights_at, weights_of
from overproof.evaluate.text.rows import HeldOutRow, exchange_of
from overproof.evaluate.text.sizes import parameters_at
from overproof.evaluate.text.store import Given
from overproof.evaluate.text.teacher_speed import teacher_speed
from overproof.records.certificate import Speed
from overproof.records.chat_dataset import TextManifest
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.ledger import Ledger
from overproof.records.lm_student import LmStudentCard, is_lm_student
from overproof.records.run import RunPaths

__all__ = [
    "TEACHER",
    "Base",
    "Entrant",
    "Said",
    "answer_test",
    "base_entrant",
    "bases_of",
    "find_students",
    "let_answer",
    "student_entrant",
    "teacher_entrant",
]

TEACHER = "teacher"
BASE = "untrained base"


@dataclass(frozen=True)
class Said:
    """One answer, whoever gave it."""

    outcome: Outcome
    answer: Answer
    logprobs: tuple[float, ...] | None = None
    output_tokens: int | None = None

    @classmethod
    def by_weights(cls, given: Given) -> Said:
        """A student's or a base's."""
        said = Answer(given.text, given.calls)
        return cls(given.outcome, said, given.logprobs, given.output_tokens)

    @property
    def counts(self) -> bool:
        """Whether it may be right: what failed, or never came to an end, is not."""
        return self.outcome is Outcome.ANSWERED


@dataclass
class Entrant:
    """A contestant with its answers to N test prompts, in order."""

    name: str
    role: Literal["teacher", "student", "baseline"]
    description: str
    said: list[Said]
    method: str = ""
    parameters: int | None = None
    speed: Speed = field(default_factory=Speed)
    weights: Weights | None = None
    card: LmStudentCard | None = None
    directory: Path | None = None

    @property
    def outcomes(self) -> dict[str, int]:
        """Answers by outcome."""
        return dict(Counter(said.outcome.value for said in self.said))

    @property
    def mean_tokens(self) -> float | None:
        """Tokens of an answer, over those that somebody counted."""
        counted = [said.output_tokens for said in self.said if said.output_tokens is not None]
        return float(np.mean(counted)) if counted else None


@dataclass(frozen=True)
class Base:
    """An untrained base, of one student or of several."""

    name: str
    weights: Weights
    description: str
    students: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its answers are kept; no student's name has an ``@``."""
        return f"base@{self.weights.sha256.removeprefix('sha256:')[:12]}"


def find_students(
    paths: RunPaths, recipe: TextRecipe, manifest: TextManifest, say: Callable[[str], None]
) -> dict[str, LmStudentCard]:
    """Cards of the recipe's finished students, in its order.

    Args:
        paths: of the run.
        recipe: the recipe; students that are no longer in it are left out.
        manifest: of the dataset.
        say: hears who is left out.

    Raises:
        RunError: none is finished, or one was trained under another section of the recipe.
        StudentError: one was trained on another dataset, or bears the teacher's name.
    """
    there = sorted(paths.students.iterdir()) if paths.students.is_dir() else []
    finished = [d.name for d in there if is_lm_student(d) and not d.name.startswith(".")]
    sections = {student.name: student for student in recipe.students}
    for name in finished:
        if name not in sections:
            say(f"{name}: left out, for it is no longer in the recipe")
    names = [name for name in sections if name in finished]
    if not names:
        raise RunError(
            str(paths.students), "holds no finished student of this recipe", "run `overproof train`"
        )
    cards = {name: LmStudentCard.load(paths.students / name) for name in names}
    for name, card in cards.items():
        if card.dataset_sha256 != manifest.dataset_sha256:
            raise StudentError(
                str(paths.students / name),
                "was trained on another dataset than the one in this run, which may hold today's "
                "test prompts",
                "run `overproof train` again, or remove the directory",
            )
        if _section(card.config) != _section(
            sections[name].model_dump(mode="json", exclude_defaults=True)
        ):
            raise RunError(
                str(paths.students / name),
                "was trained under another section of the recipe than the one it has now",
                "run `overproof train`, which trains it again, or restore the section",
            )
        if name == TEACHER:
            raise StudentError(
                str(paths.students / name), "is called like the teacher", "give it another name"
            )
    return cards


def _section(dumped: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a student; a base beside the recipe may have moved with it."""
    kept = {name: v for name, v in dumped.items() if name not in ("checkpoint_every", "processes")}
    base = Path(str(kept.get("base", "")))
    return kept | ({"base": base.name} if base.is_absolute() else {})


def bases_of(
    paths: RunPaths, recipe: TextRecipe, cards: dict[str, LmStudentCard]
) -> tuple[Base, ...]:
    """The distinct untrained bases of the students.

    Raises:
        StudentError: the weights of one are no longer there.
    """
    found: dict[str, tuple[Weights, LmStudentCard, list[str]]] = {}
    for name, card in cards.items():
        weights = weights_at(recipe, _base_place(paths.students / name, card))
        found.setdefault(weights.sha256, (weights, card, []))[2].append(name)
    return tuple(
        Base(
            name=BASE if len(found) == 1 else f"{BASE} of {', '.join(students)}",
            weights=weights,
            description=f"{card.base}, untrained",
            students=tuple(students),
        )
        for weights, card, students in found.values()
    )


def _base_place(directory: Path, card: LmStudentCard) -> str:
    inside = directory / card.base_dir
    if card.base_dir and inside.exists():
        return str(inside.resolve())
    if not card.base_dir or Path(card.base_dir).is_absolute() or card.base_dir.startswith("."):
        raise StudentError(
            str(directory),
            f"names an untrained base that is not there: {card.base_dir or 'none'}",
            "restore it, or set certificate.baselines = [] to do without it",
        )
    return card.base_dir


def teacher_entrant(
    rows: list[HeldOutRow], ledger: Ledger | None, manifest: TextManifest
) -> Entrant:
    """The teacher: its answers are the dataset's; what was no answer is looked up in the ledger."""
    told = [exchange_of(ledger, row) for row in rows]
    said = [
        _said(row, exchange.completion if exchange else None)
        for row, exchange in zip(rows, told, strict=True)
    ]
    asked = [exchange for exchange in told if exchange is not None]
    return Entrant(
        name=TEACHER,
        role="teacher",
        description=str(manifest.teacher.get("model") or manifest.teacher.get("name") or TEACHER),
        said=said,
        speed=teacher_speed(asked, len(rows)),
    )


def _said(row: HeldOutRow, completion: Completion | None) -> Said:
    answer = row.teacher or Answer("")
    if row.teacher is None and completion is not None:
        answer = Answer(completion.text, completion.tool_calls)
    tokens = row.output_tokens
    if len(row.request_keys) > 1:  # the dataset sums up all turns; the answer is the last one's
        usage = completion.usage if completion else None
        tokens = usage.output_tokens if usage else None
    return Said(row.outcome, answer, None, tokens)


def student_entrant(recipe: TextRecipe, directory: Path, card: LmStudentCard) -> Entrant:
    """A finished student that has not answered yet."""
    started = f", from {card.start}" if card.start else ""
    return Entrant(
        name=directory.name,
        role="student",
        description=f"{card.base}, distilled by {card.method}{started}",
        said=[],
        method=card.method,
        parameters=card.parameters,
        weights=weights_of(recipe, directory, card),
        card=card,
        directory=directory,
    )


def base_entrant(base: Base, cards: dict[str, LmStudentCard]) -> Entrant:
    """An untrained base that has not answered yet; its size is read from its own files.

    Where they cannot be read, it has as many parameters as its students, if those agree.
    """
    sizes = {cards[name].parameters for name in base.students if not cards[name].adapter}
    own = parameters_at(base.weights.config.model)
    return Entrant(
        name=base.name,
        role="baseline",
        description=base.description,
        said=[],
        parameters=own or (sizes.pop() if len(sizes) == 1 else None),
        weights=base.weights,
    )


async def let_answer(entrant: Entrant, requests: Sequence[Request], path: Path) -> list[Given]:
    """Answers of an entrant's weights, kept in ``path``.

    Raises:
        OverproofError: as ``ask_weights``.
    """
    if entrant.weights is None:
        raise ValueError(f"{entrant.name} has no weights here")
    return await ask_weights(entrant.weights, requests, path)


async def answer_test(entrant: Entrant, requests: Sequence[Request], path: Path) -> None:
    """Let an entrant answer the test prompts, and note how fast it was."""
    given = await let_answer(entrant, requests, path)
    entrant.said = [Said.by_weights(one) for one in given]
    entrant.speed = speed_of(given)
