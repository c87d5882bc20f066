"""A recipe of a text task for a scripted teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overproof import api
from overproof.clients.protocol import Capabilities
from overproof.config.load import LoadedTextRecipe, load_any
from overproof.records.chat_dataset import TextManifest
from overproof.records.exchange import Completion, Outcome, Request, Usage

ABLE = Capabilities(structured=True, tools=True, seed=True)
NAMES = [
    "ada",
    "bob",
    "cleo",
    "dina",
    "egon",
    "fritz",
    "gus",
    "hanna",
    "ivo",
    "jana",
    "kurt",
    "lou",
]


def recipe(directory: Path, rest: str = "", *, data: str = "", task: str = "",
           rows: list[dict[str, Any]] | None = None) -> LoadedTextRecipe:  # fmt: skip
    rows = rows or [{"text": f"Write a letter to {name * 3}, please."} for name in NAMES]
    (directory / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "recipe.toml").write_text(
        f"""\
[run]
name = "letters"
dir = "run"
[teacher]
kind = "fake"
model = "fake"
concurrency = 4
[data]
file = "prompts.jsonl"
{data}
[task]
kind = "text"
max_tokens = 64
{task}
{rest}"""
    )
    loaded = load_any(directory)
    assert isinstance(loaded, LoadedTextRecipe)
    return loaded


def says(text: str | Callable[[Request], str], **changes: Any) -> Callable[[Request], Completion]:
    def answer(request: Request) -> Completion:
        said = text if isinstance(text, str) else text(request)
        return Completion(
            outcome=Outcome.ANSWERED, text=said, usage=Usage(input_tokens=9, output_tokens=4)
        ).model_copy(update=changes)

    return answer


def last(request: Request) -> str:
    return request.messages[-1].content


def collected(loaded: LoadedTextRecipe) -> TextManifest:
    manifest = api.collect_text(loaded)
    assert manifest is not None
    return manifest


def chats(loaded: LoadedTextRecipe, split: str = "train") -> list[dict[str, Any]]:
    lines = (loaded.run_dir / "dataset" / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
