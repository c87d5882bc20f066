"""From ``[certificate] scorer`` to a scorer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from overproof.config.text_certificate import TextCertificateConfig
from overproof.errors import DataError
from overproof.evaluate.scorers.exact import exact_match
from overproof.evaluate.scorers.json_fields import compare_fields, parsed, same_json
from overproof.evaluate.scorers.numeric import last_number, same_number
from overproof.evaluate.scorers.patience import TooLongError, at_most
from overproof.evaluate.scorers.protocol import Answer, Known, Score, Scorer
from overproof.evaluate.scorers.reasoning_gym import task_of, verified
from overproof.records.answer_checks import schema_problem

__all__ = ["build_scorer", "same_answer"]

SHOWN = 80
LOOKED_AT = 20_000  # characters of an answer, from its end
PATIENCE_S = 2.0


def build_scorer(config: TextCertificateConfig, schema: Mapping[str, Any] | None = None) -> Scorer:
    """The scorer that the recipe names.

    Args:
        config: the recipe's ``[certificate]``.
        schema: the JSON Schema of a task with ``answer = "json"``.

    Raises:
        DataError: ``json`` without a schema.
    """
    take = _Extraction(config.answer_pattern)
    if config.scorer == "exact":
        return Exact(take)
    if config.scorer == "numeric":
        return Numeric(take, config.tolerance)
    if config.scorer == "reasoning_gym":
        return ReasoningGym(take)
    if config.scorer == "json":
        if schema is None:
            raise DataError(
                "certificate.scorer = 'json'",
                "has no JSON Schema to hold answers against",
                "set task.answer = 'json' and task.schema, or choose another scorer",
            )
        return JsonFields(take, schema)
    return Teacher(take, as_json=schema is not None)


class _Extraction:
    """Takes the answer out of a text: the last match of the pattern's group ``answer``.

    It is looked for in the last 20,000 characters. A pattern that backtracks for longer than two
    seconds there (as ``(a+)+`` can on a loop of a) has found none; in threads other than the main
    one nobody can stop it.
    """

    def __init__(self, pattern: str | None) -> None:
        self._pattern = re.compile(pattern) if pattern is not None else None

    def __call__(self, text: str) -> str | None:
        if self._pattern is None:
            return text
        try:
            with at_most(PATIENCE_S):
                matches = list(self._pattern.finditer(text[-LOOKED_AT:]))
        except TooLongError:
            return None
        found = [match["answer"] for match in matches]
        return None if not found or found[-1] is None else str(found[-1]).strip()


def same_answer(one: Answer, other: Answer, *, as_json: bool = False) -> bool:
    """Whether two answers say the same: equal calls, and equal text or JSON."""
    if [call.name for call in one.calls] != [call.name for call in other.calls]:
        return False
    if not all(map(_same_arguments, one.calls, other.calls)):
        return False
    if one.calls and not (one.text.strip() and other.text.strip()):
        return True  # a word beside the calls changes nothing of what was called
    return _same_value(one.text, other.text) if as_json else exact_match(one.text, other.text)


def _same_arguments(one: Any, other: Any) -> bool:
    return _same_value(one.arguments.strip() or "{}", other.arguments.strip() or "{}")


def _same_value(one: str, other: str) -> bool:
    try:
        return same_json(parsed(one), parsed(other))
    except ValueError:
        return one.strip() == other.strip()


def _reference(known: Known) -> str:
    if known.reference is None:
        raise DataError(
            f"test prompt {known.item}",
            "has no known right answer",
            "name its column in data.reference, or set certificate.scorer = 'teacher'",
        )
    return known.reference


@dataclass(frozen=True)
class Exact:
    """The reference itself, after normalisation."""

    take: _Extraction
    name: str = "exact"
    needs: str = "reference"

    def score(self, answer: Answer, known: Known) -> Score:
        """1 or 0."""
        said = self.take(answer.text)
        right = said is not None and exact_match(said, _reference(known))
        return Score(float(right), {"answer_found": float(said is not None)})

    def same(self, one: Answer, other: Answer) -> bool:
        """Equal after normalisation."""
        return _same_taken(self.take, one, other, exact_match)


@dataclass(frozen=True)
class Numeric:
    """The last number."""

    take: _Extraction
    tolerance: float
    name: str = "numeric"
    needs: str = "reference"

    def score(self, answer: Answer, known: Known) -> Score:
        """1 or 0; ``answer_found`` says whether there is a number at all.

        Raises:
            DataError: the reference holds no number.
        """
        wanted = last_number(reference := _reference(known))
        if wanted is None:
            raise DataError(
                f"test prompt {known.item}",
                f"has a reference without a number: {reference[:SHOWN]!r}",
                "choose certificate.scorer = 'exact'",
            )
        said = self.take(answer.text)
        number = None if said is None else last_number(said)
        right = number is not None and same_number(number, wanted, self.tolerance)
        return Score(float(right), {"answer_found": float(number is not None)})

    def same(self, one: Answer, other: Answer) -> bool:
        """The same last number; without one, the same text."""
        return _same_taken(self.take, one, other, partial(_same_numbers, self.tolerance))


@dataclass(frozen=True)
class ReasoningGym:
    """The task's own verifier; ``right`` is a full score, for some verifiers give part of one."""

    take: _Extraction
    name: str = "reasoning_gym"
    needs: str = "reasoning_gym"

    def score(self, answer: Answer, known: Known) -> Score:
        """The verifier's score; 0 for no answer."""
        name, entry = task_of(known.facts, known.item)
        said = self.take(answer.text)
        if said is None or not said.strip():
            return Score(0.0, {"right": 0.0})
        value = verified(said.strip(), name, entry)
        return Score(value, {"right": float(value >= 1 - 1e-9)})

    def same(self, one: Answer, other: Answer) -> bool:
        """Equal after normalisation."""
        return _same_taken(self.take, one, other, exact_match)


