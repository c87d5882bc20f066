"""Whether anybody can be reached is known before anything is spent."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from overproof.clients.connect import connect
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.config.recipe import TeacherConfig

KEY = "sk-0123456789abcdef-secret"


def teacher(url: str, **changes: Any) -> OpenAICompatibleTeacher:
    settings = {"kind": "openai", "model": "m", "base_url": url} | changes
    return OpenAICompatibleTeacher(TeacherConfig.model_validate(settings))


@pytest.mark.parametrize("status", [200, 404, 405, 500])
async def test_who_answers_can_be_asked(fake_server: Any, wire: Any, status: int) -> None:
    fake_server.get["/props"] = wire.says(status, "hello")
    async with teacher(fake_server.url) as client:
        assert await client.check() is None
    assert fake_server.requests == []


async def test_a_refused_connection_names_the_address(
    fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERY_KEY", "not-for-errors")
    url = fake_server.url
    await fake_server.stop()
    async with teacher(url, query={"key": "env:QUERY_KEY"}) as client:
        why = await client.check()
    assert why is not None
    assert why.startswith(f"{url}: nobody answers (")
    assert "→ check teacher.base_url" in why
    assert "not-for-errors" not in why


async def test_a_name_that_is_nobodys_is_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def unknown(*asked: Any, **how: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with teacher("http://nobody.invalid/v1") as client:
        why = await client.check()
    assert why is not None
    assert why.startswith("http://nobody.invalid/v1: nobody answers (")
    assert "Name or service not known" in why


async def test_a_break_on_the_way_tells_nothing(fake_server: Any, wire: Any) -> None:
    fake_server.get["/props"] = wire.disconnects
    async with teacher(fake_server.url) as client:
        assert await client.check() is None


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_names_its_variable(
    fake_server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    fake_server.get["/props"] = wire.fails(status)
    fake_server.default = wire.fails(status, f"bad key {KEY}")
    async with teacher(fake_server.url, api_key_env="MY_KEY") as client:
        why = await client.check()
    assert why is not None
    assert why.startswith(f"environment variable MY_KEY: the server refuses the key ({status})")
    assert "→ check that the key is current" in why
    assert KEY[:8] not in why


async def test_a_missing_key_is_asked_for(fake_server: Any, wire: Any) -> None:
    fake_server.get["/props"] = fake_server.default = wire.fails(401)
    async with teacher(fake_server.url) as client:
        why = await client.check()
    assert why is not None
    assert why.startswith(f"{fake_server.url}: the server wants a key (401)")
    assert "teacher.api_key_env" in why


async def test_a_gateway_that_forbids_only_the_probe_can_be_asked(
    fake_server: Any, wire: Any
) -> None:
    fake_server.get["/props"] = wire.fails(403)
    fake_server.default = wire.fails(400, "messages is required")
    async with teacher(fake_server.url) as client:
        assert await client.check() is None
    [sent] = fake_server.requests
    assert (sent.path, sent.body) == ("/v1/chat/completions", {})


@pytest.mark.parametrize("kind", ["fake", "ledger"])
async def test_who_needs_nobody_is_always_there(kind: str) -> None:
    async with connect(TeacherConfig.model_validate({"kind": kind, "model": "m"})) as nobody:
        assert await nobody.check() is None
