from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from synthesizing import WORDS, TinyLedger, tools

from overproof.collect.synthesize.build import build, synthesize
from overproof.collect.synthesize.passages import cut, document_files, read_passages
from overproof.config.synthesize import Documents
from overproof.errors import ConfigError, DataError, OverproofError
from overproof.records.exchange import Request
from overproof.records.tables import write_table

FACTS = (
    "The harbour of Velm was dug in 1803 by Ann Orrin. It froze every winter until 1871.\n\n"
    "Her brother built the lantern tower. He said: “It shall burn.” It burned for forty years."
)


def documents(**changes: object) -> Documents:
    return Documents.model_validate({"kind": "documents", "files": ["notes.md"], **changes})


def pairs(request: Request) -> str:
    """One sound pair, one with a quotation that is made up, one that speaks of the passage."""
    passage = request.messages[0].content.split("<passage>\n")[1].split("\n</passage>")[0]
    rng = random.Random(request.key)
    about = " ".join(rng.sample(WORDS, 6))
    quote = passage.split(". ")[0].replace("“", '"').upper()
    found = [
        {"question": f"Who dug {about}?", "answer": "Ann Orrin", "quote": quote},
        {"question": f"When did {about} end?", "answer": "1999", "quote": "it ended in 1999"},
        {"question": f"Why does the passage name {about}?", "answer": "x", "quote": quote},
    ]
    return json.dumps({"pairs": found})


def as_lines(request: Request) -> str:
    found = json.loads(pairs(request))["pairs"]
    return "Here they are.\n\n" + "\n\n".join(
        f"**Question {i}:** {pair['question']}\nAnswer: {pair['answer']}\nQuote: {pair['quote']}"
        for i, pair in enumerate(found, start=1)
    )


