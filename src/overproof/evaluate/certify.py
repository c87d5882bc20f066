"""The certificate: everything measured on the test split, put together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overproof import __version__
from overproof.clients import registry
from overproof.config.recipe import Recipe
from overproof.errors import StudentError
from overproof.evaluate.candidates import Measure
from overproof.evaluate.comparisons import Comparer
from overproof.evaluate.costs import Costs
from overproof.evaluate.heldout import (
    MAJORITY,
    RAW,
    TEACHER,
    Answers,
    HeldOut,
    Prediction,
    majority_label,
    student_answers,
)
from overproof.evaluate.leaks import check_leaks
from overproof.evaluate.learning import learning_verdict
from overproof.evaluate.limits import Findings, limits
from overproof.evaluate.looks import distinct_looks
from overproof.evaluate.machine import machine_in_words
from overproof.evaluate.provenance import provenance
from overproof.evaluate.verdict import decide, recommend
from overproof.evaluate.wording import percent
from overproof.records.certificate import Candidate, Certificate, Comparison, CostLine, Speed
from overproof.records.dataset import DatasetManifest, LabelRow
from overproof.records.student import StudentCard

__all__ = ["Prediction", "build_certificate"]

RESERVED = frozenset({TEACHER, RAW, MAJORITY})


def build_certificate(
    *,
    recipe: Recipe,
    manifest: DatasetManifest,
    test: list[LabelRow],
    gold: dict[str, str],
    predictions: dict[str, Prediction],
    cards: dict[str, StudentCard],
    train: list[LabelRow],
    tune: list[LabelRow],
    examples: list[LabelRow],
    speeds: dict[str, Speed],
    costs: list[CostLine],
    looks: list[dict[str, Any]],
    teacher_speed: Speed,
    now: str,
    machine: str | None = None,
    recipe_file: str = "RECIPE",
) -> Certificate:
    """Measure every candidate on the test split and decide.

    ``recipe`` and ``manifest`` are as frozen before anything was looked at; ``gold`` is by item
    and empty without gold; ``predictions``, ``cards`` and ``speeds`` are by student; lines of
    ``costs`` with calls are the teacher's; ``looks`` are as ``log_look`` returns them, this one
    last; ``now`` is ISO 8601 in UTC. ``recipe_file`` is named in the command that recomputes the
    certificate.

    Raises:
        LeakError: a test input or a near-duplicate of one is in another split.
        DataError: gold for some test inputs only, or a label that the task lacks.
        StudentError: a student that does not fit the dataset.
    """
    others = {"train": train, "tune": tune, "examples": examples}
    check_leaks(test, others, manifest.near_duplicate_threshold)
    held = HeldOut.from_rows(test, gold, manifest)
    bill = Costs(recipe, costs, test, teacher_speed)
    judged = _judge(
        measure=Measure.of(recipe, held),
        comparer=Comparer(held, recipe.certificate),
        answers=_answers(held, predictions, cards, train),
        candidates=_with_costs(
            _descriptions(recipe, manifest, cards, train), bill, speeds, teacher_speed
        ),
        cards=cards,
    )
    recommended = judged["recommended"]
    speed = speeds.get(recommended) if recommended else None
    break_even, break_even_text = bill.break_even(recommended, speed)
    fields: dict[str, Any] = {
        "created_at": now,
        "costs": bill.priced(),
        "break_even_requests": break_even,
        "break_even_text": break_even_text,
        "provenance": provenance(recipe, manifest, train, cards),
        "looks": _with_verdict(looks, judged["verdict"]),
        "limits": limits(Findings.of(recipe, manifest, held, judged, distinct_looks(looks))),
        "machine": machine_in_words() if machine is None else machine,
        "recompute": f"overproof certify {recipe_file}",
    }
    return Certificate.model_validate(_facts(recipe, manifest, held) | judged | fields)


def _facts(recipe: Recipe, manifest: DatasetManifest, held: HeldOut) -> dict[str, Any]:
    """The fields that are read off recipe and dataset."""
    width = held.width[np.isfinite(held.width)]
    return {
        "name": recipe.run.name,
        "overproof_version": __version__,
        "demo": recipe.run.demo,
        "basis": "teacher" if held.gold is None else "gold",
        "labels": held.labels,
        "n_test": len(held),
        "margin": recipe.certificate.margin,
        "self_agreement_how": manifest.second_asking,
        "signal_width": float(width.mean()) if len(width) else None,
        "splits": manifest.counts,
        "outcomes": manifest.outcomes,
    }


def _judge(
    *,
    measure: Measure,
    comparer: Comparer,
    answers: Mapping[str, Answers],
    candidates: Mapping[str, Candidate],
    cards: Mapping[str, StudentCard],
) -> dict[str, Any]:
    """The fields that are measured on the test split, the verdict among them."""
    held = measure.held
    scored = {
        name: measure.score(candidate, answers[name], teacher=name == TEACHER)
        for name, candidate in candidates.items()
    }
    recommended = recommend(cards)
    order = sorted(cards, key=lambda name: name != recommended)  # stable: the recommended first
    main, others = _comparisons(comparer, order, answers)
    student = answers[recommended] if recommended else None
    power, had = comparer.power(student), comparer.power(student, as_observed=True)
    self_agreement = measure.share(held.same_again[held.repeats])
    verdict = decide(recommended, scored, main, (power, had), self_agreement)
    return {
        "verdict": verdict.word,
        "verdict_text": verdict.text,
        "recommended": recommended,
        "certified": verdict.certified,
        "metric": comparer.metric,
        "power": power,
        "candidates": tuple(scored.values()),
        "comparisons": (*main.values(), *others),
        "teacher_self_agreement": self_agreement,
        "learning_verdict": learning_verdict(cards, order, comparer.config.margin),
    }


def _answers(
    held: HeldOut,
    predictions: Mapping[str, Prediction],
    cards: Mapping[str, StudentCard],
    train: list[LabelRow],
) -> dict[str, Answers]:
    """What every candidate said of the test split, by name."""
    if set(predictions) != set(cards) or RESERVED & set(cards):
        raise StudentError(
            f"students {', '.join(sorted(set(predictions) | set(cards)))}",
            "do not each have one card and one prediction, or bear a reserved name",
            f"reserved are {', '.join(sorted(RESERVED))}",
        )
    label, _ = majority_label(train)
    n = len(held)
    always = np.full(n, held.labels.index(label), dtype=np.int64)
    students = {
        name: student_answers(name, predictions[name], card.labels, held)
        for name, card in cards.items()
    }
    return {
        TEACHER: held.teacher,
        RAW: held.teacher_raw,
        **students,
        MAJORITY: Answers(always, np.full(n, np.nan)),
    }


def _descriptions(
    recipe: Recipe,
    manifest: DatasetManifest,
    cards: Mapping[str, StudentCard],
    train: list[LabelRow],
) -> dict[str, Candidate]:
    """Every candidate with its name, role and description, still without scores."""
    label, share = majority_label(train)
    model = str(manifest.teacher.get("model") or recipe.teacher.model)
    how = f"{model}, {manifest.signal} of {manifest.rendering}"
    method = manifest.calibration.method
    after = "not calibrated" if method == "none" else f"calibrated on training inputs: {method}"
    pinned = registry.find(model) if recipe.teacher.kind == "embedded" else None
    size = pinned.parameters if pinned else None
    plain = {
        name: Candidate(name=name, role="teacher", description=text, parameters=size)
        for name, text in ((TEACHER, f"{how}; {after}"), (RAW, f"{how}; as it answered"))
    }
    for name, card in cards.items():
        made = (
            f"{card.base}, fine-tuned on soft labels"
            if card.kind == "encoder"
            else f"linear probe on frozen {card.base}"
        )
        plain[name] = Candidate(
            name=name,
            role="student",
            description=made,
            parameters=card.parameters,
            learning_curve=card.learning_curve,
        )
    plain[MAJORITY] = Candidate(
        name=MAJORITY,
        role="baseline",
        description=f"always {label!r}, {percent(share)} of the teacher's labels in training",
    )
    return plain


def _with_costs(
    candidates: Mapping[str, Candidate],
    bill: Costs,
    speeds: Mapping[str, Speed],
    teacher_speed: Speed,
) -> dict[str, Candidate]:
    """The candidates with their speed and the cost of a million requests."""
    priced = {}
    for name, candidate in candidates.items():
        if candidate.role == "baseline":
            priced[name] = candidate
            continue
        teacher = candidate.role == "teacher"
        speed = teacher_speed if teacher else speeds.get(name)
        cost = bill.teacher() if teacher else bill.machine_time(speed)
        priced[name] = candidate.model_copy(
            update={
                "speed": speed,
                "cost_per_million_usd": cost.per_million,
                "cost_basis": cost.basis,
            }
        )
    return priced


def _comparisons(
    comparer: Comparer, order: list[str], answers: Mapping[str, Answers]
) -> tuple[dict[str, Comparison], list[Comparison]]:
    """Students against the teacher, by student; then the others: against majority, in pairs."""
    main = {name: comparer.with_teacher(name, answers[name]) for name in order}
    pairs = [(name, MAJORITY) for name in order]
    if comparer.held.gold is not None:
        pairs += [(TEACHER, MAJORITY), (TEACHER, RAW)]
    pairs += list(itertools.combinations(order, 2))
    others = [comparer.pair(a, answers[a], b, answers[b]) for a, b in pairs]
    return (
        {name: each for name, each in main.items() if each is not None},
        [each for each in others if each is not None],
    )


def _with_verdict(looks: Sequence[dict[str, Any]], verdict: str) -> tuple[dict[str, Any], ...]:
    """The looks, the last of which came to this verdict."""
    return (*looks[:-1], {**looks[-1], "verdict": verdict}) if looks else ()
