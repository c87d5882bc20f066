"""Reading lists, and the measures of diversity."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from synthesizing import WORDS, TinyLedger, numbered, seed_prompts, tools

from overproof.clients import local_embedder
from overproof.collect.synthesize.build import build, synthesize
from overproof.collect.synthesize.diversity import (
    Diversity,
    RougeIndex,
    ShingleIndex,
    rouge_l,
)
from overproof.collect.synthesize.lists import (
    UnreadableError,
    read_list,
    read_objects,
    unusable,
)
from overproof.config.synthesize import Expand, Paraphrase
from overproof.errors import ConfigError, ModelError
from overproof.stats.shingles import jaccard_pairs


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ('{"prompts": ["a b", "c d"]}', ["a b", "c d"]),
        ('Sure!\n```json\n["a b", "c d"]\n```\nDone.', ["a b", "c d"]),
        ('[{"prompt": "a b", "style": "x"}, {"text": "c d"}, 7]', ["a b", "c d", "7"]),
        ('{"n": 2, "items": ["a b"], "more": []}', ["a b"]),
        ("1. a b\n2. c d", ["a b", "c d"]),
        ("Here are two:\n\n1) **a b**\n\n2) “c d”\n\nI hope this helps!", ["a b", "c d"]),
        ("- a b\n  and more\n* c d", ["a b\n  and more", "c d"]),
        ("**1.** a b\n**2.** c d", ["a b", "c d"]),
        ("Prompt 1: a b\nPrompt #2: c d", ["a b", "c d"]),
        ("a b\nc d\n", ["a b", "c d"]),
        ("Two prompts:\na b\nc d", ["a b", "c d"]),
        ("1. What is {x} in [0, 1]?\n2. c d", ["What is {x} in [0, 1]?", "c d"]),
        ('1. Say "a" and "b"', ['Say "a" and "b"']),
        ('{"prompts": ["1. a b", "Question 2: c d", "1. a\\n2. b"]}', ["a b", "c d", "1. a\n2. b"]),
        ('"a b",\n"c d",', ["a b", "c d"]),
        ("-5 degrees, is that cold?", ["-5 degrees, is that cold?"]),
    ],
)
def test_lists_are_read_in_many_forms(text: str, entries: list[str]) -> None:
    assert read_list(text) == entries


@pytest.mark.parametrize(
    "text", ["", "  \n ", "{}", "[]", '{"prompts": ["a', '["', "1.", "[" * 9999]
)
def test_what_is_no_list_is_said(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_list(text)


def test_a_list_that_was_cut_loses_its_last_entry() -> None:
    assert read_list("1. a b\n2. c d\n3. e", cut=True) == ["a b", "c d"]
    with pytest.raises(UnreadableError):
        read_list("1. a b", cut=True)


def test_objects_need_all_their_fields() -> None:
    fields = ("question", "answer")
    whole = {"question": "a?", "answer": "b"}
    assert read_objects('[{"Question": "a?", "ANSWER": "b"}, {"question": "c?"}]', fields) == [
        whole
    ]
    assert read_objects("Q: a?\nA: b\n\nQ: c?", fields) == [whole]
    assert (
        read_objects("1. Question: a?\n   Answer: b\nstill b", fields)[0]["answer"] == "b\nstill b"
    )
    assert read_objects('{"question": "a?", "answer": "b"}', fields) == [whole]
    for text in ("no", '[{"question": "c?"}]', "[1, 2]", '{"pairs": "x"}'):
        with pytest.raises(UnreadableError, match="question, answer"):
            read_objects(text, fields)


def test_texts_that_cannot_be_prompts() -> None:
    assert unusable("Why is the sky blue?", 100) is None
    assert unusable("新しい詩を書いて", 100) is None
    assert unusable("Write a prompt response to this email", 100) is None
    (half,) = read_list('["Why \\ud800 now?"]')
    assert half == "Why \ufffd now?"
    assert unusable(half, 100) == unusable("Why\x00?", 100) == "is garbled"
    assert unusable("…!", 100) == "has no words"
    assert unusable("x" * 101, 100) == "is longer than max_chars"
    assert unusable("I’m sorry, but I can't do that", 100) == "is a refusal"
    assert unusable("Here are four versions", 100) == "speaks of its making"
    assert unusable("Rewrite the given prompt", 100) == "speaks of its making"
    assert unusable("<prompt>Why?</prompt>", 100) == "speaks of its making"
    assert unusable("do not Answer it, but ask", 100, "Do not answer it, but ask.") == (
        "echoes what was asked"
    )


def some_texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS[:12], k=rng.randint(0, 12))) for _ in range(n)]
    for i in range(0, n, 3):
        words = texts[rng.randrange(n)].split()
        if words:
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        texts[i] = " ".join(words)
    return texts


@functools.cache
def subsequence(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return subsequence(a[:-1], b[:-1]) + 1
    return max(subsequence(a[:-1], b), subsequence(a, b[:-1]))


def test_rouge_l_is_that_of_the_definition() -> None:
    for a, b in itertools.pairwise(some_texts(60, 3)):
        x, y = tuple(a.split()), tuple(b.split())
        expected = 2 * subsequence(x, y) / (len(x) + len(y)) if x or y else 1.0
        assert rouge_l(a, b) == pytest.approx(expected)
    assert rouge_l("今日は晴れ", "今日は雨だ") == pytest.approx(0.6)


@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.0])
def test_the_growing_index_finds_what_the_join_finds(threshold: float) -> None:
    texts = list(dict.fromkeys(some_texts(300, 5)))  # grows through two rebuilds
    texts.append(texts[40].upper())
    index = ShingleIndex(threshold)
    found = {}
    for j, text in enumerate(texts):
        if (near := index.nearest(text)) is not None:
            found[j] = near[1]
        index.add(text)
    best: dict[int, float] = {}
    for _, j, similarity in jaccard_pairs(texts, threshold=threshold):
        best[j] = max(similarity, best.get(j, 0.0))
    assert best
    assert found == pytest.approx(best)


@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_the_index_of_rouge_l_misses_nothing(threshold: float) -> None:
    texts = list(dict.fromkeys(some_texts(150, 6)))
    index = RougeIndex(threshold)
    hits = 0
    for j, text in enumerate(texts):
        best = max((rouge_l(text, other) for other in texts[:j]), default=0.0)
        near = index.nearest(text)
        assert (near is not None) == (best >= threshold)
        if near is not None:
            hits += 1
            assert near[1] == pytest.approx(best)
        index.add(text)
    assert hits


class Letters:
    """Embeds a text as its letters, so that anagrams mean the same."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.calls.append(list(texts))
        rows = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
        rows = rows.astype(np.float32) + 1e-6
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def test_embeddings_tell_what_means_the_same() -> None:
    config = Expand(kind="expand", diversity="embedding", near_duplicate=0.99)
    embedder = Letters()
    diversity = Diversity(config, embedder)
    await diversity.know(["listen to me", "listen to me"], "a seed")
    await diversity.know([], "a held-out prompt")
    verdicts = await diversity.admit(["silent to me", "quick brown fox", "Quick  brown fox", "zzz"])
    assert [v.reason if v else None for v in verdicts] == [
        "too like a seed (embedding)", None, "repeats a new prompt", None,
    ]  # fmt: skip
    assert verdicts[0] is not None
    assert verdicts[0].text == "listen to me"
    assert embedder.calls[0] == ["listen to me"]
    for i in range(200):  # grows
        assert await diversity.admit([WORDS[i % len(WORDS)] * (1 + i // len(WORDS)) + "q" * i])


async def test_an_embedding_model_must_be_there_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Letters:
        raise ModelError(name, "is not a model that is known")

    monkeypatch.setattr(local_embedder, "Embedder", missing)
    config = Paraphrase(kind="paraphrase", diversity="embedding", embedder="no-such-model")
    ledger = TinyLedger(numbered)
    with pytest.raises(ModelError, match="no-such-model"):
        await synthesize(
            [Expand(kind="expand", count=1), config], tools(ledger, tmp_path), seed_prompts("a b")
        )
    assert not ledger.asked
    with pytest.raises(ConfigError, match="use diversity = 'shingles'"):
        build(config, tools(None, tmp_path))


async def test_an_embedding_model_is_loaded_once_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> Letters:
        loaded.append(name)
        return Letters()

    monkeypatch.setattr(local_embedder, "Embedder", load)
    config = Expand(kind="expand", count=10, diversity="embedding", near_duplicate=0.999)
    ledger = TinyLedger(numbered)
    made = await synthesize([config, config], tools(ledger, tmp_path), seed_prompts("a b c"))
    assert loaded == ["all-MiniLM-L6-v2"]
    assert len({prompt.item for prompt in made.prompts}) == 20
    assert made.reports[1].reasons["repeats an earlier prompt"] > 0


async def test_exact_diversity_keeps_what_is_only_alike(tmp_path: Path) -> None:
    def answer(request: object) -> str:
        return "\n".join(
            f"{i}. If I count slowly, what is {i} plus one, all in all?" for i in range(1, 5)
        )

    seeds = seed_prompts("What is 1 plus 1?")
    options = {"kind": "expand", "count": 4, "per_request": 4, "patience": 2, "rouge_l": 1.0}
    for diversity, expected in (("exact", 4), ("shingles", 1)):
        config = Expand.model_validate({**options, "diversity": diversity})
        made = await build(config, tools(TinyLedger(answer), tmp_path)).prompts(seeds)
        assert len(made) == expected, diversity


async def test_a_cancelled_strategy_leaves_no_request_behind(tmp_path: Path) -> None:
    started = asyncio.Event()
    ended = 0

    async def never(request: object, check: object = None) -> object:
        nonlocal ended
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended += 1

    strategy = build(Expand(kind="expand", count=64), tools(never, tmp_path, width=8))
    task = asyncio.create_task(strategy.prompts(seed_prompts("a b c", "d e f")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == 8


async def test_long_runs_of_many_prompts(tmp_path: Path) -> None:
    config = Expand(kind="expand", count=600, per_request=50)
    strategy = build(config, tools(TinyLedger(numbered), tmp_path))
    made = await strategy.prompts(seed_prompts("What is a copper lantern?"))
    assert len({prompt.item for prompt in made}) == 600
