from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from talking import CHAT, ScriptedEngine, ScriptedTeacher, ask, chunks_of, connected, said

from overproof.errors import TeacherError, TeacherUnreachableError
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat import build_chat_app
from overproof.evaluate.serve_chat_defer import Cascade
from overproof.evaluate.text.deferral_rule import DeferralRule
from overproof.records.exchange import Completion, Outcome

SURE, UNSURE = said("yes it is", 0.9), said("no idea", 0.3)
SCRIPT: dict[str, Completion | ProtocolError] = {"easy": SURE, "hard": UNSURE}
BETTER = said("of course", 0.8, logprobs=None)


def rule(**changes: Any) -> DeferralRule:
    facts = {
        "student": "small",
        "student_sha256": "0",
        "teacher": "big",
        "threshold": 0.5,
        "stated": 0.9,
        "n_tune": 100,
        "max_tokens": 32,
    }
    return DeferralRule.model_validate(facts | changes)


def cascade(
    teacher: ScriptedTeacher,
    *,
    script: dict[str, Completion | ProtocolError] | None = None,
    changes: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Any, ScriptedEngine]:
    engine = ScriptedEngine(SCRIPT | (script or {}))
    answerer = Cascade(engine, "small", rule(**(changes or {})), teacher, **options)
    return build_chat_app(engine, answerer, model_name="small"), engine


async def test_the_sure_student_answers() -> None:
    teacher = ScriptedTeacher([BETTER])
    app, engine = cascade(teacher)
    async with connected(app) as client:
        response = await client.post(CHAT, json=ask("easy"))
    body = response.json()
    assert response.headers["x-overproof-answered-by"] == "student"
    assert response.headers["x-overproof-confidence"] == "0.9000"
    assert (body["model"], body["choices"][0]["message"]["content"]) == ("small", "yes it is")
    assert body["choices"][0]["logprobs"] is None  # nobody asked for them
    assert body["overproof"]["confidence"] == pytest.approx(0.9)
    assert body["overproof"]["usage"] == {"student": body["usage"], "teacher": None}
    assert not teacher.asked
    # Asked as the tune prompts were.
    assert (engine.asked[0].temperature, engine.asked[0].max_tokens) == (0.0, 32)
    assert engine.asked[0].top_logprobs == 0


async def test_the_unsure_student_passes_it_on() -> None:
    teacher = ScriptedTeacher([BETTER])
    app, _ = cascade(teacher, max_tokens=99, temperature=0.7)
    async with connected(app) as client:
        response = await client.post(CHAT, json=ask("hard", seed=4, frequency_penalty=1))
    body = response.json()
    assert response.headers["x-overproof-answered-by"] == "teacher"
    assert (body["model"], body["choices"][0]["message"]["content"]) == ("big", "of course")
    assert body["usage"]["completion_tokens"] == 3
    assert body["overproof"]["usage"]["student"]["completion_tokens"] == 3
    assert body["overproof"]["usage"]["teacher"] == body["usage"]
    (request,) = teacher.asked
    assert request.model == "big"
    parameters = request.parameters
    assert (parameters.max_tokens, parameters.temperature, parameters.seed) == (99, 0.7, 4)
    assert parameters.extra == {"frequency_penalty": 1}


async def test_what_the_request_says_goes_before_what_the_recipe_says() -> None:
    teacher = ScriptedTeacher([BETTER], top_logprobs=3)
    app, engine = cascade(teacher, max_tokens=99, temperature=0.7)
    wanted = ask("hard", temperature=0.1, max_tokens=5, logprobs=True, top_logprobs=5)
    async with connected(app) as client:
        await client.post(CHAT, json=wanted)
    asked = teacher.asked[0].parameters
    assert (asked.temperature, asked.max_tokens, asked.top_logprobs) == (0.1, 5, 3)
    assert (engine.asked[0].temperature, engine.asked[0].max_tokens) == (0.1, 5)


async def test_answers_end_where_the_calibrated_ones_did() -> None:
    teacher = ScriptedTeacher([BETTER, BETTER])
    app, engine = cascade(teacher, changes={"stop": ["\n\n"]}, stop=("\n\n", "##"))
    async with connected(app) as client:
        await client.post(CHAT, json=ask("hard"))
        await client.post(CHAT, json=ask("hard", stop="END"))
    assert [each.stop for each in engine.asked] == [("\n\n",), ("END",)]
    assert [each.parameters.stop for each in teacher.asked] == [("\n\n", "##"), ("END",)]


@pytest.mark.parametrize("who", ["easy", "hard"])
async def test_a_request_unlike_the_calibrated_ones_is_told(who: str) -> None:
    app, _ = cascade(ScriptedTeacher([BETTER] * 4), changes={"stop": ["\n"]})
    said = []
    async with connected(app) as client:
        for more in ({}, {"temperature": 0}, {"temperature": 0.7}, {"stop": ["END"]}):
            response = await client.post(CHAT, json=ask(who, **more))
            said.append(response.json()["overproof"]["calibrated"])
    assert said == [True, True, False, False]


