"""Who answers: the student alone, or the student where it is sure and the teacher otherwise.

A request goes to the student first, whole and with log-probs; where its confidence is above the
calibrated threshold, its answer is given, else the teacher is asked. That is decided before
anything is sent, so that a streamed answer begins only then; the teacher's comes in one piece.
With several choices the least sure one decides. Where the student fails, the teacher is asked.

The threshold holds for answers such as those it was calibrated on. Where a request has another
temperature or other texts to stop at, ``overproof.calibrated`` in the answer is false.

Requests are passed on as they came, and nothing is kept of them or of the answers: whoever sends
requests here sends some of them to the teacher's provider.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from overproof.clients.protocol import Teacher
from overproof.errors import OverproofError, TeacherUnreachableError
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat_engines import Engine, choices_of, pieces_of_completion
from overproof.evaluate.serve_chat_pieces import (
    Piece,
    Usage,
    gathered,
    replayed,
    without_logprobs,
)
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.evaluate.text.deferral import of_logprobs
from overproof.evaluate.text.deferral_rule import DeferralRule
from overproof.records.exchange import Completion, Outcome

__all__ = ["Alone", "Answerer", "Begun", "Cascade", "WhenTeacherFails"]

WhenTeacherFails = Literal["student", "error"]
MOST_TOKENS = 1024  # of the teacher's answer, where nobody says
log = logging.getLogger("overproof.serve")


@dataclass(frozen=True)
class Begun:
    """An answer that has begun: who gives it, and its pieces.

    ``note`` is told in the answer under ``overproof``, ``headers`` in the response's.
    """

    model: str
    pieces: AsyncGenerator[Piece, None]
    headers: Mapping[str, str]
    note: Mapping[str, Any] | None = None


class Answerer(Protocol):
    """Decides who answers."""

    async def begin(self, asked: ChatAsked) -> Begun:
        """Begin an answer.

        Raises:
            ProtocolError: nobody can answer it.
        """


class Alone:
    """The student answers everything.

    Args:
        engine: what answers for it.
        name: the name it answers under.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    async def begin(self, asked: ChatAsked) -> Begun:
        """Begin an answer."""
        pieces = choices_of(self._engine, asked)
        return Begun(self._name, pieces, {"x-overproof-answered-by": "student"})


