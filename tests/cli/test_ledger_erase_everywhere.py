"""Erasing an input everywhere: asked again in other words, shown as an example, frozen in files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from overproof.cli.ledger import app
from overproof.errors import LedgerError
from overproof.records.dataset import LabelRow, write_split
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger

PERSON = "Ada Personal lives in 12 Lovelace Street"
SYSTEM = Message(role="system", content="Choose.")
EXAMPLES = (
    (Message(role="user", content="Text: fine"), Message(role="assistant", content="A")),
    (Message(role="user", content="Text: poor"), Message(role="assistant", content="B")),
)


def exchange(*messages: Message, answer: str = "A") -> Exchange:
    return Exchange(
        request=Request(model="m", messages=messages),
        completion=Completion(outcome=Outcome.ANSWERED, text=answer),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
    )


def user(text: str) -> Message:
    return Message(role="user", content=text)


def erase(run: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["erase", *words, str(run)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def bytes_of_ledger(run: Path) -> bytes:
    return b"".join(file.read_bytes() for file in run.glob("ledger.sqlite*"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    first = exchange(SYSTEM, *EXAMPLES[0], *EXAMPLES[1], user(f"Text: {PERSON}"))
    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        ledger.submit(first)  # row 2
        ledger.submit(exchange(SYSTEM, *EXAMPLES[1], *EXAMPLES[0], user(f"Text: {PERSON}")))
        ledger.submit(exchange(SYSTEM, user(f"Which of these?\n\n{PERSON}.\n")))  # in other words
        ledger.submit(  # 5: as an example of another input's prompt
            exchange(SYSTEM, user(f"Text: {PERSON}"), *EXAMPLES[0][1:], user("Text: other"))
        )
        ledger.submit(exchange(SYSTEM, user("Text: innocent"), answer=f"as {PERSON} says"))
        ledger.submit(exchange(SYSTEM, user(f"Text: {PERSON}s and more")))  # another text
        ledger.note("look", {"students": ["a"], "said": [f"{PERSON}!"]})  # 8
        ledger.submit(exchange(SYSTEM, user("Text: fine")))
    (run / "dataset").mkdir()
    row = LabelRow(
        item="i", text=PERSON, outcome=Outcome.ANSWERED, request_keys=(first.request.key,)
    )
    write_split(run / "dataset", "test", [row])
    write_split(
        run / "dataset", "train", [row.model_copy(update={"text": "x", "request_keys": ()})]
    )
    pq.write_table(pa.table({"item": ["i"], "gold": ["yes"]}), run / "dataset/gold.parquet")
    (run / "failed.jsonl").write_text(json.dumps({"split": "test", "text": PERSON}) + "\n")
    return run


def test_every_other_row_and_file_is_named(run: Path) -> None:
    found = json.loads(erase(run, "2", "--yes", "--json"))
    assert found == {
        "erased": 1,
        "also_in_rows": [3, 4, 5, 6, 8],
        "also_in_files": ["dataset/test.parquet", "failed.jsonl"],
    }
    assert PERSON.encode() in bytes_of_ledger(run)


def test_without_a_dataset_the_message_is_what_is_looked_for(run: Path) -> None:
    (run / "dataset/test.parquet").unlink()
    found = json.loads(erase(run, "2", "--yes", "--json"))
    assert found["also_in_rows"] == [3, 5]
    assert found["also_in_files"] == ["failed.jsonl"]  # its input is a part of the message


def test_everywhere_erases_all_at_once_and_the_chain_holds(run: Path) -> None:
    with Ledger.open(run / "ledger.sqlite") as ledger:
        head = ledger.verify().head
    said = erase(run, "2", "--everywhere", "--yes", "--reason", "asked by mail")
    assert "erased rows 2, 3, 4, 5, 6, 8" in said
    assert "dataset/test.parquet, failed.jsonl" in said
    left = bytes_of_ledger(run).replace(f"{PERSON}s and more".encode(), b"")
    assert PERSON.encode() not in left
    with Ledger.open(run / "ledger.sqlite") as ledger:
        report = ledger.verify(head)
        assert (report.ok, report.erased) == (True, 6)
        assert len(ledger) == 2


def test_before_asking_the_other_rows_are_shown(run: Path) -> None:
    result = CliRunner().invoke(app, ["erase", "2", str(run)], input="n\n")
    assert result.exit_code == 1
    assert "also stands in rows 3, 4, 5, 6, 8; --everywhere" in result.output
    assert "Erase row 2 for good?" in result.output
    with Ledger.open(run / "ledger.sqlite") as ledger:
        assert ledger.verify().erased == 0


def test_a_short_text_is_looked_for_as_a_whole_line(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        for text in ("yes", "say yes or no", "is it so?\n yes \n", "yes"):
            ledger.submit(exchange(user(text), answer="no"))
        ledger.submit(exchange(SYSTEM, user("yes"), answer="no"))
    found = json.loads(erase(tmp_path, "2", "--yes", "--json"))
    assert found == {"erased": 1, "also_in_rows": [4, 5, 6], "also_in_files": []}


def test_what_was_erased_before_cannot_be_looked_for(run: Path) -> None:
    erase(run, "2", "--yes")
    result = CliRunner().invoke(app, ["erase", "2", str(run), "--everywhere", "--yes"])
    assert isinstance(result.exception, LedgerError)
    assert "row 2 was erased before" in str(result.exception)
    assert "name a row that still holds the input" in str(result.exception)
    assert PERSON.encode() in bytes_of_ledger(run)
    assert json.loads(erase(run, "3", "--everywhere", "--yes", "--json"))["erased"] == 2
    assert "erased row 2" in erase(run, "2", "--yes")  # without it, the file is cleaned again
