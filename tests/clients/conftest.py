"""Fixtures for clients: a server that behaves as it is told, and a clock that sleeping moves."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake_server_module = _load("fake_server")


class Clock:
    """A clock that stands still but for sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wire() -> ModuleType:
    """The behaviours that a fake server can be given."""
    return fake_server_module


@pytest.fixture
async def fake_server() -> AsyncIterator[Any]:
    server = fake_server_module.FakeServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def pulled_model() -> str:
    """A name or path of an embedded language model on this machine; skips without one."""
    from overproof.clients import registry
    from overproof.errors import ModelError

    model = os.environ.get("OVERPROOF_TEST_GGUF", "SmolLM2-135M-Instruct")
    try:
        registry.resolve(model)
    except ModelError as error:
        pytest.skip(f"needs an embedded model: {error}")
    return model
