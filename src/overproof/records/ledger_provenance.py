"""How much of a ledger, a dataset or a student came from which teacher under which terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from overproof.errors import RunError
from overproof.records.exchange import Exchange, Outcome, Record
from overproof.records.hashing import content_hash
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths
from overproof.records.student import StudentCard

__all__ = ["Provenance", "ProvenanceLine", "provenance_of"]

NOWHERE = "not in the ledger"


class ProvenanceLine(Record):
    """What came from one teacher under one licence and terms, collected or imported.

    ``rows`` are answered rows: of the training split where there is a dataset, else answers.
    ``answer_tokens`` are those of the answers. ``usd`` is the sum of the known costs,
    ``unpriced_calls`` have none; ``uncertain_usd`` is what ``uncertain_calls`` may have cost beyond
    it. Shares are of the whole; ``None`` where the whole is nothing.
    """

    teacher: str
    model: str
    licence: str
    terms: str
    imported: bool
    calls: int = 0
    rows: int = 0
    answer_tokens: int = 0
    usd: float = 0.0
    unpriced_calls: int = 0
    uncertain_usd: float = 0.0
    uncertain_calls: int = 0
    share_of_calls: float | None = None
    share_of_rows: float | None = None
    share_of_tokens: float | None = None
    share_of_usd: float | None = None


class Provenance(Record):
    """The lines, the rights that were attested, and the versions of the terms that were read.

    ``of`` says what: every exchange of a ledger, or those behind the training rows of a dataset or
    a student. ``origins`` counts training prompts by where they came from.
    """

    of: Literal["ledger", "dataset", "student"]
    name: str
    lines: tuple[ProvenanceLine, ...]
    attestations: tuple[dict[str, Any], ...] = ()
    terms_versions: tuple[str, ...] = ()
    origins: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Source(NamedTuple):
    teacher: str
    model: str
    licence: str
    terms: str
    imported: bool

    @classmethod
    def of(cls, exchange: Exchange) -> _Source:
        imported = exchange.source.startswith("imported:")
        return cls(
            exchange.teacher, exchange.request.model, exchange.licence, exchange.terms, imported
        )


@dataclass
class _Tally:
    figures: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0
    uncertain: float = 0.0

    def take(self, exchange: Exchange) -> None:
        completion = exchange.completion
        self.figures["calls"] += 1
        self.figures["answer_tokens"] += completion.usage.output_tokens if completion.usage else 0
        self.figures["unpriced_calls"] += exchange.cost_usd is None
        self.figures["uncertain_calls"] += completion.uncertain_attempts > 0
        self.usd += exchange.cost_usd or 0.0
        self.uncertain += exchange.uncertain_usd


def provenance_of(path: Path) -> Provenance:
    """The provenance of a student directory, of a run's frozen dataset, or of a ledger.

    Raises:
        RunError: the dataset or the student cannot be read, or the student's run is not beside it.
        LedgerError: the ledger cannot be read.
        StudentError: the student's card cannot be read.
    """
    if (path / "student.json").exists():
        return _of_student(path)
    if path.is_dir() and (RunPaths(path).dataset / "manifest.json").exists():
        return _of_dataset(path, "dataset", str(RunPaths(path).dataset), ())
    file = RunPaths(path).ledger if path.is_dir() else path
    with Ledger.open(file) as ledger:
        tallies: dict[_Source, _Tally] = {}
        for exchange in ledger.exchanges():
            tally = tallies.setdefault(_Source.of(exchange), _Tally())
            tally.take(exchange)
            tally.figures["rows"] += exchange.completion.outcome is Outcome.ANSWERED
        return Provenance(
            of="ledger", name=str(file), lines=_lines(tallies), **_what_was_said(ledger)
        )


def _of_student(path: Path) -> Provenance:
    card = StudentCard.load(path)
    run = path.resolve().parent.parent
    manifest = _manifest(run, f"student {card.name}")
    notes = []
    if card.dataset_sha256 != content_hash(manifest):
        notes.append(
            f"the dataset in {run} is not the one that the student was trained on "
            f"({card.dataset_sha256}): these are the figures of the dataset that is there"
        )
    return _of_dataset(run, "student", str(path), notes)


def _manifest(run: Path, whose: str) -> dict[str, Any]:
    from overproof.records.dataset import DatasetManifest

    if not (RunPaths(run).dataset / "manifest.json").exists():
        raise RunError(
            whose,
            f"its run is not there: {run} holds no frozen dataset",
            "name the student inside its run (RUN/students/NAME), or name the run's ledger",
        )
    return DatasetManifest.load(RunPaths(run).dataset).model_dump(mode="json")


def _of_dataset(
    run: Path, of: Literal["dataset", "student"], name: str, notes: Iterable[str]
) -> Provenance:
    tallies: dict[_Source, _Tally] = {}
    origins: Counter[str] = Counter()
    missing = 0
    with Ledger.open(RunPaths(run).ledger) as ledger:
        for row in _training_rows(RunPaths(run).dataset):
            if row.get("origin"):
                origins[_origin(row["origin"])] += 1
            found = [_exchange(ledger, key) for key in row.get("request_keys") or ()]
            exchanges = [exchange for exchange in found if exchange is not None]
            for exchange in exchanges:
                tallies.setdefault(_Source.of(exchange), _Tally()).take(exchange)
            # A row belongs to who answered it first, as the dataset's own count has it.
            source = _Source.of(exchanges[0]) if exchanges else _from_columns(row)
            tallies.setdefault(source, _Tally()).figures["rows"] += 1
            missing += not exchanges
        said = _what_was_said(ledger)
    lines = [*notes]
    if missing:
        lines.append(f"{missing} training rows have no answer in the ledger: erased, or made apart")
    return Provenance(
        of=of,
        name=name,
        lines=_lines(tallies),
        origins=dict(origins.most_common()),
        notes=tuple(lines),
        **said,
    )


def _training_rows(dataset: Path) -> Iterator[dict[str, Any]]:
    """Rows of the training split that carry an answer; only the columns that tell where from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = dataset / "train.parquet"
    wanted = ("outcome", "label", "request_keys", "teacher", "licence", "terms", "origin")
    try:
        file = pq.ParquetFile(path)
        names = [name for name in wanted if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=names):
            for row in batch.to_pylist():
                answered = row.get("outcome", "answered") == Outcome.ANSWERED
                if answered and (row.get("label") is not None or "label" not in row):
                    yield row
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            str(path),
            f"cannot be read: {error}",
            "restore it, or make the dataset again: the ledger has every answer",
        ) from error


