"""Existing teacher logs become exchanges of a ledger, with their provenance."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from overproof.errors import DataError
from overproof.records.exchange import Exchange, Record, Request
from overproof.records.hashing import file_sha256
from overproof.records.ledger import HITS, Ledger
from overproof.records.log_answers import (
    EXPECTED,
    Answer,
    BadRow,
    LogFormat,
    Reading,
    read_answers,
)

__all__ = ["ImportReport", "LogFormat", "import_logs"]

# Of a completion, what the teacher said; the rest is how it came to us.
SAID = {
    "error",
    "finish_reason",
    "logprobs",
    "model",
    "outcome",
    "prompt_logprobs",
    "reasoning",
    "system_fingerprint",
    "text",
    "tool_calls",
    "usage",
}
SHOWN = 3


class ImportReport(Record):
    """What became of a log.

    ``rows`` counts the rows read. ``imported`` counts the exchanges written and ``duplicates``
    those that were in the ledger already or carried the id of an earlier answer; a row with
    several choices is several exchanges. ``malformed`` has a line ``FILE:LINE: reason`` each.
    """

    file: str
    sha256: str
    rows: int
    imported: int
    duplicates: int
    malformed: tuple[str, ...] = ()


def import_logs(
    path: Path,
    ledger: Ledger,
    *,
    teacher: str,
    model: str | None = None,
    licence: str = "unknown",
    terms: str = "unknown",
    format: LogFormat = "auto",  # noqa: A002 - the command's own word
    input_column: str = "text",
    label_column: str = "label",
    encoding: str = "utf-8",
    strict: bool = False,
) -> ImportReport:
    """Import a log file into a ledger that is open for writing.

    A request that comes again is a further sample of it, unless its answer has the id of an
    earlier one. Importing a file again adds nothing.

    Args:
        path: JSONL, CSV, TSV or Parquet; text may be gzipped.
        ledger: open for writing.
        teacher: who answered, as provenance shall name it.
        model: for rows that do not say which model answered.
        licence: of the teacher's outputs.
        terms: what the teacher's terms say of training on them.
        format: ``auto`` goes by the file's ending and the fields of each row.
        input_column: of CSV and TSV.
        label_column: of CSV and TSV.
        encoding: of the text formats.
        strict: raise at the first bad row, before anything is imported.

    Raises:
        DataError: the file cannot be read, or has no row that can be imported, or (``strict``)
            has one that cannot.
        LedgerError: the ledger cannot be written; what was committed stays, and importing the
            file again goes on from there.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "there is no such file"
        raise DataError(str(path), reason, "name a log file")
    reading = Reading(format, model, input_column, label_column, encoding)
    if strict:
        for item in read_answers(path, reading):
            if isinstance(item, BadRow):
                raise DataError(item.where, item.reason, "mend the row, or import without strict")
    digest = file_sha256(path)
    importer = _Importer(ledger, f"imported:{path.name}", teacher, licence, terms)
    malformed: list[str] = []
    rows = 0
    for item in read_answers(path, reading):
        if isinstance(item, BadRow):
            rows += not item.late
            malformed.append(f"{item.where}: {item.reason}")
            continue
        rows += 1
        for answer in item:
            importer.take(answer)
    importer.finish()
    if not importer.imported and not importer.duplicates:
        first = "; ".join(malformed[:SHOWN]) or "it has no rows"
        raise DataError(str(path), f"holds nothing that can be imported: {first}", EXPECTED)
    report = ImportReport(
        file=path.name,
        sha256=digest,
        rows=rows,
        imported=importer.imported,
        duplicates=importer.duplicates,
        malformed=tuple(malformed),
    )
    known = (note["sha256"] for note in ledger.notes("import"))
    if importer.imported or digest not in known:
        facts = report.model_dump(exclude={"malformed"})
        origin = {"teacher": teacher, "licence": licence, "terms": terms}
        ledger.note("import", {**facts, **origin, "malformed": len(malformed)})
    return report


class _Importer:
    """Numbers the samples of each request, skips what is there, and writes the rest."""

    def __init__(self, ledger: Ledger, source: str, teacher: str, licence: str, terms: str) -> None:
        self._ledger = ledger
        self._origin = {"source": source, "teacher": teacher, "licence": licence, "terms": terms}
        self._now = datetime.now(UTC).isoformat(timespec="seconds")
        self._next: dict[str, int] = {}
        self._taken: set[str] = set()
        self._ids: set[str] = set()
        self._waiting: deque[Future[int]] = deque()
        self.imported = 0
        self.duplicates = 0

    def take(self, answer: Answer) -> None:
        """Import one answer unless it is there."""
        if answer.answer_id is not None:
            if answer.answer_id in self._ids:
                self.duplicates += 1
                return
            self._ids.add(answer.answer_id)
        exchange = Exchange(
            request=answer.request,
            completion=answer.completion,
            created_at=answer.created_at or self._now,
            cost_usd=answer.cost_usd,
            uncertain_usd=answer.uncertain_usd,
            **self._origin,
        )
        said = self._ledger.redacted(exchange).completion.model_dump(include=SAID)
        if exchange.completion.outcome not in HITS:
            self._take_failure(exchange, said)
            return
        for sample in self._samples(answer):
            numbered = _numbered(exchange, sample)
            key = numbered.request.key
            if key in self._taken:
                continue
            there = [known for known in self._recorded(key) if known["outcome"] in HITS]
            if there and said not in there:
                continue  # another answer to the same request
            self._taken.add(key)
            if there:
                self.duplicates += 1
            else:
                self._submit(numbered)
            return

    def _take_failure(self, exchange: Exchange, said: dict[str, Any]) -> None:
        """A failure takes no sample number: the request may have been asked again."""
        key = exchange.request.key
        seen = f"{key} {said}"
        if seen in self._taken or said in self._recorded(key):
            self.duplicates += 1
        else:
            self._submit(exchange)
        self._taken.add(seen)

    def _recorded(self, key: str) -> list[dict[str, Any]]:
        entries = self._ledger.recorded(key)
        return [e.exchange.completion.model_dump(include=SAID) for e in entries if e.exchange]

    def finish(self) -> None:
        """Wait for the last commits."""
        while self._waiting:
            self._waiting.popleft().result()

    def _samples(self, answer: Answer) -> Iterator[int]:
        """Sample numbers to try: the log's own first, then the next ones free in this file."""
        if answer.sample is not None:
            yield answer.sample
        first = answer.request.model_dump_json(exclude={"sample"})
        while True:
            sample = self._next.get(first, 0)
            self._next[first] = sample + 1
            yield sample

    def _submit(self, exchange: Exchange) -> None:
        self.imported += 1
        self._waiting.append(self._ledger.submit(exchange))
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()


def _numbered(exchange: Exchange, sample: int) -> Exchange:
    request = exchange.request
    # Built anew: a copy would keep the key that is cached on the request.
    again = Request(
        model=request.model,
        messages=request.messages,
        parameters=request.parameters,
        sample=sample,
    )
    return exchange.model_copy(update={"request": again})
