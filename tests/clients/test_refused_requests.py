"""What a server refuses: the key, one question, or everything because the money is gone."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.openai_rejections import is_moderated, is_used_up
from overproof.clients.retry import RetryPolicy
from overproof.config.teacher import TeacherConfig
from overproof.errors import SecretError, TeacherError
from overproof.records.exchange import Message, Outcome, Parameters, Request


def teacher(url: str, clock: Any, **more: Any) -> OpenAICompatibleTeacher:
    config = TeacherConfig(kind="openai", model="m", base_url=url, **more)
    policy = RetryPolicy(max_attempts=3)
    return OpenAICompatibleTeacher(config, policy=policy, sleep=clock.sleep, now=clock.now)


def ask(text: str = "hello") -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=text),),
        parameters=Parameters(max_tokens=8),
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_after_an_answer_403_is_about_the_question_and_401_about_the_key(
    fake_server: Any, wire: Any, clock: Any, stream: bool
) -> None:
    fake_server.script = [
        wire.answers("A"),
        wire.fails(403, "not this one"),
        wire.answers("B"),
        wire.fails(401),
    ]
    async with teacher(fake_server.url, clock, stream=stream) as client:
        found = [await client.complete(ask(str(n))) for n in range(3)]
        assert [one.outcome for one in found] == ["answered", "failed", "answered"]
        assert (found[1].status, found[1].attempts) == (403, 1)
        assert found[1].uncertain_attempts == 0
        assert "HTTP 403: not this one" in str(found[1].error)
        with pytest.raises(SecretError):
            await client.complete(ask())
    assert len(fake_server.requests) == 4


async def test_the_first_403_is_about_the_key_unless_it_speaks_of_moderation(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    flagged = {"message": "no", "code": 403, "metadata": {"reasons": [], "flagged_input": "x"}}
    fake_server.script = [
        wire.says(403, {"error": flagged}),
        wire.fails(500),
        wire.fails(500),
        wire.fails(500),
        wire.fails(403),
    ]
    async with teacher(fake_server.url, clock) as client:
        assert (await client.complete(ask())).outcome is Outcome.FAILED
        assert (await client.complete(ask())).status == 500  # no answer: nothing is known yet
        with pytest.raises(SecretError):
            await client.complete(ask())


@pytest.mark.parametrize("status", [429, 403, 402, 400])
@pytest.mark.parametrize(
    "named",
    [
        {"code": "insufficient_quota", "type": "insufficient_quota"},
        {"code": "enforced_spend_limit_reached"},
        {"type": "billing_hard_limit_reached", "code": None},
        {"type": "budget_exceeded", "code": "400"},
        {"code": "insufficient_credits"},
    ],
)
async def test_a_quota_that_is_used_up_ends_the_run_at_once(
    fake_server: Any, wire: Any, clock: Any, named: dict[str, Any], status: int
) -> None:
    error = {"message": "You exceeded your current quota.", **named}
    fake_server.default = wire.says(status, {"error": error}, {"Retry-After": "1"})
    async with teacher(fake_server.url, clock) as client:
        with pytest.raises(TeacherError, match="the quota is used up") as caught:
            await client.complete(ask())
    assert "run the same command again" in caught.value.way_out
    assert len(fake_server.requests) == 1
    assert not clock.slept


def test_a_pace_that_is_too_fast_is_no_quota() -> None:
    for error in (
        '{"error": {"code": "rate_limit_exceeded", "message": "insufficient_quota"}}',
        '{"error": {"type": "rate_limit_error", "message": "spend_limit"}}',
        '{"error": {"code": "tokens", "type": "requests"}}',
        '{"error": "insufficient_quota"}',
        "insufficient_quota",
        "[]",
    ):
        assert not is_used_up(429, error), error
    assert is_used_up(429, '{"code": "insufficient_quota"}')  # without the usual wrapping
    assert not is_used_up(500, '{"error": {"code": "insufficient_quota"}}')


def test_moderation_is_told_by_its_words() -> None:
    assert is_moderated('{"error": {"code": "content_policy_violation"}}')
    assert is_moderated('{"error": {"message": "Your input was flagged by moderation"}}')
    assert not is_moderated('{"error": {"message": "this key may not use the model"}}')
    assert not is_moderated("moderation")