class Cascade:
    """The student answers what it is sure of.

    Args:
        engine: what answers for the student.
        name: the name it answers under.
        rule: its calibrated threshold.
        teacher: who answers the rest; started.
        when_teacher_fails: give the student's answer all the same, or an error.
        max_tokens: of the teacher's answer, where the request does not say.
        temperature: of the teacher's answer, where the request does not say.
        stop: the texts that the teacher's answer ends before, where the request does not say.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        rule: DeferralRule,
        teacher: Teacher,
        *,
        when_teacher_fails: WhenTeacherFails = "error",
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: tuple[str, ...] = (),
    ) -> None:
        self._engine = engine
        self._name = name
        self._rule = rule
        self._teacher = teacher
        self._falls_back = when_teacher_fails == "student"
        self._max_tokens = max_tokens or MOST_TOKENS
        self._temperature = temperature
        self._stop = stop

    async def begin(self, asked: ChatAsked) -> Begun:
        """Have the student answer, and decide."""
        said: list[Piece] = []
        failure: ProtocolError | None = None
        try:
            said = await gathered(choices_of(self._engine, self._for_student(asked)))
        except ProtocolError as error:
            failure = error
        confidence = self._confidence(said, asked.n)
        if confidence > self._rule.threshold:
            return self._by_student(asked, said, confidence)
        try:
            answers = await self._by_teacher(asked)
        except ProtocolError as error:
            if failure is not None or not self._falls_back:
                raise
            log.warning("the teacher failed, the student's answer was given: %s", error.message)
            return self._by_student(asked, said, confidence, teacher_failed=True)
        pieces = [
            piece for i, answer in enumerate(answers) for piece in pieces_of_completion(answer, i)
        ]
        usage = _together(pieces)
        pieces.append(Piece(usage=usage))
        note = self._note("teacher", asked, confidence, _usage_of(said), usage)
        return self._begun(asked, self._teacher.model, pieces, "teacher", note)

    def _for_student(self, asked: ChatAsked) -> ChatAsked:
        """The request as the tune prompts were asked, where it does not say otherwise."""
        rule = self._rule
        return asked.replaced(
            stream=False,
            top_logprobs=asked.top_logprobs or 0,
            temperature=rule.temperature if asked.temperature is None else asked.temperature,
            max_tokens=rule.max_tokens if asked.max_tokens is None else asked.max_tokens,
            stop=asked.stop or rule.stop,
        )

    def _as_calibrated(self, asked: ChatAsked) -> bool:
        """Whether the request is answered as the tune prompts were, or the promise is off."""
        as_warm = asked.temperature in (None, self._rule.temperature)
        return as_warm and asked.stop in ((), self._rule.stop)

    def _confidence(self, said: Sequence[Piece], n: int) -> float:
        """That of the least sure choice; 0 where one of them is no whole answer."""
        values: dict[int, list[float]] = {}
        ended: set[int] = set()
        for piece in said:
            values.setdefault(piece.index, []).extend(piece.values)
            if piece.finish_reason in ("stop", "tool_calls"):
                ended.add(piece.index)
        if len(ended) < n:
            return 0.0
        return min(of_logprobs(values[index], self._rule.score) for index in ended)

    async def _by_teacher(self, asked: ChatAsked) -> list[Completion]:
        able = self._teacher.capabilities
        wanted = asked.top_logprobs
        if wanted is not None:
            wanted = min(wanted, able.top_logprobs) if able.top_logprobs else None
        changes: dict[str, Any] = {"top_logprobs": wanted, "stop": asked.stop or self._stop}
        if asked.temperature is None:
            changes["temperature"] = self._temperature
        sent = asked.replaced(**changes)
        requests = [sent.request(self._teacher.model, self._max_tokens, i) for i in range(asked.n)]
        tasks = [asyncio.ensure_future(self._teacher.complete(each)) for each in requests]
        try:
            answers = await asyncio.gather(*tasks)
        except TeacherUnreachableError as error:
            log.warning("%s", error)
            raise _down("cannot be reached", 503) from error
        except OverproofError as error:
            log.warning("%s", error)
            raise _down("failed", 502) from error
        finally:
            for task in tasks:
                task.cancel()
        for answer in answers:
            if answer.outcome in (Outcome.FAILED, Outcome.MALFORMED):
                log.warning("the teacher failed: %s", answer.error)
                status = f" (HTTP {answer.status})" if answer.status else ""
                busy = answer.status in (429, 503, 529)
                raise _down(f"gave no answer{status}", 503 if busy else 502)
        return list(answers)

    def _by_student(
        self,
        asked: ChatAsked,
        said: Sequence[Piece],
        confidence: float,
        *,
        teacher_failed: bool = False,
    ) -> Begun:
        note = self._note("student", asked, confidence, _usage_of(said), None)
        if teacher_failed:
            note["teacher_failed"] = True
        return self._begun(asked, self._name, said, "student", note)

    def _begun(
        self,
        asked: ChatAsked,
        model: str,
        pieces: Sequence[Piece],
        who: str,
        note: dict[str, Any],
    ) -> Begun:
        told = replayed(pieces)
        if asked.top_logprobs is None:
            told = without_logprobs(told)
        headers = {
            "x-overproof-answered-by": who,
            "x-overproof-confidence": f"{note['confidence']:.4f}",
        }
        if note.get("teacher_failed"):
            headers["x-overproof-teacher"] = "failed"
        return Begun(model, told, headers, note)

    def _note(
        self,
        who: str,
        asked: ChatAsked,
        confidence: float,
        student: Usage | None,
        teacher: Usage | None,
    ) -> dict[str, Any]:
        return {
            "answered_by": who,
            "confidence": confidence,
            "threshold": self._rule.threshold,
            "calibrated": self._as_calibrated(asked),
            "usage": {
                "student": None if student is None else student.object,
                "teacher": None if teacher is None else teacher.object,
            },
        }


def _usage_of(pieces: Sequence[Piece]) -> Usage | None:
    return next((piece.usage for piece in reversed(pieces) if piece.usage is not None), None)


def _together(pieces: Sequence[Piece]) -> Usage:
    """What answers to separate requests took: each of them read the prompt."""
    told = [piece.usage for piece in pieces if piece.usage is not None]
    return Usage(sum(usage.prompt for usage in told), sum(usage.completion for usage in told))


def _down(what: str, status: int) -> ProtocolError:
    return ProtocolError(
        f"the student was not sure, and the teacher {what}",
        status=status,
        code="teacher_failed",
        kind="server_error",
    )
