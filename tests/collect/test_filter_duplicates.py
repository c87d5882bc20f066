"""Duplicates: exact, near and semantic; and what only looks like one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from examples import answers, example, make

from overproof.collect.filters.near_duplicate import first_similar_exactly
from overproof.collect.filters.semantic_duplicate import SemanticDuplicate, first_close
from overproof.collect.filters.texts import without_shared_wording
from overproof.config.filters import SemanticDuplicates
from overproof.records.exchange import ToolCall
from overproof.stats.minhash import first_similar

LONG = "Explain in a few plain sentences why the sky is blue at noon and red in the evening."


async def test_exact_takes_case_and_space_for_nothing_and_names_the_first() -> None:
    first = example("What is  ice?", "Frozen water.")
    rows = [first, example("what is ice?", "frozen  water."), example("What is ice?", "Cold.")]
    dropped = await make("exact").drops(rows)
    assert list(dropped) == [1]
    assert first.item in dropped[1]
    assert dropped[1].startswith("same prompt and answer as an earlier example: ")


async def test_exact_on_a_part() -> None:
    rows = [
        example("Say yes", "Yes.", 0),
        example("Say yes", "Yes!", 1),
        example("SAY YES", "Sure.", 0),
        example("Agree", "Yes.", 0),
    ]
    assert list(await make("exact", on="prompt").drops(rows)) == [2]  # samples are no duplicates
    assert list(await make("exact", on="answer").drops(rows)) == [3]
    assert await make("exact").drops(rows) == {}


async def test_exact_looks_at_system_messages_and_tool_calls() -> None:
    call = ToolCall(name="find", arguments='{"q": 1}')
    other = ToolCall(name="find", arguments='{"q": 2}')
    rows = [
        example("Hello", "Hi", system="Be brief."),
        example("Hello", "Hi", system="Be kind."),
        example("Find", "", tool_calls=(call,)),
        example("Find", "", 1, tool_calls=(other,)),
        example("Find", "", 2, tool_calls=(call,)),
    ]
    assert list(await make("exact").drops(rows)) == [4]


@pytest.mark.parametrize("method", ["exact", "lsh"])
async def test_near_duplicates_by_both_methods(method: str) -> None:
    rows = [
        example(LONG, "Because short waves scatter more than long ones in the air above us."),
        example(
            LONG + " Please.", "Because short waves scatter more than long ones in air above us."
        ),
        example(LONG, "Nobody knows; it has always been so and it will always be so, I think."),
        example("Name the capital of France and its river.", "Paris, on the Seine."),
    ]
    near = make("near_duplicate", method=method, threshold=0.7)
    dropped = await near.drops(rows)
    assert list(dropped) == [1]
    assert rows[0].item in dropped[1]
    on_prompt = make("near_duplicate", method=method, on="prompt", threshold=0.7)
    assert list(await on_prompt.drops(rows)) == [1]  # 2 is a sample of the same prompt
    on_answer = make("near_duplicate", method=method, on="answer", threshold=0.7)
    assert list(await on_answer.drops(rows)) == [1]
    assert ("MinHash" in near.notes[0]) == (method == "lsh")


async def test_a_dropped_prompt_takes_all_of_its_samples_along() -> None:
    rows = [example(LONG, "a", s) for s in (0, 1)] + [example(LONG + "!", "b", s) for s in (0, 1)]
    assert list(await make("near_duplicate", on="prompt").drops(rows)) == [2, 3]


async def test_one_system_message_is_not_another() -> None:
    rows = [example(LONG, "Yes.", system="You are a poet."), example(LONG + "!", "Yes.", system="")]
    assert await make("near_duplicate").drops(rows) == {}
    assert await make("near_duplicate", on="prompt").drops(rows) == {}


async def test_a_template_makes_no_duplicates() -> None:
    head = (
        "You are given a question of a customer. Answer it politely, in at most three sentences. "
    )
    questions = ["Where is my parcel?", "May I pay later?", "Do you ship abroad?", "Is it blue?",
                 "Can I return shoes?", "Who made it?", "How heavy is it?", "Is there a manual?",
                 "What about tax?", "Do you repair watches?", "Where is my parcel!?"]  # fmt: skip
    rows = [example(head + question, str(n)) for n, question in enumerate(questions)]
    assert list(await make("near_duplicate", on="prompt", threshold=0.7).drops(rows)) == [10]
    # Nine texts may share their beginning by chance; a few words are no template.
    assert without_shared_wording([head + str(n) for n in range(9)])[0] == head + "0"
    assert without_shared_wording([f"What is {n}?" for n in range(50)])[7] == "What is 7?"
    assert without_shared_wording([f"{n} and then {head}" for n in range(10, 50)])[0] == "10"


def test_both_methods_agree() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=5)) for _ in range(60)]
    base = [rng.choices(words, k=30) for _ in range(60)]
    texts = []
    for _ in range(300):
        row = list(rng.choice(base))
        for _ in range(rng.randint(0, 4)):
            row[rng.randrange(30)] = rng.choice(words)
        texts.append(" ".join(row))
    other = [rng.choice(["yes", "no", "yes."]) for _ in texts]
    exact = first_similar_exactly([texts, other], 0.8)
    sketched = first_similar([texts, other], threshold=0.8, recall=0.9999)
    assert set(exact) == set(sketched)
    assert 20 < len(exact) < 280


async def test_nothing_in_nothing_out() -> None:
    for kind in ("exact", "near_duplicate", "semantic_duplicate"):
        assert await make(kind).drops([]) == {}


def test_first_close_is_greedy_and_exact_over_blocks() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = first_close(vectors, 0.9)
    stays: list[int] = []
    for row in range(1500):  # the same, one by one
        close = vectors[stays] @ vectors[row] if stays else np.zeros(1)
        if close.max() >= 0.9:
            assert found[row][1] == pytest.approx(float(close.max()), abs=1e-5)
        else:
            assert row not in found
            stays.append(row)
    assert 50 < len(found) < 1450


async def test_semantic_duplicates_of_what_an_embedder_says() -> None:
    vectors = np.array([[1, 0], [0.99, 0.141], [0, 1]], dtype=np.float32)
    config = SemanticDuplicates(kind="semantic_duplicate", on="answer", threshold=0.95)
    seen: list[str] = []

    def embed(texts: object) -> np.ndarray:
        seen.extend(texts)  # type: ignore[call-overload]
        return vectors

    rows = answers("The sea is deep.", "Deep is the sea.", "Bread is baked.")
    dropped = await SemanticDuplicate(config, embed).drops(rows)
    assert seen == ["The sea is deep.", "Deep is the sea.", "Bread is baked."]
    assert list(dropped) == [1]
    assert "cosine 0.990" in dropped[1]


@pytest.mark.slow
async def test_semantic_duplicates_with_a_real_encoder() -> None:
    rows = [
        example("What is the capital of France?"),
        example("How do I bake bread at home?"),
        example("Which city is the capital of France?"),
        example("What is the capital of Germany?"),
        example("Tell me how to bake bread in my home."),
    ]
    semantic = make("semantic_duplicate", threshold=0.9)
    assert list(await semantic.drops(rows)) == [2, 4]
    assert "all-MiniLM-L6-v2" in semantic.notes[0]
