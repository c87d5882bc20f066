"""Tools for strategies: a teacher whose words a test chooses, asked through a tiny ledger."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overproof.clients.fake import FakeTeacher
from overproof.collect.filters.protocol import Check
from overproof.collect.synthesize.protocol import StrategyTools, messages_of_text
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.text_dataset import Origin, Prompt

_NAMES = (
    "river stone lamp garden violin harbour copper winter saddle orchard engine pepper tunnel "
    "feather marble lantern basket thunder meadow candle anchor blanket compass walnut glacier "
    "ribbon furnace cradle pigeon barrel cactus dragon emerald falcon goblet hammer iceberg jungle"
)
WORDS = _NAMES.split()


class TinyLedger:
    """Asks a fake teacher, remembers answers by key, and asks malformed ones again."""

    def __init__(self, answer: Callable[[Request], str | Completion], reasks: int = 2) -> None:
        def complete(request: Request) -> Completion:
            said = answer(request)
            if isinstance(said, Completion):
                return said
            return Completion(outcome=Outcome.ANSWERED, text=said)

        self.teacher = FakeTeacher(answer=complete)
        self.known: dict[str, Completion] = {}
        self.asked: list[Request] = []
        self.sent: list[Request] = []
        self.problems: list[str] = []
        self.reasks = reasks

    async def __call__(self, request: Request, check: Check | None = None) -> Completion:
        self.asked.append(request)
        if request.key in self.known:
            return self.known[request.key]
        for _ in range(self.reasks + 1):
            self.sent.append(request)
            completion = await self.teacher.complete(request)
            problem = check(completion) if check else None
            if problem is None:
                break
            self.problems.append(problem)
            completion = completion.model_copy(
                update={"outcome": Outcome.MALFORMED, "error": problem}
            )
        self.known[request.key] = completion
        return completion


def tools(ask: Any, home: Path, **changes: Any) -> StrategyTools:
    return StrategyTools(
        **{"ask": ask, "model": "fake", "teacher": "fake@fake", "home": home, "seed": 7, **changes}
    )


def seed_prompts(*texts: str, **changes: Any) -> list[Prompt]:
    prompts = []
    for row, text in enumerate(texts, start=1):
        messages, item = messages_of_text(text)
        origin = Origin(kind="file", source=f"data.csv: row {row}")
        prompts.append(Prompt(item=item, messages=messages, origin=origin, **changes))
    return prompts


def wanted_number(request: Request) -> int:
    """How many prompts a request asks for."""
    found = re.search(r"list of (\d+)|holds (\d+) of", request.messages[-1].content)
    assert found is not None
    return int(found[1] or found[2])


def invented(request: Request, words: int = 9) -> list[str]:
    """New prompts, the same for the same request, unlike those for another."""
    rng = random.Random(request.key)
    return [
        "Why " + " ".join(rng.sample(WORDS, words)) + "?" for _ in range(wanted_number(request))
    ]


def numbered(request: Request) -> str:
    return "\n".join(f"{i}. {text}" for i, text in enumerate(invented(request), start=1))


def as_json(request: Request) -> str:
    return json.dumps({"prompts": invented(request)})
