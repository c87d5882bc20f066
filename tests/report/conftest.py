"""A synthetic certificate whose figures hang together: simulated answers, then counted."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from overproof.records.certificate import (
    Candidate,
    Certificate,
    Comparison,
    CostLine,
    Interval,
    Power,
    ReliabilityBin,
    SliceScore,
    Speed,
)
from overproof.records.student import LearningPoint

LABELS = ("abbreviation", "definition", "thing", "person", "place", "number")
WEIGHTS = (9, 138, 94, 65, 81, 113)
N = 500
LENGTHS = ("12 to 38 characters", "39 to 58 characters", "59 characters and more")
TEACHER, RAW = "teacher", "teacher, raw"
AGREEMENT = "agreement with the teacher"


def wilson(k: int, n: int, z: float = 1.96) -> Interval:
    p, d = k / n, 1 + z * z / n
    mid = (p + z * z / (2 * n)) / d
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return Interval(
        estimate=p, low=max(mid - half, 0), high=min(mid + half, 1), method="Wilson", n=n
    )


def around(x: float, half: float, n: int = N, confidence: float = 0.95) -> Interval:
    return Interval(
        estimate=x,
        low=x - half,
        high=x + half,
        confidence=confidence,
        method="paired bootstrap",
        n=n,
    )


class World:
    """Simulated gold, answers and confidences on 500 questions."""

    def __init__(
        self, labels: tuple[str, ...] = LABELS, encoder: float = 0.74, seed: int = 3
    ) -> None:
        rng = random.Random(seed)
        weights = WEIGHTS if labels == LABELS else [1] * len(labels)
        self.labels = labels
        self.gold = rng.choices(labels, weights, k=N)
        self.length = rng.choices(LENGTHS, (3, 5, 2), k=N)
        self.answers: dict[str, list[str | None]] = {"teacher": [], "encoder": [], "probe": []}
        for gold in self.gold:
            hard = rng.random() < 0.3
            for name, skill in (("teacher", 0.63), ("encoder", encoder), ("probe", 0.60)):
                right = rng.random() < skill - (0.35 if hard else -0.12)
                near = labels[(labels.index(gold) + 1) % len(labels)]
                wrong = near if rng.random() < 0.4 else rng.choice(labels)
                copied = name != "teacher" and rng.random() < 0.35
                own = gold if right else wrong
                self.answers[name].append(self.answers["teacher"][-1] if copied else own)
        for index in rng.sample(range(N), 7):
            self.answers["teacher"][index] = None
        self.answers[RAW] = [
            labels[0] if answer != gold and rng.random() < 0.5 else answer
            for answer, gold in zip(self.answers[TEACHER], self.gold, strict=True)
        ]
        self.answers["majority"] = [max(labels, key=self.gold.count)] * N
        self.sure = {
            name: [
                min(0.99, max(0.17, rng.gauss(0.72 if a == g else 0.5, 0.17)))
                for a, g in zip(answers, self.gold, strict=True)
            ]
            for name, answers in self.answers.items()
        }

    def right(self, name: str) -> list[bool]:
        return [a == g for a, g in zip(self.answers[name], self.gold, strict=True)]

    def bins(self, name: str) -> tuple[ReliabilityBin, ...]:
        out = []
        for b in range(10):
            low, high = b / 10, (b + 1) / 10
            inside = [i for i, s in enumerate(self.sure[name]) if low < s <= high]
            hits = sum(self.right(name)[i] for i in inside)
            mean = sum(self.sure[name][i] for i in inside) / max(len(inside), 1)
            accuracy = wilson(hits, len(inside)) if inside else None
            out.append(
                ReliabilityBin(
                    low=low, high=high, n=len(inside), confidence=mean, accuracy=accuracy
                )
            )
        return tuple(out)

    def slices(self, name: str) -> tuple[SliceScore, ...]:
        out = []
        for by, values, column in (
            ("label", self.labels, self.gold),
            ("length", LENGTHS, self.length),
        ):
            for value in values:
                inside = [r for r, v in zip(self.right(name), column, strict=True) if v == value]
                if inside:
                    score = wilson(sum(inside), len(inside))
                    out.append(SliceScore(by=by, value=value, accuracy=score))
        return tuple(out)

    def confusion(self, name: str) -> tuple[tuple[int, ...], ...]:
        columns = (*self.labels, None)
        counts = Counter(zip(self.gold, self.answers[name], strict=True))
        return tuple(tuple(counts[row, column] for column in columns) for row in self.labels)

    def candidate(self, name: str, gold: bool, **fields: Any) -> Candidate:
        right = self.right(name)
        pairs = [
            (a, t)
            for a, t in zip(self.answers[name], self.answers["teacher"], strict=True)
            if t is not None
        ]
        same = wilson(sum(a == t for a, t in pairs), len(pairs))
        return Candidate(
            name=name,
            accuracy=wilson(sum(right), N) if gold else None,
            macro_f1=around(sum(right) / N - 0.031, 0.046) if gold else None,
            agreement=None if name == "teacher" else same,
            invalid_share=wilson(sum(a is None for a in self.answers[name]), N),
            ece=around(0.061, 0.024) if gold and name != "majority" else None,
            reliability=self.bins(name) if gold and name != "majority" else (),
            slices=self.slices(name) if gold else (),
            confusion=self.confusion(name) if gold or name not in (TEACHER, RAW) else (),
            **fields,
        )

    def comparison(self, first: str, second: str, verdict: str) -> Comparison:
        a, b = self.right(first), self.right(second)
        only_a = sum(x and not y for x, y in zip(a, b, strict=True))
        only_b = sum(y and not x for x, y in zip(a, b, strict=True))
        diff = (only_a - only_b) / N
        half = 1.645 * math.sqrt((only_a + only_b) / N - diff**2) / math.sqrt(N)
        return Comparison(
            first=first,
            second=second,
            metric="accuracy",
            difference=around(diff, half, confidence=0.9),
            only_first_right=only_a,
            only_second_right=only_b,
            margin=0.05,
            alpha=0.05,
            p_value={"non-inferior": 0.0132, "inferior": 0.99999}.get(verdict, 0.21),
            verdict=verdict,  # type: ignore[arg-type]
        )


PROVENANCE: dict[str, Any] = {
    "teacher": {
        "name": "SmolLM2-135M-Instruct",
        "kind": "embedded",
        "licence": "Apache-2.0",
        "training": "allowed",
        "attestation": "",
        "quantisation": "Q4_1",
        "sha256": "6d3c1f2f9e9c" * 5 + "abcd",
    },
    "shares": {"embedded:SmolLM2-135M-Instruct": 1.0},
    "calibration": {
        "method": "uniform prior, temperature",
        "temperature": 1.37,
        "bias": [0.12, -0.4, 0.03, 0.2, -0.07, 0.11],
        "fitted_on": "training inputs",
        "n": 700,
    },
    "students": {
        "encoder": {"base": "all-MiniLM-L6-v2", "base_licence": "Apache-2.0"},
        "probe": {"base": "all-MiniLM-L6-v2", "base_licence": "Apache-2.0"},
    },
    "dataset_sha256": "f00d" * 16,
    "recipe_sha256": "beef" * 16,
    "input_file": "questions.csv",
    "near_duplicates_removed": 41,
    "decontaminated": True,
}


world_of = cache(World)


@cache
def _teachers(world: World, gold: bool) -> tuple[Candidate, ...]:
    speed = Speed(
        requests_per_second=4.8,
        latency_p50_s=0.39,
        latency_p95_s=0.61,
        n=500,
        how="from the ledger while collecting, pauses over 5 s left out",
    )
    model = "SmolLM2-135M-Instruct, log-probs of letters"
    return tuple(
        world.candidate(
            name,
            gold,
            role="teacher",
            description=f"{model}; {how}",
            speed=speed,
            cost_basis="price of the machine unknown",
        )
        for name, how in (
            (TEACHER, "calibrated on training inputs: prior and temperature"),
            (RAW, "as it answered"),
        )
    )


@cache
def _students(world: World, gold: bool, priced: bool) -> tuple[Candidate, ...]:
    curve = [(175, 0.55, 1.31), (350, 0.61, 1.2), (700, 0.655, 1.12)]
    points = tuple(LearningPoint(n_train=n, tune_agreement=a, tune_loss=x) for n, a, x in curve)
    probe_points = tuple(
        LearningPoint(n_train=n, tune_agreement=a, tune_loss=1.4, repeats=5)
        for n, a in ((70, 0.44), (175, 0.52), (350, 0.56), (525, 0.575), (700, 0.58))
    )
    return (
        world.candidate(
            "encoder",
            gold,
            role="student",
            description="all-MiniLM-L6-v2, fine-tuned on soft labels",
            parameters=22_713_990,
            speed=Speed(
                requests_per_second=412.0,
                latency_p50_s=0.0061,
                latency_p95_s=0.0094,
                n=500,
                how="ONNX",
            ),
            cost_per_million_usd=0.034 if priced else None,
            cost_basis="2 cores at $0.05 an hour" if priced else "",
            learning_curve=points,
        ),
        world.candidate(
            "probe",
            gold,
            role="student",
            description="linear probe on frozen all-MiniLM-L6-v2",
            parameters=2_310,
            speed=Speed(
                requests_per_second=405.0, latency_p50_s=0.0062, latency_p95_s=0.0098, n=500
            ),
            cost_per_million_usd=0.034 if priced else None,
            learning_curve=probe_points,
        ),
        world.candidate(
            "majority", gold, role="baseline", description="always the commonest teacher label"
        ),
    )


def _make(
    verdict: str = "certified",
    gold: bool = True,
    priced: bool = True,
    labels: tuple[str, ...] = LABELS,
    **changes: Any,
) -> Certificate:
    world = world_of(labels, {"certified": 0.76, "not certified": 0.4}.get(verdict, 0.64))
    certified = ("encoder",) if verdict == "certified" else ()
    texts = {
        "certified": "The encoder loses less than 5 points against its teacher, and is better than "
        "it. Of 500 test inputs it gets 73.4 % right, the teacher 65.8 %; difference +7.6 points "
        "(90 % interval +3.9 to +11.3; one-sided p < 0.001 against a loss of 5 points).",
        "not certified": "The encoder is worse than its teacher by more than 5 points of accuracy.",
        "underpowered": "500 test items cannot show non-inferiority at a margin of 5 points.",
        "cannot say": "There is no gold, and the teacher was not asked twice.",
    }
    outcome = {"certified": "non-inferior", "not certified": "inferior"}.get(
        verdict, "inconclusive"
    )
    comparisons = (
        world.comparison("encoder", "teacher", outcome),
        world.comparison("probe", "teacher", "inconclusive"),
        world.comparison("encoder", "majority", "non-inferior"),
        world.comparison("probe", "majority", "non-inferior"),
        world.comparison("teacher", "majority", "non-inferior"),
        world.comparison("teacher", RAW, "non-inferior"),
        world.comparison("encoder", "probe", "non-inferior"),
    )
    fields: dict[str, Any] = {
        "name": "trec-questions",
        "created_at": "2026-11-23T01:32:05+00:00",
        "overproof_version": "0.1.0",
        "demo": True,
        "basis": "gold" if gold else "teacher",
        "verdict": verdict,
        "verdict_text": texts[verdict],
        "recommended": "encoder" if verdict != "cannot say" else None,
        "certified": certified,
        "labels": labels,
        "n_test": N,
        "margin": 0.05,
        "metric": "accuracy" if gold else AGREEMENT,
        "power": Power(
            n_test=N,
            margin=0.05,
            alpha=0.05,
            assumed_discordance=0.2,
            observed_discordance=0.47 if gold else None,
            power=0.41 if verdict == "underpowered" else 0.803,
            n_needed=1_214 if verdict == "underpowered" else 495,
            underpowered=verdict == "underpowered",
        ),
        "candidates": (*_teachers(world, gold), *_students(world, gold, priced)),
        "comparisons": comparisons
        if gold
        else tuple(c.model_copy(update={"metric": AGREEMENT}) for c in comparisons[:2]),
        "teacher_self_agreement": wilson(86, 100),
        "self_agreement_how": "100 test questions asked again with the options in another order",
        "signal_width": 0.0043,
        "costs": (
            CostLine(
                what="collecting: train",
                calls=700,
                input_tokens=168_350,
                output_tokens=700,
                seconds=146.2,
                usd=0.0168 if priced else None,
            ),
            CostLine(
                what="collecting: test",
                calls=500,
                input_tokens=120_300,
                output_tokens=500,
                seconds=104.9,
                usd=0.012 if priced else None,
            ),
            CostLine(
                what="teacher asked again",
                calls=100,
                input_tokens=24_100,
                output_tokens=100,
                seconds=21.3,
                usd=None,
            ),
            CostLine(what="training the encoder", seconds=75.0, usd=0.001 if priced else None),
        ),
        "break_even_requests": 1_830.0 if priced else None,
        "break_even_text": "After about 1,830 requests the encoder has paid for its own making."
        if priced
        else "The teacher's price is unknown, so no break-even can be given.",
        "learning_verdict": "Probably yes: the last doubling of the data still brought 4.5 points.",
        "provenance": PROVENANCE,
        "splits": {"train": 700, "tune": 150, "test": 500, "examples": 30},
        "outcomes": {
            "train": {"answered": 689, "malformed": 9, "truncated": 2},
            "test": {"answered": 493, "malformed": 7},
        },
        "looks": (
            {
                "look": 1,
                "when": "2026-11-23T01:30:00+00:00",
                "what": "certify",
                "dataset": "f00d" * 16,
                "students": {"encoder": "abcd" * 16, "probe": "0123" * 16},
                "repeat_of": None,
                "verdict": verdict,
            },
        ),
        "limits": (
            "The teacher is a 135-million-parameter model: weak, and chosen because it runs here.",
            "One language, short questions, one data set.",
        ),
        "machine": "2 cores, 8 GiB, Linux",
        "recompute": "overproof certify runs/demo",
    }
    return Certificate.model_validate(fields | changes)


@pytest.fixture(scope="session")
def make_certificate() -> Callable[..., Certificate]:
    """A certificate by verdict, basis, prices and labels; further fields replace what stands."""
    return _make
