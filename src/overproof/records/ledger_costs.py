"""What the ledger says was spent."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from overproof.records.certificate import CostLine
from overproof.records.ledger_chain import Kind

__all__ = ["cost_lines", "total_cost"]

# The finer figures stand in the body alone; a ledger of before them has none, and sums to nothing.
USAGE = "json_extract(body, '$.exchange.completion.usage.{}')"
QUERY = f"""
SELECT teacher, model, outcome, source LIKE 'imported:%' AS imported, count(*),
       coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), sum(latency_s),
       sum(cost_usd), count(cost_usd), count(input_tokens),
       coalesce(sum({USAGE.format("cached_tokens")}), 0),
       coalesce(sum({USAGE.format("cache_write_tokens")}), 0),
       coalesce(sum({USAGE.format("reasoning_tokens")}), 0),
       coalesce(sum(json_extract(body, '$.exchange.uncertain_usd')), 0.0),
       coalesce(sum(json_extract(body, '$.exchange.completion.uncertain_attempts') > 0), 0),
       coalesce(sum(json_extract(body, '$.exchange.completion.batch') IS NOT NULL), 0)
FROM record WHERE kind = ? AND body IS NOT NULL
GROUP BY teacher, model, outcome, imported
ORDER BY imported, teacher, model, count(*) DESC, outcome
"""  # noqa: S608 - constants


def cost_lines(connection: sqlite3.Connection) -> list[CostLine]:
    """One line by teacher, model, outcome and whether it was imported.

    A sum with an unknown part is unknown, and the line says for how many calls. What attempts of
    unknown billing may have cost beyond that stands apart. Erased exchanges took their figures with
    them, so they are a line of unknown cost. Answers read from the ledger again cost nothing and
    appear nowhere.
    """
    lines = []
    for row in connection.execute(QUERY, (Kind.EXCHANGE,)).fetchall():
        teacher, model, outcome, imported, calls, tokens_in, tokens_out, seconds = row[:8]
        usd, priced, counted, cached, written, thought, unsure, unsure_calls, batch = row[8:]
        what = f"{teacher} ({model}): {outcome}" + (", imported" if imported else "")
        notes = []
        if priced < calls:
            notes.append(f"price unknown for {calls - priced} of {calls} calls")
        if counted < calls:
            notes.append(f"tokens unknown for {calls - counted} of {calls} calls")
        lines.append(
            CostLine(
                what=what + (f" [{'; '.join(notes)}]" if notes else ""),
                calls=calls,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                cached_tokens=cached,
                cache_write_tokens=written,
                reasoning_tokens=thought,
                batch_calls=batch,
                seconds=seconds,
                usd=usd if priced == calls else None,
                uncertain_usd=unsure,
                uncertain_calls=unsure_calls,
            )
        )
    query = "SELECT count(*) FROM record WHERE kind = ? AND body IS NULL"
    (erased,) = connection.execute(query, (Kind.EXCHANGE,)).fetchone()
    if erased:
        lines.append(
            CostLine(
                what=f"erased [price and tokens unknown for {erased} of {erased} calls]",
                calls=erased,
            )
        )
    return lines


def total_cost(lines: Sequence[CostLine]) -> CostLine:
    """The sum of cost lines; its money and seconds are unknown where a part is."""
    prices = [line.usd for line in lines if line.usd is not None]
    times = [line.seconds for line in lines if line.seconds is not None]
    return CostLine(
        what="total",
        calls=sum(line.calls for line in lines),
        input_tokens=sum(line.input_tokens for line in lines),
        output_tokens=sum(line.output_tokens for line in lines),
        cached_tokens=sum(line.cached_tokens for line in lines),
        cache_write_tokens=sum(line.cache_write_tokens for line in lines),
        reasoning_tokens=sum(line.reasoning_tokens for line in lines),
        batch_calls=sum(line.batch_calls for line in lines),
        seconds=sum(times) if len(times) == len(lines) else None,
        usd=sum(prices) if len(prices) == len(lines) else None,
        uncertain_usd=sum(line.uncertain_usd for line in lines),
        uncertain_calls=sum(line.uncertain_calls for line in lines),
    )
