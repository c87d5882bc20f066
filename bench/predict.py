"""How fast `overproof predict` labels texts: batches sorted by length against two plain ways.

    python bench/predict.py [STUDENT] [--texts FILE] [--quick] [--json]

The peers, on the same texts, in the same run: the student one text at a time, and ONNX Runtime
with its defaults on batches in file order, padded to the longest text in each. The three take
turns, and the best round of each counts, so that a busy moment hurts none of them alone. Without
a STUDENT it is the tiny one, which shows the cost of everything around the model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from overproof.evaluate.predict import USUAL_INPUTS
from overproof.evaluate.student import Student, find_student
from overproof.records.tables import read_table
from tiny_student import FILLER, WORDS, build_tiny_student

BATCH = 64
# Sorting costs next to nothing and saves padding, so it may not lose to plain batches. One by one
# pads nothing either: on an encoder that keeps every core busy with one text the two are equal,
# and 5 % is left to the noise of the machine.
TARGETS = {"one by one": 0.95, "plain padded batches": 1.0}


def made_up_texts(n: int, seed: int = 0) -> list[str]:
    """Texts of log-normal lengths around 18 words, as reviews and questions have."""
    rng = np.random.default_rng(seed)
    words = [*sum(WORDS, ()), *FILLER]
    lengths = np.clip(rng.lognormal(2.9, 0.7, n), 1, 400).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def plain_batches(directory: Path, student: Student) -> Callable[[list[str]], np.ndarray]:
    """ONNX Runtime as its own examples use it: file order, dynamic padding by the tokenizer."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(student.card.max_length)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(
        str(directory / "model.onnx"), providers=["CPUExecutionProvider"]
    )

    def logits(texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), BATCH):
            encodings = tokenizer.encode_batch(texts[start : start + BATCH])
            feed = {
                "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
                "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
            }
            parts.append(session.run(["logits"], feed)[0])
        return np.concatenate(parts)

    return logits


def measure(student: Student, directory: Path, texts: list[str], rounds: int) -> dict[str, float]:
    """Texts a second of each way, the best of ``rounds``; all three must agree on every text."""
    raw = plain_batches(directory, student)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "sorted batches": lambda: student.predict_proba(texts, BATCH),
        "one by one": lambda: np.concatenate([student.predict_proba([t], 1) for t in texts]),
        "plain padded batches": lambda: np.exp(student.log_probabilities(raw(texts))),
    }
    best = dict.fromkeys(ways, 0.0)
    answers: dict[str, np.ndarray] = {}
    student.predict_proba(texts[:BATCH], BATCH)
    raw(texts[:BATCH])
    for turn in range(rounds):
        # Reversed every other round: a runtime's threads spin for a while after it has answered.
        for name, way in list(ways.items())[:: 1 if turn % 2 == 0 else -1]:
            time.sleep(0.05)
            start = time.perf_counter()
            answers[name] = way()
            best[name] = max(best[name], len(texts) / (time.perf_counter() - start))
    for name, probabilities in answers.items():
        np.testing.assert_allclose(
            probabilities, answers["sorted batches"], atol=1e-4, err_msg=name
        )
    return best


def rows_of(best: dict[str, float]) -> list[dict[str, Any]]:
    ours = best["sorted batches"]
    rows: list[dict[str, Any]] = [
        {
            "metric": "predict_proba, sorted batches",
            "value": ours,
            "target": None,
            "unit": "texts/s",
            "met": None,
            "peer": None,
            "why": "depends on the student and the machine; the speed-ups below are the targets",
        }
    ]
    for name, target in TARGETS.items():
        rows.append(
            {
                "metric": f"speed-up over {name}",
                "value": ours / best[name],
                "target": target,
                "unit": "x",
                "met": ours / best[name] >= target,
                "peer": {"name": name, "value": best[name], "unit": "texts/s"},
            }
        )
    return rows


def read_texts(file: Path) -> list[str]:
    rows = read_table(file)
    column = next((name for name in USUAL_INPUTS if name in rows[0]), next(iter(rows[0])))
    return [row[column] for row in rows if row[column].strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", nargs="?", type=Path, help="a student or run directory")
    parser.add_argument("--texts", type=Path, help="a table with a column text, input or prompt")
    parser.add_argument("--quick", action="store_true", help="a fraction of the texts and rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = (
            find_student(options.student)
            if options.student
            else build_tiny_student(Path(scratch) / "tiny")
        )
        student = Student.load(directory)
        n = 256 if options.quick else 1024
        texts = (read_texts(options.texts) if options.texts else made_up_texts(n))[:n]
        best = measure(student, directory, texts, rounds=2 if options.quick else 5)
    result = {
        "bench": "predict",
        "machine": (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"{student.threads} threads"
        ),
        "student": student.card.name,
        "n_texts": len(texts),
        "rows": rows_of(best),
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['student']} on {result['machine']}, {len(texts)} texts")
    for row in result["rows"]:
        peer = f"  ({row['peer']['value']:,.0f} texts/s)" if row["peer"] else ""
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        print(f"  {row['metric']:<40} {row['value']:>10,.2f} {row['unit']:<8}{met}{peer}")


if __name__ == "__main__":
    main()
