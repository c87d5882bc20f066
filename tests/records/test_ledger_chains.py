"""In a ledger of several chains, whatever was changed, moved, added or left out is found."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request, Usage
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import COLUMNS, Kind, LedgerReport, seal
from overproof.records.ledger_file import INSERT, Head, row_values
from overproof.records.ledger_merge import merge_ledgers

NAMES = ("seq", "chain", "link", "kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS)


def exchange(text: str) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(
            outcome=Outcome.ANSWERED,
            text="yes",
            usage=Usage(input_tokens=7, output_tokens=300),
            latency_s=1.25,
        ),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=0.125,
    )


def write(path: Path, *texts: str) -> Path:
    with Ledger.open(path, write=True) as ledger:
        for text in texts:
            ledger.submit(exchange(text))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Rows 1–3 own, 4–6 chain 1, 7–9 chain 2, 10 join, 11 own, 12 chain 2, 13 join, 14 own."""
    home = tmp_path_factory.mktemp("whole")
    path = write(home / "ledger.sqlite", "own 1", "own 2")
    shards = [write(home / f"{n}.sqlite", f"{n} 1", f"{n} 2") for n in (1, 2)]
    merge_ledgers(path, shards)
    write(path, "own 3")
    write(shards[1], "2 3")
    merge_ledgers(path, shards)
    write(path, "own 4")
    assert verified(path).problems == ()
    return path.read_bytes()


@pytest.fixture
def path(whole: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(whole)
    return path


def verified(path: Path) -> LedgerReport:
    with Ledger.open(path) as ledger:
        return ledger.verify()


def change(path: Path, *statements: str) -> tuple[str, ...]:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    report = verified(path)
    assert report.ok == (not report.problems)
    return report.problems


@pytest.mark.parametrize("seed", range(34))
def test_a_changed_value_in_any_column_of_any_chain_is_found(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    name, seq = NAMES[seed % len(NAMES)], chance.randrange(1, 15)
    connection = sqlite3.connect(path, isolation_level=None)
    query = f"SELECT {name} FROM record WHERE seq = ?"
    (old,) = connection.execute(query, (seq,)).fetchone()
    new = {int: chance.randrange(20, 99), float: 0.5, str: "other", bytes: b"x" * 32}.get(
        type(old), 1
    )
    connection.execute(f"UPDATE record SET {name} = ? WHERE seq = ?", (new, seq))
    connection.close()
    report = verified(path)
    assert not report.ok, (name, seq, old, new)
    named = [p for p in report.problems if any(f"row {n}:" in p for n in (seq, new, seq + 1))]
    assert named, report.problems
    assert len(report.problems) <= 9  # reported where it is and where it tears the chain


@pytest.mark.parametrize(
    ("statements", "sign"),
    [
        (["UPDATE record SET body = replace(body, 'yes', 'no') WHERE seq = 8"], "row 8: body is"),
        (["DELETE FROM record WHERE seq = 12"], "row 13: joins chain"),  # the tail of a chain
        (["DELETE FROM record WHERE seq >= 13"], "row 12: it and what follows it"),
        (["UPDATE record SET seq = 15 WHERE seq = 13"], "rows between them are missing"),
        (["UPDATE record SET chain = 1 WHERE chain = 2"], "row 7: is number 1 of its chain"),
        (["UPDATE record SET chain = 3 WHERE chain = 2"], "row 7: begins chain 3 out of turn"),
        (["UPDATE record SET chain = 3 WHERE seq = 12"], "row 12: is number 4 of its chain"),
        (["UPDATE record SET link = link + 1 WHERE seq = 9"], "row 9: is number 4"),
        (["UPDATE record SET link = 'x' WHERE seq = 9"], "row 9: its chain or its place"),
        (["UPDATE record SET link = 1 << 60 WHERE seq = 9"], "row 9: is number"),
    ],
)
def test_what_was_moved_added_or_left_out_is_found(
    path: Path, statements: list[str], sign: str
) -> None:
    problems = change(path, *statements)
    assert any(sign in problem for problem in problems), problems


def test_chains_that_changed_places_are_found(path: Path) -> None:
    """Chain 1 and the first part of chain 2 have as many rows: both stay whole when exchanged."""
    problems = change(
        path,
        "UPDATE record SET seq = seq + 1000 WHERE seq BETWEEN 4 AND 6",
        "UPDATE record SET seq = seq - 3 WHERE seq BETWEEN 7 AND 9",
        "UPDATE record SET seq = seq - 997 WHERE seq > 1000",
        "UPDATE record SET chain = 3 - chain WHERE chain > 0",
    )
    assert problems == ("row 10: the rows that it joins are not where it says",) * 2 + (
        "row 13: the rows that it joins are not where it says",
    ) * (len(problems) - 2)


def test_a_chain_that_nobody_joined_is_found(path: Path, tmp_path: Path) -> None:
    stranger = write(tmp_path / "stranger.sqlite", "s 1")
    problems = change(
        path,
        f"ATTACH '{stranger}' AS other",
        "INSERT INTO record SELECT seq + 14, kind, body, body_hash, prev_hash, hash, "
        f"{', '.join(COLUMNS)}, 3, link FROM other.record",
    )
    assert problems == ("row 15: it and what follows it in its chain were joined by no record",)


def test_rows_that_somebody_chained_on_to_a_joined_chain_are_found(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    query = "SELECT seq, link, hash FROM record WHERE chain = 2 ORDER BY seq DESC"
    head = Head(*connection.execute(query).fetchone())
    values, _ = row_values(seal(Kind.NOTE, {"note": "x"}), head._replace(seq=14))
    connection.execute(INSERT, (*values[:-2], 2, head.link + 1))
    connection.close()
    assert verified(path).problems == (
        "row 15: it and what follows it in its chain were joined by no record",
    )
