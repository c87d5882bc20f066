"""What a ledger exports is plain, and imports as what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from overproof.errors import DataError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from overproof.records.exports import export_ledger
from overproof.records.imports import import_logs
from overproof.records.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run" / "ledger.sqlite", write=True) as ledger:
        yield ledger


def collected() -> list[Exchange]:
    def one(completion: Completion, sample: int = 0, **parameters: Any) -> Exchange:
        return Exchange(
            request=Request(
                model="m",
                messages=(
                    Message(role="user", content="q ☃"),
                    Message(role="assistant", content="The label is"),
                ),
                parameters=Parameters(**parameters),
                sample=sample,
            ),
            completion=completion,
            teacher="big",
            created_at="2026-01-02T03:04:05.678+00:00",
            cost_usd=0.125,
        )

    tokens = (
        TokenLogprob(
            token=" A", logprob=-0.1, data=(32, 65), top=(TopLogprob(token="B", logprob=-9),)
        ),
    )
    usage = Usage(input_tokens=5, output_tokens=1, cached_tokens=2, reasoning_tokens=1)
    answer = Completion(
        outcome=Outcome.TRUNCATED,
        text=" A",
        finish_reason="length",
        logprobs=tokens,
        usage=usage,
        model="m-1",
        latency_s=0.5,
        status=200,
        attempts=2,
    )
    failed = Completion(outcome=Outcome.FAILED, error="timeout", attempts=4, latency_s=60)
    return [
        one(failed, top_logprobs=20, max_tokens=1),
        one(answer, top_logprobs=20, max_tokens=1),
        one(answer, 1, top_logprobs=20, max_tokens=1),
        one(Completion(outcome=Outcome.REFUSED, text="No."), temperature=0.5, seed=3, top_p=0.9),
        one(Completion(outcome=Outcome.MALFORMED, error="no text"), stop=("a", "b")),
        one(Completion(outcome=Outcome.ANSWERED, text="x"), extra={"reasoning_effort": "low"}),
        one(Completion(outcome=Outcome.ANSWERED, text="y"), extra={"user": "kept", "n": 1}),
        one(Completion(outcome=Outcome.FILTERED, finish_reason="content_filter"), 7),
    ]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_an_export_imports_as_what_it_was(tmp_path: Path, name: str) -> None:
    first, second, out = tmp_path / "1.sqlite", tmp_path / "2.sqlite", tmp_path / name
    with Ledger.open(first, write=True) as ledger:
        for item in collected():
            ledger.submit(item)
        ledger.note("look", {})
        ledger.flush()
        assert export_ledger(ledger, out) == 8
        assert import_logs(out, ledger, teacher="big").imported == 0  # it is all there
    with Ledger.open(second, write=True) as ledger:
        report = import_logs(out, ledger, teacher="big")
        assert (report.imported, report.malformed) == (8, ())
        got = list(ledger.exchanges())
        assert ledger.verify().ok
    source = {"source": f"imported:{name}"}
    assert got == [item.model_copy(update=source) for item in collected()]
    assert [e.request.key for e in got] == [e.request.key for e in collected()]


def test_exports_are_plain_objects(tmp_path: Path, ledger: Ledger) -> None:
    for item in collected():
        ledger.submit(item)
    ledger.flush()
    export_ledger(ledger, tmp_path / "o.jsonl")
    row = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[1])
    assert row["request"]["messages"][0] == {"role": "user", "content": "q ☃"}
    assert row["request"]["top_logprobs"] == 20
    assert row["response"]["choices"][0]["logprobs"]["content"][0]["bytes"] == [32, 65]
    assert row["response"]["usage"]["total_tokens"] == 6
    assert "salt" not in json.dumps(row)
    export_ledger(ledger, tmp_path / "o.parquet")
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["outcome"].to_pylist()[0] == "failed"
    assert table["cost_usd"].to_pylist()[0] == 0.125
    with pytest.raises(DataError, match="not exported as csv"):
        export_ledger(ledger, tmp_path / "o.csv")


def test_half_a_surrogate_pair_leaves_as_a_replacement(tmp_path: Path, ledger: Ledger) -> None:
    item = collected()[3]
    cut = item.completion.model_copy(update={"text": "cut \ud83d"})
    ledger.submit(item.model_copy(update={"completion": cut})).result()
    export_ledger(ledger, tmp_path / "o.jsonl")
    assert "cut \N{REPLACEMENT CHARACTER}" in (tmp_path / "o.jsonl").read_text()
