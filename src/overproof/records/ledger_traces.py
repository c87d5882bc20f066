"""Where else the text of a row stands: other rows of the ledger, files of its run.

A text is usually asked more than once: with the examples in another order, as an example of other
prompts, once for each beginning of an answer. Whoever erases one row wants to know of the rest.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.records.run import RunPaths

if TYPE_CHECKING:
    from overproof.records.ledger import Entry

__all__ = ["files_holding", "rows_holding", "texts_of"]

# A shorter text is part of too many others; it counts where it is a whole line.
SHORTEST_PART = 12
TEXT_FILES = frozenset({".jsonl", ".json", ".md", ".html", ".csv", ".tsv", ".txt", ".log"})


def texts_of(rows: Iterable[Entry], run: Path) -> list[str]:
    """The input texts of rows: their last user message, and the input that it was made from.

    Args:
        rows: rows before they are erased.
        run: the ledger's directory; its dataset, if there is one, says which input was asked by
            which request.
    """
    rows = list(rows)
    keys = {row.key for row in rows if row.key}
    found = [said for row in rows if (said := _last_user_message(row))]
    found += [
        said
        for file in _tables(run)
        for row in _table(file)
        if keys.intersection(row.get("request_keys") or ())
        for said in _asked(row)
    ]
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))


def rows_holding(entries: Iterable[Entry], texts: list[str]) -> list[int]:
    """Seqs of the rows that hold any of the texts: in a message, an answer, or a note."""
    patterns = [_pattern(text) for text in texts]
    return [
        entry.seq
        for entry in entries
        if any(pattern.search(said) for said in _sayings(entry) for pattern in patterns)
    ]


def files_holding(run: Path, texts: list[str]) -> list[str]:
    """Files of the run at ``run``, besides the ledger, that hold any of the texts.

    A line of ``failed.jsonl`` counts also where its input is a part of a text: prompts are made
    of inputs.

    Returns:
        Paths relative to ``run``; none where ``run`` is no run's directory.
    """
    paths = RunPaths(run)
    if not texts or not any(p.exists() for p in (paths.resolved, paths.dataset, paths.failed)):
        return []
    patterns = [_pattern(text) for text in texts]
    found = [
        file
        for file in _tables(run)
        if any(p.search(v) for row in _table(file) for v in _strings(row) for p in patterns)
    ]
    forms = {form for text in texts for form in _forms(text)}
    others = [f for f in run.rglob("*") if f.suffix in TEXT_FILES and f.is_file()]
    for file in others:
        content = file.read_text(encoding="utf-8", errors="replace")
        if any(_pattern(form).search(content) for form in forms) or (
            file == paths.failed and _fails(content, texts)
        ):
            found.append(file)
    return sorted(file.relative_to(run).as_posix() for file in found)


def _asked(row: dict[str, Any]) -> list[str]:
    """The input of a dataset's row: a text, or what the user says in a chat."""
    if "text" in row:
        return [row["text"]]
    return [m["content"] for m in row.get("messages") or () if m["role"] == "user"]


def _last_user_message(row: Entry) -> str | None:
    messages = row.exchange.request.messages if row.exchange else ()
    return next((m.content for m in reversed(messages) if m.role == "user"), None)


def _sayings(entry: Entry) -> Iterator[str]:
    if entry.exchange is None:
        if entry.content is not None:
            yield from _strings(entry.content)
        return
    yield from (message.content for message in entry.exchange.request.messages)
    yield entry.exchange.completion.text
    yield entry.exchange.completion.error or ""


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _pattern(text: str) -> re.Pattern[str]:
    """Finds a text between other words, a short one only as a whole line."""
    words = r"\s+".join(map(re.escape, text.split()))
    if len(text) < SHORTEST_PART:
        return re.compile(rf"^[^\S\n]*{words}[^\S\n]*$", re.MULTILINE)
    return re.compile(rf"(?<!\w){words}(?!\w)")


def _forms(text: str) -> set[str]:
    """A text as it stands in plain files, in JSON and in HTML."""
    escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return {text, *escaped, html.escape(text), html.escape(text, quote=False)}


def _tables(run: Path) -> list[Path]:
    return sorted(RunPaths(run).dataset.rglob("*.parquet"))


def _table(file: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    columns = ("text", "messages", "request_keys")
    wanted = [name for name in columns if name in table.column_names]
    rows: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return rows


def _fails(content: str, texts: list[str]) -> bool:
    for line in content.splitlines():
        try:
            said = str(json.loads(line)["text"]).strip()
        except (ValueError, KeyError, TypeError):
            continue  # not a line that collecting wrote; the plain search has read it
        if said and any(_pattern(said).search(text) for text in texts):
            return True
    return False
