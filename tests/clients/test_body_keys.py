"""``[teacher.body]`` cannot override what is reserved in the budget and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.clients.connect import connect
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError


def build(kind: str, body: dict[str, Any]) -> None:
    url = {"base_url": "http://127.0.0.1:9/v1"} if kind == "openai" else {}
    connect(TeacherConfig.model_validate({"kind": kind, "model": "m", "body": body} | url))


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("model", "dearer", "teacher.model"),
        ("messages", [], "[task] system and prompt"),
        ("max_tokens", 100_000, "[task] max_tokens"),
        ("max_tokens", None, "[task] max_tokens"),
        ("temperature", 0.0, "[task] temperature"),
        ("tools", [], "[task] tools"),
        ("tool_choice", "none", "[task] tool_choice"),
        ("stream", True, "teacher.stream = true"),
    ],
)
def test_what_the_recipe_says_elsewhere(kind: str, key: str, value: Any, instead: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(kind, {"top_k": 5, key: value})
    assert caught.value.culprit == f"teacher.body.{key}"
    assert instead in caught.value.way_out


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("openai", {"max_completion_tokens": 9}),
        ("openai", {"n_predict": 9}),
        ("openai", {"n": 4}),
        ("openai", {"best_of": 4}),
        ("openai", {"logprobs": False}),
        ("openai", {"top_logprobs": 5}),
        ("openai", {"response_format": {"type": "text"}}),
        ("anthropic", {"system": "Be rude."}),
        ("anthropic", {"output_config": {"format": {}}}),
    ],
)
def test_what_one_wire_alone_knows(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.body\."):
        build(kind, body)


def test_what_has_no_other_key_stays_free() -> None:
    free = {"top_p": 0.9, "seed": 1, "stop": ["\n"], "reasoning_effort": "low", "stream": False}
    build("openai", free | {"x_vendor": {"model": "theirs"}})
    thinking = {"type": "enabled", "budget_tokens": 1024}
    build("anthropic", {"top_k": 5, "thinking": thinking, "output_config": {"effort": "low"}})
