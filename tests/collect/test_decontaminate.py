"""Decontamination: what leaks is found by every road, and a template is no leak."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from examples import example, make, tools

from overproof.collect.filters.build import decontaminator
from overproof.collect.filters.ngrams import Items, NgramIndex, words_of
from overproof.config.filters import BenchmarkFile
from overproof.errors import DataError

ITEM = (
    "A farmer has seventeen sheep and buys twice as many goats before selling nine animals at the "
    "market on Friday. How many animals does she have left?"
)
SHORT = "Who painted the Mona Lisa?"
TINY = "Define entropy."
CLEAN = "Write a poem about a river that forgot its name and found the sea."


async def test_every_road_finds_its_leak() -> None:
    rows = [
        example(CLEAN, "A quiet river went to look for words."),
        example("Solve: a FARMER has seventeen sheep, and buys twice as many goats before selling"
                " nine of them."),
        example("Tell me something.", f"Here is one: {ITEM} Good luck!"),
        example("Quiz! Question 3: who painted the mona lisa? Answer in one word."),
        example("define entropy"),
        example("Please define entropy. And explain it to a child, with an example from home."),
        example("A farmer had 17 sheep, bought 34 goats. How many?"),
        example(ITEM.replace("goats", "goat").replace("Friday", "Fridays")),
    ]  # fmt: skip
    found = make("decontaminate", held_out=[ITEM, SHORT, TINY])
    dropped = await found.drops(rows)
    assert sorted(dropped) == [1, 2, 3, 4, 7]
    assert dropped[1].startswith("prompt shares 13 words with held-out: 'a farmer has seventeen")
    assert dropped[2].startswith("answer shares 13 words with held-out: ")
    assert dropped[3] == "prompt holds a whole item of held-out: 'who painted the mona lisa'"
    assert dropped[4] == "prompt is an item of held-out: 'define entropy'"
    assert dropped[7].startswith("prompt is a near-duplicate of an item of held-out: 0.")
    assert found.notes == ["held-out: 3 items; 5 examples found"]


async def test_twelve_words_are_no_leak_and_thirteen_are() -> None:
    words = words_of(ITEM)
    other = "completely different words stand around what both of the texts have in common here"
    for shared, found in ((12, []), (13, [0])):
        row = example(f"{other} {' '.join(words[3 : 3 + shared])} {other}")
        assert list(await make("decontaminate", held_out=[ITEM]).drops([row])) == found
    shorter = make("decontaminate", held_out=[ITEM], words=8)
    assert list(await shorter.drops([example(" ".join(words[5:13]))])) == [0]


async def test_short_common_words_are_no_leak() -> None:
    """Answers are never matched with items of a word or two, such as the labels of a benchmark."""
    rows = [example("Is it so?", "yes"), example("Yes or no", "Paris"), example("yes")]
    held = ["yes", "no", "Paris", "A", "the", "", "?!"]
    assert list(await make("decontaminate", held_out=held).drops(rows)) == [2]


def questions(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(400)]
    return [" ".join(rng.choices(words, k=12)) for _ in range(count)]


async def test_a_template_is_no_leak_and_hides_none() -> None:
    head = ("You are a careful assistant of a library. Read the following question of a visitor "
            "twice, and answer it in one short paragraph.\nQuestion: ")  # fmt: skip
    asked, held = questions(200, 1), questions(20, 2)
    rows = [example(head + text) for text in asked]
    rows[17] = example(head + held[4])
    rows[18] = example(head + held[5].replace("a", "b", 1))
    found = make("decontaminate", held_out=[head + text for text in held])
    dropped = await found.drops(rows)
    assert list(dropped) == [17, 18]
    assert "word runs ignored as wording of a template" in found.notes[0]
    # Few held-out texts cannot tell a template; the many prompts can.
    few = make("decontaminate", held_out=[head + text for text in held[:5]])
    assert list(await few.drops(rows)) == [17]


async def test_phrases_to_ignore(tmp_path: Path) -> None:
    licence = ("permission is hereby granted free of charge to any person obtaining a copy of this "
               "software and associated documentation")  # fmt: skip
    (tmp_path / "ignore.txt").write_text(licence + "\n")
    held = [f"What licence is this and why? {licence} files."]
    rows = [example("Write a licence.", f"Of course. {licence}, and so on and so forth.")]
    assert list(await make("decontaminate", tmp_path, held_out=held).drops(rows)) == [0]
    found = make("decontaminate", tmp_path, held_out=held, ignore="ignore.txt")
    assert await found.drops(rows) == {}
    with pytest.raises(DataError, match="cannot be read"):
        make("decontaminate", tmp_path, ignore="missing.txt")


async def test_benchmark_files_are_read_and_reported_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text(f"{SHORT}\n\nWhat is the boiling point of gold?\n")
    with (tmp_path / "math.jsonl").open("w") as stream:
        stream.write(json.dumps({"question": ITEM, "answer": "yes"}) + "\n")
    with (tmp_path / "chats.jsonl").open("w") as stream:
        chat = [{"role": "user", "content": "Where do swallows spend their winters these days?"}]
        stream.write(json.dumps({"conversation": chat, "choices": ["a", "b"]}) + "\n")
    files = [
        {"path": "lines.txt", "name": "trivia"},
        {"path": "math.jsonl"},
        {"path": "chats.jsonl", "columns": ["conversation", "choices"]},
    ]
    rows = [
        example("x " + SHORT),
        example(ITEM),
        example("Well, where do swallows spend their winters these days?"),
        example("a long prompt about nothing", "yes"),
    ]
    found = make("decontaminate", tmp_path, files=files, held_out=[CLEAN])
    dropped = await found.drops(rows)
    assert sorted(dropped) == [0, 1, 2]
    assert "item of trivia" in dropped[0]
    assert found.notes == [
        "held-out: 1 items; 0 examples found",
        "trivia: 2 items; 1 examples found",
        "math.jsonl: 1 items; 1 examples found",
        "chats.jsonl: 3 items; 1 examples found",
    ]
    with pytest.raises(DataError, match="has no column of a usual name"):
        make("decontaminate", tmp_path, files=[{"path": "chats.jsonl"}])
    with pytest.raises(DataError, match="has no column 'quest'"):
        make("decontaminate", tmp_path, files=[{"path": "math.jsonl", "columns": ["quest"]}])
    with pytest.raises(DataError, match="there is no such file"):
        make("decontaminate", tmp_path, files=[{"path": "gone.jsonl"}])
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        make("decontaminate", tmp_path, files=[{"path": "empty.txt"}])


async def test_the_decontaminator_that_always_runs(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(ITEM)
    always = decontaminator(tools(tmp_path, [CLEAN]), [BenchmarkFile(path="b.txt")])
    rows = [example(CLEAN), example(ITEM), example("fine"), example(CLEAN, "x", 0, split="test")]
    assert sorted(await always.drops(rows)) == [0, 1]
    assert always.notes[-1] == "1 examples outside of the training split not looked at"
    nothing = decontaminator(tools())
    assert await nothing.drops(rows[:3]) == {}
    assert nothing.notes == ["nothing to compare with: no held-out texts and no benchmark files"]


async def test_scripts_without_spaces_are_cut_into_characters() -> None:
    item = "昔々あるところにおじいさんとおばあさんが住んでいました"
    row = example("次の文を訳して：" + item[3:22] + "。")
    assert list(await make("decontaminate", held_out=[item]).drops([row])) == [0]
    assert (
        await make("decontaminate", held_out=[item]).drops([example("昔々、川がありました。")])
        == {}
    )


async def test_large_sets_go_through_minhash_and_still_find_near_duplicates() -> None:
    asked, held = questions(1200, 3), questions(1000, 4)
    leaks = random.Random(5).sample(range(1200), 100)
    for n, place in enumerate(leaks):
        text = held[n]
        asked[place] = text[:40] + "z" + text[41:]  # at most 6 words in a row, similarity 0.87
    rows = [example(text) for text in asked]
    dropped = await make("decontaminate", held_out=held).drops(rows)
    assert set(dropped) <= set(leaks)
    assert len(dropped) >= 97  # recall is 0.999 at 0.87


def test_runs_by_brute_force() -> None:
    rng = random.Random(6)
    words = [f"w{n}" for n in range(4)]
    items = [" ".join(rng.choices(words, k=rng.randint(3, 14))) for _ in range(30)]
    texts = [" ".join(rng.choices([*words, "other"], k=rng.randint(0, 30))) for _ in range(300)]
    index = NgramIndex(Items("x", items), words=6, shortest=4, boilerplate=1.0)
    found = {(hit.text, hit.words) for hit in index.shared(texts)}
    runs = set()
    for item in map(words_of, items):
        if 4 <= len(item) < 6:
            runs.add(tuple(item))
        runs |= {tuple(item[i : i + 6]) for i in range(len(item) - 5)}
    wanted = {
        (number, " ".join(said[i : i + length]))
        for number, said in enumerate(map(words_of, texts))
        for length in (4, 5, 6)
        for i in range(len(said) - length + 1)
        if tuple(said[i : i + length]) in runs
    }
    assert found == wanted
    assert len(found) > 20
