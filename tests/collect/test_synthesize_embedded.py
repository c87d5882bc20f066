"""Strategies with a real, if tiny, teacher: what it writes is poor, and must still be in order."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from synthesizing import seed_prompts, tools

from overproof.clients.embedded import EmbeddedTeacher
from overproof.collect.filters.protocol import Check
from overproof.collect.synthesize.build import synthesize
from overproof.config.synthesize import Documents, Paraphrase
from overproof.config.teacher import TeacherConfig
from overproof.errors import ModelError
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.hashing import text_hash
from overproof.stats.shingles import jaccard_pairs

SEEDS = seed_prompts(
    "How far is it from Denver to Aspen?",
    "What is the longest river in the world?",
    "How do you make a paper airplane?",
    "Why do heavier objects travel downhill faster?",
)
DOCUMENT = (
    "The harbour of Velm was dug by Ann Orrin. It froze every winter until the canal was built. "
    "Her brother built the lantern tower, which burned for forty years."
)


@pytest.mark.slow
async def test_a_real_teacher(tmp_path: Path) -> None:
    from overproof.clients import registry

    model = os.environ.get("OVERPROOF_TEST_GGUF", "SmolLM2-135M-Instruct")
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs the extra 'embedded'")
    try:
        registry.resolve(model)
    except ModelError as error:
        pytest.skip(f"needs an embedded model: {error}")
    (tmp_path / "velm.txt").write_text(DOCUMENT)
    few = {"per_request": 1, "max_tokens": 48}
    configs = [
        Paraphrase.model_validate({"kind": "paraphrase", "count": 3, "patience": 4, **few}),
        Documents(kind="documents", files=("velm.txt",), count=1, patience=2, max_tokens=96),
    ]
    answers: dict[str, Completion] = {}
    config = TeacherConfig(kind="embedded", model=model, concurrency=4)
    async with EmbeddedTeacher(config, log_dir=tmp_path) as teacher:

        async def ask(request: Request, check: Check | None = None) -> Completion:
            completion = await teacher.complete(request)
            if check is not None and check(completion) is not None:
                completion = completion.model_copy(update={"outcome": Outcome.MALFORMED})
            answers[request.key] = completion
            return completion

        result = await synthesize(
            configs, tools(ask, tmp_path, model=model, structured=True, width=2), SEEDS
        )
    assert answers
    for prompt in result.prompts:
        (key,) = prompt.origin.request_keys
        assert answers[key].text
        assert prompt.origin.parents
        if prompt.origin.kind == "documents":
            assert prompt.reference
            assert prompt.facts["document"]["quote"]
    seen = [*SEEDS, *result.prompts]
    assert len({text_hash(prompt.text) for prompt in seen}) == len(seen)
    assert not jaccard_pairs([prompt.text for prompt in seen], threshold=0.8)
    for report in result.reports:
        assert report.made == sum(p.origin.kind == report.name for p in result.prompts)
        assert report.seen == report.made + report.dropped
        assert sum(report.answers.values()) > 0
        assert report.made == report.wanted or any("stopped at" in note for note in report.notes)
    counted = sum(sum(report.answers.values()) for report in result.reports)
    assert len(answers) - 2 <= counted <= len(answers)  # one may be under way at an early end