@dataclass(frozen=True)
class JsonFields:
    """Structured extraction: the score is the F1 of an answer's fields.

    ``valid`` asks for JSON alone that follows the schema; fields are read through a Markdown
    fence, too, so that the two can be told apart.
    """

    take: _Extraction
    schema: Mapping[str, Any]
    name: str = "json"
    needs: str = "reference"

    def score(self, answer: Answer, known: Known) -> Score:
        """F1 of the fields; 0 for what is no JSON.

        Raises:
            DataError: the reference is no JSON.
        """
        try:
            wanted = parsed(_reference(known))
        except ValueError as error:
            raise DataError(
                f"test prompt {known.item}",
                f"has a reference that is no JSON: {error}",
                "write JSON into the column data.reference",
            ) from error
        said = self.take(answer.text)
        valid = said is not None and schema_problem(said, self.schema) is None
        try:
            value = parsed(said or "")
        except ValueError:
            missed = compare_fields({}, wanted)
            none = {"valid": 0.0, "exact": 0.0, "field_precision": 0.0, "field_recall": 0.0}
            return Score(0.0, none, {"right": 0, "given": 0, "wanted": missed.wanted})
        fields = compare_fields(value, wanted)
        details = {
            "valid": float(valid),
            "exact": float(same_json(value, wanted)),
            "field_precision": fields.precision,
            "field_recall": fields.recall,
        }
        counts = {"right": fields.right, "given": fields.given, "wanted": fields.wanted}
        return Score(fields.f1, details, counts)

    def same(self, one: Answer, other: Answer) -> bool:
        """The same JSON value."""
        return _same_taken(self.take, one, other, _same_value)


@dataclass(frozen=True)
class Teacher:
    """Says what the teacher said: equal text after normalisation, equal JSON, or equal calls."""

    take: _Extraction
    as_json: bool = False
    name: str = "teacher"
    needs: str = "teacher"

    def score(self, answer: Answer, known: Known) -> Score:
        """1 or 0.

        Raises:
            DataError: the teacher gave no valid answer; such prompts are to be left out.
        """
        if known.teacher is None:
            raise DataError(f"test prompt {known.item}", "has no valid answer of the teacher")
        return Score(float(self.same(answer, known.teacher)))

    def same(self, one: Answer, other: Answer) -> bool:
        """Equal calls, and equal text or JSON."""
        first, second = self.take(one.text), self.take(other.text)
        if first is None or second is None:
            return False
        return same_answer(
            Answer(first, one.calls), Answer(second, other.calls), as_json=self.as_json
        )


def _same_taken(take: _Extraction, one: Answer, other: Answer, equal: Any) -> bool:
    first, second = take(one.text), take(other.text)
    return first is not None and second is not None and bool(equal(first, second))


def _same_numbers(tolerance: float, one: str, other: str) -> bool:
    first, second = last_number(one), last_number(other)
    if first is None or second is None:
        return first is second and exact_match(one, other)
    return same_number(first, second, tolerance)