@pytest.mark.parametrize("answer", [pairs, as_lines])
async def test_pairs_are_questions_with_reference_and_passage(
    answer: object, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text(FACTS)
    ledger = TinyLedger(answer)  # type: ignore[arg-type]
    config = documents(count=6, chunk=100)
    strategy = build(config, tools(ledger, tmp_path, structured=answer is pairs))
    made = await strategy.prompts([])
    assert len(made) == 6
    (passages, _) = read_passages(config, tmp_path)
    by_item = {passage.item: passage for passage in passages}
    assert len(by_item) == 2
    for prompt in made:
        (parent,) = prompt.origin.parents
        passage = by_item[parent]
        assert prompt.text.startswith("Who dug")
        assert prompt.reference == "Ann Orrin"
        assert prompt.facts["document"]["passage"] == passage.text
        assert passage.text not in prompt.text
        assert prompt.origin.source == f"notes.md: passage {passage.number}"
    report = strategy.report()
    assert report.reasons["its quotation is not in the passage"] >= 5
    assert report.reasons["speaks of a passage that is not shown"] >= 5
    assert report.notes[0] == "passages: 2, from 1 file"
    schema = ledger.sent[0].parameters.response_schema
    if answer is pairs:
        assert schema is not None
        assert schema["properties"]["pairs"]["items"]["required"] == ["question", "answer", "quote"]
    else:
        assert schema is None


async def test_the_passage_may_be_shown_and_evidence_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text(FACTS)
    config = documents(count=3, context=True, evidence=False)
    ledger = TinyLedger(pairs)
    made = await build(config, tools(ledger, tmp_path)).prompts([])
    assert len(made) == 3
    assert all(prompt.text.startswith(FACTS) for prompt in made)
    assert "quote" not in ledger.sent[0].messages[0].content.split("<passage>")[0].lower()
    # Questions about one passage are told apart by themselves, also by a later strategy.
    two = [documents(count=3, context=True), documents(count=3, context=True)]
    result = await synthesize(two, tools(TinyLedger(pairs), tmp_path), [])
    assert len(result.prompts) == 6
    assert result.reports[1].reasons["repeats an earlier prompt"] == 3


def test_cutting_loses_nothing_but_white_space() -> None:
    rng = random.Random(0)
    for size in (20, 57, 200, 5000):
        for _ in range(30):
            text = "".join(
                rng.choice(WORDS)
                + rng.choice([" ", " ", ". ", "! ”", "\n\n", "\n", "。", "x" * 30])
                for _ in range(80)
            )
            pieces = cut(text, size)
            assert all(0 < len(piece) <= size for _, piece in pieces)
            assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
            assert re.sub(r"\s", "", "".join(p for _, p in pieces)) == re.sub(r"\s", "", text)


def test_cutting_prefers_paragraphs_then_sentences_then_words() -> None:
    assert [piece for _, piece in cut(FACTS, 1000)] == [FACTS]
    assert [piece for _, piece in cut(FACTS, 100)] == FACTS.split("\n\n")
    assert [piece for _, piece in cut(FACTS, 60)] == [
        "The harbour of Velm was dug in 1803 by Ann Orrin.",
        "It froze every winter until 1871.",
        "Her brother built the lantern tower.",
        "He said: “It shall burn.” It burned for forty years.",
    ]
    assert cut("one two three", 8) == [(0, "one two"), (8, "three")]
    assert cut(" \n\n ", 10) == []
    assert cut("one.\r\n\r\ntwo.", 6) == [(0, "one."), (8, "two.")]


def test_documents_of_every_kind_are_read(tmp_path: Path) -> None:
    long = "A sentence that is long enough to be kept by itself, number "
    (tmp_path / "a.txt").write_text(f"\ufeff{long}1.", encoding="utf-8")
    rows = [{"text": f"{long}{i}.", "id": i} for i in (2, 3, 2)]
    for name in ("b.csv", "c.jsonl", "d.parquet"):
        write_table(tmp_path / name, [{**row, "text": f"{name} {row['text']}"} for row in rows])
    (tmp_path / "e.md").write_text("# Title\n\nshort")
    config = documents(files=["*.txt", "b.csv", "c.jsonl", "d.parquet", "e.md"], min_chunk=40)
    passages, notes = read_passages(config, tmp_path)
    assert [passage.source for passage in passages] == [
        "a.txt", "b.csv: row 1", "b.csv: row 2", "c.jsonl: row 1", "c.jsonl: row 2",
        "d.parquet: row 1", "d.parquet: row 2",
    ]  # fmt: skip
    assert passages[0].text == f"{long}1."
    assert notes == [
        "passages: 7, from 5 files",
        "passages of fewer than 40 characters left out: 1",
        "repeats of a passage left out: 3",
    ]


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        (["note.md"], ConfigError, "did you mean notes.md"),
        (["*.rst"], ConfigError, "no file"),
        (["."], ConfigError, "is a folder"),
        (["paper.pdf"], ConfigError, "turn others into text first"),
        (["latin.txt"], DataError, "is not utf-8: .* at byte 4"),
        (["table.csv"], DataError, "has no column 'text'"),
        (["short.txt"], DataError, "holds no passage of at least 80"),
        (["absent/x.txt"], ConfigError, "relative to the recipe"),
    ],
)
async def test_files_that_cannot_be_read_are_named(
    files: list[str], kind: type[OverproofError], words: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text(FACTS)
    (tmp_path / "paper.pdf").write_bytes(b"%PDF")
    (tmp_path / "latin.txt").write_bytes("für alle".encode("latin-1")[0:1] + b"ab\xfcx")
    (tmp_path / "table.csv").write_text("body\nx\n")
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(kind, match=words):
        await build(documents(files=files), tools(None, tmp_path)).prompts([])


def test_patterns_take_each_file_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text("x")
    found = document_files(["a.txt", "*.txt", str(tmp_path / "b.txt")], tmp_path)
    assert [path.name for path in found] == ["a.txt", "b.txt"]
