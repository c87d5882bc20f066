"""Answers of local weights: kept as they come, told apart by weights; perplexities."""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from text_world import Scripted, says, write_recipe
from tiny_lm import write_tiny_lm

from overproof.config.text_recipe import TextRecipe
from overproof.errors import DataError, ModelError, RunError, TeacherError
from overproof.evaluate.scorers.protocol import Known
from overproof.evaluate.text.answers import (
    Weights,
    ask_weights,
    requests_for,
    speed_of,
    weights_at,
)
from overproof.evaluate.text.perplexity import answer_logprobs, perplexity, read_answers
from overproof.evaluate.text.rows import HeldOutRow
from overproof.evaluate.text.sizes import parameters_at
from overproof.evaluate.text.store import AnswerFile, Given
from overproof.records.exchange import Message, Outcome, TokenLogprob


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def recipe(tmp_path: Path) -> TextRecipe:
    return write_recipe(tmp_path / "recipe").recipe


def rows(n: int) -> list[HeldOutRow]:
    return [
        HeldOutRow(
            f"item {i}", (Message(role="user", content=f"number {i}"),), Outcome.ANSWERED, None,
            Known(f"item {i}"),
        )
        for i in range(n)
    ]  # fmt: skip


def ask(
    weights: Weights, n: int, path: Path, recipe: TextRecipe, opener: object = None
) -> list[Given]:
    requests = requests_for(recipe, rows(n), "student")
    return asyncio.run(ask_weights(weights, requests, path, open_teacher=opener))  # type: ignore[arg-type]


def test_weights_answer_once(tiny: Path, tmp_path: Path, recipe: TextRecipe) -> None:
    weights = weights_at(recipe, str(tiny))
    path = tmp_path / "answers" / "test.jsonl"
    first = ask(weights, 5, path, recipe)
    assert [given.outcome for given in first] == [Outcome.TRUNCATED] * 5
    assert all(g.logprobs is not None and len(g.logprobs) == 8 == g.output_tokens for g in first)
    assert all(max(g.logprobs or (1,)) <= 0 for g in first)
    world = Scripted({"tiny": says("another answer")})
    again = ask(weights, 7, path, recipe, world)
    assert again[:5] == first
    assert len(world.asked) == 2
    assert [given.text for given in again[5:]] == ["another answer"] * 2
    speed = speed_of(again)
    assert speed.n == 7
    assert speed.requests_per_second is not None


def test_answers_of_other_weights_are_made_again(
    tiny: Path, tmp_path: Path, recipe: TextRecipe
) -> None:
    other = tmp_path / "tiny"
    shutil.copytree(tiny, other)
    path = tmp_path / "test.jsonl"
    world = Scripted({"tiny": says("one")})
    ask(weights_at(recipe, str(tiny)), 3, path, recipe, world)
    (other / "README.md").write_text("a card changes nothing")
    ask(weights_at(recipe, str(other)), 3, path, recipe, world)
    assert len(world.asked) == 3
    config = (other / "generation_config.json").read_text()
    (other / "generation_config.json").write_text(config + " ")
    ask(weights_at(recipe, str(other)), 3, path, recipe, world)
    assert len(world.asked) == 6
    assert len(path.read_text().splitlines()) == 3


def test_what_failed_is_told_and_asked_again(
    tiny: Path, tmp_path: Path, recipe: TextRecipe
) -> None:
    path = tmp_path / "test.jsonl"
    weights = weights_at(recipe, str(tiny))
    broken = Scripted({"tiny": says("", outcome=Outcome.FAILED, error="too long")})
    found = ask(weights, 2, path, recipe, broken)
    assert [(g.outcome, g.error) for g in found] == [(Outcome.FAILED, "too long")] * 2
    assert path.read_text() == ""
    mended = Scripted({"tiny": says("now")})
    assert [g.text for g in ask(weights, 2, path, recipe, mended)] == ["now", "now"]


def test_an_interrupted_run_keeps_what_was_answered(
    tiny: Path, tmp_path: Path, recipe: TextRecipe
) -> None:
    path = tmp_path / "test.jsonl"
    weights = weights_at(recipe, str(tiny))
    answer = says("yes")

    def twice_then_stop(request: object) -> object:
        if len(world.asked) > 2:
            raise TeacherError("weights", "the machine was stopped")
        return answer(request)  # type: ignore[arg-type]

    world = Scripted({"tiny": twice_then_stop})  # type: ignore[dict-item]
    with pytest.raises(TeacherError):
        ask(weights, 6, path, recipe, world)
    assert len(path.read_text().splitlines()) == 2
    with path.open("a") as stream:  # killed in the midst of a line
        stream.write('{"key": "sha256:half')
    world = Scripted({"tiny": answer})
    assert len(ask(weights, 6, path, recipe, world)) == 6
    assert len(world.asked) == 4
    assert len(path.read_text().splitlines()) == 6


