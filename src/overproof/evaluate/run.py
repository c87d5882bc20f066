"""Certifying a run directory: everything is read from disk, measured once, and written down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np

from overproof.config.load import LoadedRecipe
from overproof.errors import RunError
from overproof.evaluate.certify import Prediction, build_certificate
from overproof.evaluate.leaks import check_leaks
from overproof.evaluate.looks import CHAINED, Look, log_look, note_verdict
from overproof.evaluate.speed import measure_speed
from overproof.evaluate.student import Student
from overproof.records.certificate import Certificate, CostLine, Speed
from overproof.records.dataset import DatasetManifest, LabelRow, read_gold, read_split
from overproof.records.exchange import Exchange
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths
from overproof.records.student import StudentCard

__all__ = ["certify_run"]

STUDENTS = ("encoder", "probe")
PAUSE_S = 5.0


def certify_run(loaded: LoadedRecipe, *, now: str, say: Callable[[str], None]) -> Certificate:
    """Check for leaks, let every student answer the test pool, and build the certificate.

    Raises:
        RunError: nothing was collected under this recipe, or no student is finished.
        LeakError: see ``check_leaks``.
    """
    paths = RunPaths(loaded.run_dir)
    manifest = DatasetManifest.load(paths.dataset)
    paths.check_dataset(manifest, loaded.sha256)
    splits = {name: read_split(paths.dataset, name) for name in ("train", "tune", "examples")}
    test = read_split(paths.dataset, "test")
    say(f"checking {len(test):,} test inputs for leaks")
    # Before anything is measured: a refused test set has not been looked at.
    check_leaks(test, splits, manifest.near_duplicate_threshold)
    cards, predictions, speeds = _measure(paths, [row.text for row in test], say)
    with Ledger.open(paths.ledger) as ledger:
        costs = [*ledger.costs(), *_training_costs(cards)]
        teacher_speed = _teacher_speed(ledger, test)
    looks = _look(paths, now)
    certificate = build_certificate(
        recipe=loaded.recipe,
        manifest=manifest,
        test=test,
        gold=read_gold(paths.dataset),
        predictions=predictions,
        cards=cards,
        train=splits["train"],
        tune=splits["tune"],
        examples=splits["examples"],
        speeds=speeds,
        costs=costs,
        looks=looks,
        teacher_speed=teacher_speed,
        now=now,
        recipe_file=loaded.path.name if loaded.path.is_absolute() else str(loaded.path),
    )
    note_verdict(paths.looks, certificate.verdict)
    return certificate


def _look(paths: RunPaths, now: str) -> list[Look]:
    """Log this look in the run and chain it into the ledger; all looks, those of both."""
    with Ledger.open(paths.ledger, write=True) as ledger:
        looks = log_look(
            paths.looks,
            now=now,
            dataset=paths.dataset,
            students=paths.students,
            chained=list(ledger.notes("look")),
        )
        ledger.note("look", {name: looks[-1][name] for name in CHAINED})
    return looks


def _measure(
    paths: RunPaths, texts: list[str], say: Callable[[str], None]
) -> tuple[dict[str, StudentCard], dict[str, Prediction], dict[str, Speed]]:
    cards: dict[str, StudentCard] = {}
    predictions: dict[str, Prediction] = {}
    speeds: dict[str, Speed] = {}
    for name in STUDENTS:
        directory = paths.students / name
        if not (directory / "student.json").exists():
            continue
        say(f"measuring student {name}")
        student = Student.load(directory)
        cards[name] = StudentCard.load(directory)
        predictions[name] = Prediction(np.asarray(student.predict_proba(texts)))
        speeds[name] = measure_speed(student, texts)
    if not cards:
        raise RunError(str(paths.students), "holds no finished student", "run `overproof train`")
    return cards, predictions, speeds


def _training_costs(cards: dict[str, StudentCard]) -> list[CostLine]:
    """Machine time of the students; the certificate prices it as it does the teacher's."""
    return [
        CostLine(what=f"training the {name} student", seconds=card.train_seconds)
        for name, card in cards.items()
    ]


def _teacher_speed(ledger: Ledger, test: list[LabelRow]) -> Speed:
    """Latency and rate of the teacher, from the ledger's record of the test requests."""
    keys = {key for row in test for key in row.request_keys}
    asked = [e for e in ledger.exchanges() if e.request.key in keys and e.source == "collected"]
    if len(asked) < 2:
        return Speed(how="not measured: the answers were imported")
    latencies = np.array([exchange.completion.latency_s for exchange in asked])
    gaps = np.diff(sorted(_seconds(exchange) for exchange in asked))
    busy = float(gaps[gaps <= PAUSE_S].sum())
    per_input = len(keys) / len(test)
    return Speed(
        requests_per_second=float((gaps <= PAUSE_S).sum()) / busy / per_input if busy else None,
        latency_p50_s=float(np.quantile(latencies, 0.5)),
        latency_p95_s=float(np.quantile(latencies, 0.95)),
        n=len(asked),
        how=f"from the ledger while collecting, pauses over {PAUSE_S:g} s left out",
    )


def _seconds(exchange: Exchange) -> float:
    return datetime.fromisoformat(exchange.created_at).timestamp()