async def test_a_stream_is_decided_before_it_begins() -> None:
    teacher = ScriptedTeacher([BETTER])
    app, _ = cascade(teacher)
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    async with connected(app) as client:
        easy = await client.post(CHAT, json=ask("easy", **fields))
        hard = await client.post(CHAT, json=ask("hard", **fields))
    for response, who, model, text in (
        (easy, "student", "small", "yes it is"),
        (hard, "teacher", "big", "of course"),
    ):
        assert response.headers["x-overproof-answered-by"] == who
        *chunks, last = chunks_of(response.text)
        assert {chunk["model"] for chunk in chunks} == {model}
        told = [chunk["choices"][0] for chunk in chunks]
        assert "".join(c["delta"].get("content", "") for c in told) == text
        assert all(c["logprobs"] is None for c in told)
        assert last["overproof"]["answered_by"] == who
        assert last["usage"]["total_tokens"] > 0


async def test_the_least_sure_choice_decides() -> None:
    teacher = ScriptedTeacher([BETTER])
    app, engine = cascade(teacher)
    turns = iter([SURE, UNSURE])
    plain = engine.choice

    async def choice(asked: Any, index: int) -> Any:
        engine.script["mixed"] = next(turns)
        async for piece in plain(asked, index):
            yield piece

    engine.choice = choice  # type: ignore[method-assign]
    async with connected(app) as client:
        body = (await client.post(CHAT, json=ask("mixed", n=2))).json()
    assert body["model"] == "big"
    assert [c["index"] for c in body["choices"]] == [0, 1]
    assert [request.sample for request in teacher.asked] == [0, 1]
    assert body["overproof"]["confidence"] == pytest.approx(0.3)
    assert body["usage"]["completion_tokens"] == 6


async def test_what_is_no_whole_answer_is_passed_on_however_sure() -> None:
    loop = said("la la la", 0.999, outcome=Outcome.TRUNCATED, finish_reason="length")
    failed = ProtocolError("too long for the student", code="context_length_exceeded")
    teacher = ScriptedTeacher([BETTER])
    app, _ = cascade(teacher, script={"loop": loop, "fail": failed}, changes={"threshold": 0.0})
    async with connected(app) as client:
        for text in ("loop", "fail"):
            body = (await client.post(CHAT, json=ask(text))).json()
            assert body["overproof"] | {"usage": 0} == {
                "answered_by": "teacher",
                "confidence": 0.0,
                "threshold": 0.0,
                "calibrated": True,
                "usage": 0,
            }


DOWN = TeacherUnreachableError("http://secret-host", "nobody answers")
BROKE = TeacherError("http://secret-host", "broke")
FAILED = Completion(outcome=Outcome.FAILED, error="HTTP 500: secret-host", status=500)
BUSY = Completion(outcome=Outcome.FAILED, error="HTTP 429", status=429)


@pytest.mark.parametrize(
    ("failure", "status"), [(DOWN, 503), (BROKE, 502), (FAILED, 502), (BUSY, 503)]
)
async def test_a_teacher_that_fails_is_an_error_or_the_students_answer(
    failure: Completion | Exception, status: int
) -> None:
    app, _ = cascade(ScriptedTeacher([failure]))
    async with connected(app) as client:
        for stream in (False, True):
            response = await client.post(CHAT, json=ask("hard", stream=stream))
            assert response.status_code == status
            assert response.json()["error"]["code"] == "teacher_failed"
            assert "secret-host" not in response.text
            assert ("retry-after" in response.headers) == (status == 503)
    app, _ = cascade(ScriptedTeacher([failure]), when_teacher_fails="student")
    async with connected(app) as client:
        response = await client.post(CHAT, json=ask("hard"))
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "no idea"
    assert response.headers["x-overproof-answered-by"] == "student"
    assert response.headers["x-overproof-teacher"] == "failed"
    assert body["overproof"]["teacher_failed"] is True


async def test_where_both_fail_nothing_is_made_up() -> None:
    failed = ProtocolError("broke", status=500, kind="server_error")
    app, _ = cascade(ScriptedTeacher([DOWN]), script={"hard": failed}, when_teacher_fails="student")
    async with connected(app) as client:
        assert (await client.post(CHAT, json=ask("hard"))).status_code == 503


async def test_a_client_that_leaves_ends_the_teachers_work() -> None:
    class Slow(ScriptedTeacher):
        cancelled = 0

        async def complete(self, request: Any, meter: object = None) -> Completion:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return BETTER

    teacher = Slow([BETTER])
    engine = ScriptedEngine(SCRIPT)
    answerer = Cascade(engine, "small", rule(), teacher)
    from overproof.evaluate.serve_chat_request import ChatAsked

    task = asyncio.create_task(answerer.begin(ChatAsked.parse(ask("hard", n=2))))
    while engine.ended < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert teacher.cancelled == 2


@pytest.mark.parametrize(("score", "expected"), [("min", 0.2), ("product", 0.72 * 0.2)])
async def test_the_rules_own_score_is_used(score: str, expected: float) -> None:
    from overproof.records.exchange import TokenLogprob

    tokens = tuple(TokenLogprob(token="x", logprob=math.log(p)) for p in (0.9, 0.8, 0.2))
    mixed = said("x x", logprobs=tokens)
    app, _ = cascade(ScriptedTeacher([BETTER]), script={"m": mixed}, changes={"score": score})
    async with connected(app) as client:
        body = (await client.post(CHAT, json=ask("m"))).json()
    assert body["overproof"]["confidence"] == pytest.approx(expected)