def test_a_file_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    given = Given(key="k", weights="w", outcome=Outcome.ANSWERED, text="a\u2028b")
    with AnswerFile(path, "w") as file:
        file.add(given)
    with AnswerFile(path, "w") as file:
        assert file.get("k") == given
    path.write_text(path.read_text() + '{"key": 1}\n')
    with pytest.raises(DataError, match=r"test\.jsonl:2"), AnswerFile(path, "w"):
        pass
    with pytest.raises(RunError, match="cannot be written"), AnswerFile(path / "x", "w"):
        pass


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    file = AnswerFile(tmp_path / "test.jsonl", "w")
    with file, full.open("wb", buffering=0) as nowhere:
        real, file._stream = file._stream, nowhere
        with pytest.raises(RunError, match="make room"):
            file.add(Given(key="k", weights="w", outcome=Outcome.ANSWERED))
        assert file.get("k") is None
        file._stream = real


def test_weights_that_are_not_there(recipe: TextRecipe, tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ModelError):
        weights_at(recipe, str(tmp_path / "nothing"))
    assert parameters_at(str(tiny)) == 67_248
    (tmp_path / "empty").mkdir()
    assert parameters_at(str(tmp_path / "empty")) is None
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (broken / "model.safetensors").write_bytes(b"\x10" * 200)
    assert parameters_at(str(broken)) is None
    with pytest.raises(ModelError):
        ask(weights_at(recipe, str(broken)), 1, tmp_path / "t.jsonl", recipe)


def token(text: str, logprob: float) -> TokenLogprob:
    return TokenLogprob(token=text, logprob=logprob, data=tuple(text.encode()))


def test_only_the_answers_tokens_count() -> None:
    tokens = [None, token("Ask", -1.0), token(": ", -2.0), token("ye", -0.5), token("s!", -0.25)]
    assert answer_logprobs(tokens, "yes!") == (-0.5, -0.25)
    assert answer_logprobs(tokens, " yes!") == (-2.0, -0.5, -0.25)
    assert answer_logprobs(tokens, "") == ()
    for text in ("no", "Never Ask: yes!"):
        with pytest.raises(ValueError, match="does not keep the answer"):
            answer_logprobs(tokens, text)
    with pytest.raises(ValueError, match="bytes"):
        answer_logprobs([TokenLogprob(token="x", logprob=-1.0)], "x")


def test_a_perplexity_is_that_of_the_model(tiny: Path, tmp_path: Path, recipe: TextRecipe) -> None:
    """Against transformers' own loss on the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from overproof.clients.quiet import quiet_transformers

    texts = [((Message(role="user", content=f"say {i}"),), f"the answer {i * i}") for i in range(4)]
    weights = weights_at(recipe, str(tiny))
    readings = asyncio.run(read_answers(weights, [*texts, (texts[0][0], "")], tmp_path / "r.jsonl"))
    assert len(readings) == 4
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        model = AutoModelForCausalLM.from_pretrained(tiny)
    total, count = 0.0, 0
    for messages, answer in texts:
        prompt = f"<|user|>{messages[0].content}<|end|><|assistant|>"
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = head + tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        total += sum(float(logprobs[t - 1, ids[t]]) for t in range(len(head), len(ids)))
        count += len(ids) - len(head)
    found = perplexity(readings, resamples=300)
    assert found is not None
    assert found.estimate == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert found.low <= found.estimate <= found.high
    assert perplexity(readings[:1]) is None


def test_the_interval_of_a_perplexity_covers() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(60):
        readings = []
        for i in range(40):
            logprobs = tuple(-rng.gamma(2.0, 0.5, rng.integers(3, 12)))
            readings.append(
                Given(key=str(i), weights="w", outcome=Outcome.ANSWERED, logprobs=logprobs)
            )
        found = perplexity(readings, confidence=0.9, resamples=300)
        assert found is not None
        missed += not found.low <= math.e <= found.high
    assert missed / 60 < 0.25
