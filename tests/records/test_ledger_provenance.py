"""What a ledger spent, and how much of it came from which teacher under which terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overproof.errors import RunError
from overproof.records.dataset import (
    DatasetManifest,
    LabelRow,
    TeacherCalibration,
    write_manifest,
    write_split,
)
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request, Usage
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.ledger import Ledger
from overproof.records.ledger_costs import total_cost
from overproof.records.ledger_provenance import Provenance, provenance_of
from overproof.records.student import StudentCard


def exchange(text: str, teacher: str = "a", **said: Any) -> Exchange:
    outcome = said.pop("outcome", Outcome.ANSWERED)
    usage = said.pop("usage", Usage(input_tokens=10, output_tokens=5))
    told = {key: said.pop(key) for key in ("batch", "uncertain_attempts") if key in said}
    facts: dict[str, Any] = {"licence": "MIT", "terms": "allowed by MIT", "cost_usd": 0.01}
    return Exchange(
        request=Request(model=f"model-{teacher}", messages=(Message(role="user", content=text),)),
        completion=Completion(outcome=outcome, text="yes", usage=usage, **told),
        teacher=teacher,
        created_at="2026-01-01T00:00:00Z",
        **facts | said,
    )


MIXED = [
    exchange("one"),
    exchange("two"),
    exchange("three", usage=Usage(input_tokens=10, output_tokens=15)),
    exchange("four", "b", licence="own", terms="attested: contract 7", cost_usd=0.07),
    exchange("five", outcome=Outcome.FAILED, usage=None, cost_usd=0.0, uncertain_usd=0.004,
             uncertain_attempts=3),
    exchange("six", "c", source="imported:log.jsonl", cost_usd=None, terms="allowed"),
]  # fmt: skip


def ledger_of(run: Path, exchanges: list[Exchange] = MIXED) -> Path:
    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        for each in exchanges:
            ledger.submit(each)
        ledger.note("attestation", {"teacher": "model-b", "attestation": "contract 7"})
        ledger.note("terms", {"teacher": "model-b", "terms_version": "2026-11-23 sha256:abc"})
        ledger.note("terms", {"teacher": "model-a", "terms_version": "2026-11-23 sha256:abc"})
    return run


def by_teacher(found: Provenance) -> dict[str, Any]:
    return {line.teacher: line for line in found.lines}


def test_costs_by_kind_of_token_and_what_is_uncertain(tmp_path: Path) -> None:
    used = Usage(
        input_tokens=100, output_tokens=40, cached_tokens=60, cache_write_tokens=7,
        reasoning_tokens=30,
    )  # fmt: skip
    answers = [exchange("a", usage=used, batch="batch_1"), exchange("b", usage=used), *MIXED]
    with Ledger.open(ledger_of(tmp_path, answers) / "ledger.sqlite") as ledger:
        lines = ledger.costs()
    total = total_cost(lines)
    assert (total.cached_tokens, total.cache_write_tokens, total.reasoning_tokens) == (120, 14, 60)
    assert total.batch_calls == 1
    assert (total.uncertain_usd, total.uncertain_calls) == (pytest.approx(0.004), 1)
    assert total.usd is None  # the imported answer has no price
    failed = next(line for line in lines if "failed" in line.what)
    assert (failed.usd, failed.uncertain_usd) == (0.0, pytest.approx(0.004))


def test_costs_of_a_ledger_from_before_these_figures(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        ledger.submit(exchange("old", usage=None))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        (line,) = ledger.costs()
    assert (line.cached_tokens, line.uncertain_usd, line.batch_calls) == (0, 0.0, 0)


def test_a_ledger(tmp_path: Path) -> None:
    found = provenance_of(ledger_of(tmp_path))
    assert found.of == "ledger"
    lines = by_teacher(found)
    assert [line.teacher for line in found.lines] == ["a", "b", "c"]  # imported ones apart, last
    a, b, c = lines["a"], lines["b"], lines["c"]
    assert (a.calls, a.rows, a.answer_tokens, a.imported) == (4, 3, 25, False)
    assert (a.usd, a.uncertain_usd, a.uncertain_calls) == (pytest.approx(0.03), 0.004, 1)
    assert (b.terms, b.licence) == ("attested: contract 7", "own")
    assert (c.imported, c.unpriced_calls) == (True, 1)
    assert a.share_of_calls == pytest.approx(4 / 6)
    assert a.share_of_rows == pytest.approx(3 / 5)
    assert a.share_of_tokens == pytest.approx(25 / 35)
    assert b.share_of_usd == pytest.approx(0.07 / 0.10)
    for share in ("share_of_calls", "share_of_rows", "share_of_tokens", "share_of_usd"):
        assert sum(getattr(line, share) for line in found.lines) == pytest.approx(1)
    assert found.terms_versions == ("2026-11-23 sha256:abc",)
    assert [note["attestation"] for note in found.attestations] == ["contract 7"]
    assert provenance_of(tmp_path / "ledger.sqlite") == found


def test_an_empty_ledger(tmp_path: Path) -> None:
    found = provenance_of(ledger_of(tmp_path, []))
    assert found.lines == ()
    one = provenance_of(ledger_of(tmp_path / "free", [exchange("x", cost_usd=0.0)]))
    assert one.lines[0].share_of_usd is None  # a share of nothing is not 0 and not 1


def frozen(run: Path, keys: list[tuple[str, ...]], label: str | None = "yes") -> DatasetManifest:
    dataset = run / "dataset"
    dataset.mkdir()
    rows = [
        LabelRow(item=str(i), text=f"t{i}", outcome=Outcome.ANSWERED, label=label, request_keys=k)
        for i, k in enumerate(keys)
    ]
    rows.append(LabelRow(item="bad", text="bad", outcome=Outcome.MALFORMED,
                         request_keys=(MIXED[4].request.key,)))  # fmt: skip
    write_split(dataset, "train", rows)
    manifest = DatasetManifest(
        labels=("yes", "no"), input_file="d.csv", input_sha256="x", recipe_sha256="y",
        counts={"train": len(rows)}, outcomes={}, exact_duplicates=0, near_duplicates=0,
        near_duplicate_threshold=0.8, signal="votes", rendering="words", second_asking="none",
        calibration=TeacherCalibration(bias=(0.0, 0.0)),
        files={"train.parquet": file_sha256(dataset / "train.parquet")},
    )  # fmt: skip
    write_manifest(dataset, manifest)
    return manifest


def keys(*numbers: int) -> tuple[str, ...]:
    return tuple(MIXED[n].request.key for n in numbers)


def test_a_dataset_counts_what_stands_behind_its_training_rows(tmp_path: Path) -> None:
    run = ledger_of(tmp_path)
    frozen(run, [keys(0, 1), keys(3), keys(5)])
    found = provenance_of(run)
    assert found.of == "dataset"
    lines = by_teacher(found)
    assert (lines["a"].rows, lines["a"].calls, lines["a"].answer_tokens) == (1, 2, 10)
    assert lines["b"].share_of_rows == pytest.approx(1 / 3)
    assert lines["c"].imported
    assert found.notes == ()


def test_rows_that_the_ledger_does_not_know_are_counted_and_said(tmp_path: Path) -> None:
    run = ledger_of(tmp_path)
    frozen(run, [keys(0), (exchange("never asked").request.key,)])
    found = provenance_of(run)
    assert by_teacher(found)["not in the ledger"].rows == 1
    assert "1 training rows have no answer in the ledger" in found.notes[0]


def test_a_dataset_of_chats_tells_who_wrote_its_prompts(tmp_path: Path) -> None:
    run = ledger_of(tmp_path)
    (run / "dataset").mkdir()
    rows = [
        {"outcome": "answered", "request_keys": list(keys(0)), "teacher": "a", "licence": "MIT",
         "terms": "allowed", "origin": {"kind": "file", "source": "p.jsonl: row 1"}},
        {"outcome": "answered", "request_keys": [], "teacher": "d", "licence": "own",
         "terms": "attested: ours", "origin": {"kind": "paraphrase", "teacher": "a"}},
        {"outcome": "truncated", "request_keys": list(keys(1)), "teacher": "a"},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), run / "dataset" / "train.parquet")
    (run / "dataset" / "manifest.json").write_text("{}")
    found = provenance_of(run)
    assert found.origins == {"file": 1, "paraphrase, written by a": 1}
    assert by_teacher(found)["a"].rows == 1
    assert by_teacher(found)["d"].terms == "attested: ours"  # the row's own columns speak


def test_a_student_has_the_provenance_of_its_dataset(tmp_path: Path) -> None:
    run = ledger_of(tmp_path)
    manifest = frozen(run, [keys(0), keys(3)])
    home = run / "students" / "probe"
    home.mkdir(parents=True)
    card = StudentCard(
        name="probe", kind="probe", base="b", base_licence="MIT", labels=("yes", "no"),
        temperature=1.0, max_length=64, parameters=10, n_train=2, n_tune=1, train_seconds=0.1,
        seed=0, dataset_sha256=content_hash(manifest.model_dump(mode="json")),
        onnx_max_difference=0.0, tune_agreement=1.0, tune_loss=0.1,
    )  # fmt: skip
    card.save(home)
    found = provenance_of(home)
    assert (found.of, found.notes) == ("student", ())
    assert found.lines == provenance_of(run).lines
    card.model_copy(update={"dataset_sha256": "sha256:other"}).save(home)
    assert "is not the one that the student was trained on" in provenance_of(home).notes[0]


def test_a_student_without_its_run_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "alone" / "students" / "probe"
    home.mkdir(parents=True)
    (home / "student.json").write_text("{}")
    with pytest.raises(Exception, match="is not a student card"):
        provenance_of(home)
    card = {
        "name": "probe", "kind": "probe", "base": "b", "base_licence": "MIT", "labels": ["a"],
        "temperature": 1, "max_length": 1, "parameters": 1, "n_train": 1, "n_tune": 1,
        "train_seconds": 0, "seed": 0, "dataset_sha256": "x", "onnx_max_difference": 0,
        "tune_agreement": 1, "tune_loss": 0,
    }  # fmt: skip
    (home / "student.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match="its run is not there"):
        provenance_of(home)


def test_a_damaged_dataset_is_an_error(tmp_path: Path) -> None:
    run = ledger_of(tmp_path)
    frozen(run, [keys(0)])
    (run / "dataset" / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RunError, match="cannot be read"):
        provenance_of(run)
