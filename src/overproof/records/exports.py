"""Exporting a ledger as request and response objects, which ``import_logs`` reads back.

One object an exchange::

    {"request": {…}, "response": {…} or null, "error": … or null, "overproof": {…}}

``overproof`` holds what the API's own objects have no place for: outcome, teacher, licence, cost.
In Parquet the four are columns of JSON text beside columns to filter by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overproof.errors import DataError
from overproof.records.exchange import Exchange
from overproof.records.ledger import Ledger
from overproof.records.openai_json import request_body, request_of_body, response_object
from overproof.records.table_format import table_format, to_json_line
from overproof.records.tables import TableWriter

__all__ = ["export_ledger", "exported"]

HALF_PAIR = re.compile("[\ud800-\udfff]")
# Named, for a column may be empty in the first rows.
PARQUET_KINDS = {
    "cost_usd": "float64",
    "input_tokens": "int64",
    "output_tokens": "int64",
}


def exported(exchange: Exchange, key: str, seq: int) -> dict[str, Any]:
    """The objects of one exchange, the row ``seq`` of its ledger."""
    request, completion = exchange.request, exchange.completion
    body = request_body(request)
    facts: dict[str, Any] = {
        "key": key,
        "sample": request.sample,
        "outcome": str(completion.outcome),
        "latency_s": completion.latency_s,
        "status": completion.status,
        "attempts": completion.attempts,
        **exchange.model_dump(
            include={"teacher", "created_at", "cost_usd", "source", "licence", "terms"}
        ),
    }
    # What came later is written where it says something.
    later = completion.model_dump(
        mode="json",
        include={"uncertain_attempts", "choice", "batch", "prompt_logprobs"},
        exclude_defaults=True,
    )
    facts |= later
    if exchange.uncertain_usd:
        facts["uncertain_usd"] = exchange.uncertain_usd
    if request_of_body(body, sample=request.sample) != request:
        facts["request"] = request.model_dump(mode="json")  # a body that cannot say all of it
    return {
        "request": body,
        "response": response_object(exchange, f"{key.removeprefix('sha256:')[:16]}-{seq}"),
        "error": completion.error,
        "overproof": facts,
    }


def export_ledger(ledger: Ledger, to: Path) -> int:
    """Write every exchange that is not erased to ``to`` (.jsonl, .jsonl.gz or .parquet).

    Returns:
        How many were written.

    Raises:
        DataError: another ending, or a path that cannot be written.
    """
    kind, _ = table_format(to)
    if kind not in ("jsonl", "parquet"):
        raise DataError(str(to), f"a ledger is not exported as {kind}", "use .jsonl or .parquet")
    schema = None
    if kind == "parquet":
        import pyarrow as pa

        schema = pa.schema(list(PARQUET_KINDS.items()))
    written = 0
    with TableWriter(to, schema=schema) as writer:
        for row in _rows(ledger):
            writer.write(row if kind == "jsonl" else _flat(row))
            written += 1
    return written


def _rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    for entry in ledger.entries():
        if entry.exchange is not None and entry.key is not None:
            yield _encodable(exported(entry.exchange, entry.key, entry.seq))


def _encodable(row: dict[str, Any]) -> dict[str, Any]:
    """Half a surrogate pair, which a cut-off answer may end in, fits into no file format."""
    text = to_json_line(row)
    if not HALF_PAIR.search(text):
        return row
    whole: dict[str, Any] = json.loads(HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text))
    return whole


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    facts, usage = row["overproof"], (row["response"] or {}).get("usage") or {}
    return {
        "key": facts["key"],
        "teacher": facts["teacher"],
        "model": row["request"]["model"],
        "outcome": facts["outcome"],
        "created_at": facts["created_at"],
        "cost_usd": facts["cost_usd"],
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        **{name: to_json_line(row[name]) for name in ("request", "response", "error", "overproof")},
    }