def _exchange(ledger: Ledger, key: str) -> Exchange | None:
    if (exchange := ledger.lookup(key)) is not None:
        return exchange
    recorded = [entry.exchange for entry in ledger.recorded(key) if entry.exchange is not None]
    return recorded[-1] if recorded else None


def _from_columns(row: Mapping[str, Any]) -> _Source:
    said = [row.get(name) or "unknown" for name in ("licence", "terms")]
    return _Source(row.get("teacher") or NOWHERE, "", said[0], said[1], False)


def _origin(origin: Mapping[str, Any]) -> str:
    wrote = origin.get("teacher")
    return f"{origin.get('kind')}, written by {wrote}" if wrote else str(origin.get("kind"))


def _what_was_said(ledger: Ledger) -> dict[str, Any]:
    """Attestations and versions of terms, as they were noted."""
    attested = [
        {key: value for key, value in note.items() if key != "note"}
        for note in ledger.notes("attestation")
    ]
    versions = [str(note.get("terms_version", "")) for note in ledger.notes("terms")]
    return {
        "attestations": tuple(attested),
        "terms_versions": tuple(dict.fromkeys(version for version in versions if version)),
    }


def _lines(tallies: Mapping[_Source, _Tally]) -> tuple[ProvenanceLine, ...]:
    whole = Counter[str]()
    for tally in tallies.values():
        whole.update(tally.figures)
    money = sum(tally.usd for tally in tallies.values())

    def share(part: float, of: float) -> float | None:
        return part / of if of else None

    lines = [
        ProvenanceLine(
            **source._asdict(),
            **{name: tally.figures[name] for name in ("calls", "rows", "answer_tokens",
                                                      "unpriced_calls", "uncertain_calls")},
            usd=tally.usd,
            uncertain_usd=tally.uncertain,
            share_of_calls=share(tally.figures["calls"], whole["calls"]),
            share_of_rows=share(tally.figures["rows"], whole["rows"]),
            share_of_tokens=share(tally.figures["answer_tokens"], whole["answer_tokens"]),
            share_of_usd=share(tally.usd, money),
        )
        for source, tally in tallies.items()
    ]  # fmt: skip
    return tuple(sorted(lines, key=lambda line: (line.imported, -line.rows, line.teacher)))
