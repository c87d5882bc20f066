"""A batch server and teachers that ask it, for the tests of both providers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_anthropic_batches import FakeAnthropicBatches
from fake_batches import FakeOpenAIBatches

from overproof.clients.anthropic_messages import AnthropicTeacher
from overproof.clients.batch_anthropic import AnthropicBatches
from overproof.clients.batch_openai import OpenAIBatches
from overproof.clients.batch_patience import Patience
from overproof.clients.batching import JOURNAL, BatchingTeacher
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.retry import RetryPolicy
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Message, Request

POLICY = RetryPolicy(base_s=0.001, cap_s=0.01)
PATIENCE = Patience(poll_s=0.005, max_attempts=6, dark_s=0.5, policy=POLICY)


def question(number: int, **changes: Any) -> Request:
    return Request(
        model="m", messages=(Message(role="user", content=f"question {number}"),), **changes
    )


@dataclass
class World:
    """A server, the configuration that asks it, and the directory of the run."""

    server: Any
    config: TeacherConfig
    api: Any
    run: Path

    def teacher(self, **changes: Any) -> BatchingTeacher:
        config = self.config.model_copy(update=changes)
        patience = Patience(PATIENCE.poll_s, config.max_attempts, PATIENCE.dark_s, POLICY)
        kind = AnthropicTeacher if config.kind == "anthropic" else OpenAICompatibleTeacher
        return BatchingTeacher(
            kind(config.model_copy(update={"batch": False})),
            self.api,
            config,
            state_dir=self.run,
            linger_s=0.01,
            patience=patience,
        )

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / JOURNAL).read_text().splitlines()]

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def make_world(kind: str, run: Path) -> AsyncIterator[World]:
    server = FakeAnthropicBatches() if kind == "anthropic" else FakeOpenAIBatches()
    await server.start()
    config = TeacherConfig(
        kind=kind,  # type: ignore[arg-type]
        model="m",
        base_url=server.url if kind == "anthropic" else f"{server.url}/v1",
        api_key_env="BATCH_KEY",
        batch=True,
        batch_poll_s=0.005,
    )
    api = AnthropicBatches(config) if kind == "anthropic" else OpenAIBatches(config)
    try:
        yield World(server, config, api, run)
    finally:
        await server.stop()
