"""What a certificate does not say: sentences that are true of this run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from overproof.config.recipe import Recipe
from overproof.evaluate.heldout import MAJORITY, TEACHER, HeldOut
from overproof.evaluate.wording import percent, points
from overproof.records.certificate import Candidate, Comparison, Power
from overproof.records.dataset import DatasetManifest
from overproof.stats.power import non_inferiority_power

__all__ = ["Findings", "limits"]


@dataclass(frozen=True)
class Findings:
    """What the limits are read from. ``against_majority`` is by the candidate's name."""

    recipe: Recipe
    manifest: DatasetManifest
    held: HeldOut
    candidates: Mapping[str, Candidate]
    power: Power
    recommended: str | None
    against_majority: Mapping[str, Comparison]
    looks: int

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        manifest: DatasetManifest,
        held: HeldOut,
        judged: Mapping[str, Any],
        looks: int,
    ) -> Self:
        """From the fields that were measured and the number of distinct looks."""
        return cls(
            recipe=recipe,
            manifest=manifest,
            held=held,
            candidates={each.name: each for each in judged["candidates"]},
            power=judged["power"],
            recommended=judged["recommended"],
            against_majority={
                each.first: each for each in judged["comparisons"] if each.second == MAJORITY
            },
            looks=looks,
        )


def limits(found: Findings) -> tuple[str, ...]:
    """The limits of this run, the weightiest first."""
    kinds = (_run, _yardstick, _never_answered, _data, _statistics, _machine)
    return tuple(sentence for kind in kinds for sentence in kind(found))


def _run(found: Findings) -> list[str]:
    said = []
    if found.recipe.run.demo:
        said.append("This is a demo: small data and a small teacher, to show the road.")
    if found.recipe.teacher.kind == "fake":
        said.append("The teacher is the fake one: its answers mean nothing, nor does this.")
    terms = found.recipe.teacher.terms.training
    if terms == "unknown" and found.manifest.teacher.get("terms", "unknown") == "unknown":
        said.append("It is unknown whether the teacher's terms allow training on its answers.")
    if terms == "attested":
        said.append("The right to train on the teacher's answers is attested by the user.")
    against = {"no": "forbid it", "conditions": "allow it on a condition"}
    says, version = (found.manifest.teacher.get(key) for key in ("terms_say", "terms_version"))
    if says in against:
        said.append(
            f"The teacher's terms as they are known ({version}) {against[says]}: "
            f"{found.manifest.teacher.get('clause')}."
        )
    return said


def _yardstick(found: Findings) -> list[str]:
    said = []
    if found.held.gold is None:
        said.append(
            "There is no gold: everything is measured against the teacher's own answers, and its "
            "mistakes count as right."
        )
        said.append(
            "The teacher's agreement with itself rests on the inputs asked twice alone; they are "
            "taken as a random part of the test split, and a positive correlation with the "
            "student's agreement is not used to narrow the interval."
        )
    teacher = found.candidates["teacher"].accuracy
    better = found.against_majority.get(TEACHER)
    if teacher is not None and better is not None and not better.superior:
        said.append(
            f"The teacher is weak: at {percent(teacher.estimate)} it is not shown to beat always "
            "answering the commonest label, so not being worse than it says little."
        )
    elif teacher is not None and teacher.high < 0.8:
        said.append(
            f"The teacher is weak ({percent(teacher.estimate)} right): not being worse than it is "
            "not the same as being good."
        )
    own = found.against_majority.get(found.recommended or "")
    if found.recommended and own is not None and not own.superior:
        said.append(
            f"The {found.recommended} is not shown to beat always answering the commonest label."
        )
    return said


def _data(found: Findings) -> list[str]:
    manifest, held = found.manifest, found.held
    said = [
        "The test inputs come from the same source as the training inputs; on inputs of another "
        "kind student and teacher may differ more."
        if not found.recipe.data.test_file
        else "The test inputs come from a file of their own; what holds for them need not hold "
        "for other sources."
    ]
    invalid = int((~held.teacher.valid).sum())
    if invalid:
        said.append(
            f"The teacher gave no valid answer on {invalid:,} of {len(held):,} test inputs; "
            + (
                "they count as wrong for it and stand in a column of their own."
                if held.gold is not None
                else "agreement cannot be measured there; their share is shown."
            )
        )
    prior = found.recipe.task.prior
    if prior != "none" and any(manifest.calibration.bias):
        kinds = {
            "uniform": "all labels equally common",
            "examples": "the label shares of the examples pool",
        }
        kind = kinds.get(str(prior), "the recipe's label shares")
        said.append(
            f"The teacher's answers were corrected on the assumption of {kind}; where the true "
            "shares differ, teacher and students inherit the error."
        )
    return said + [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in manifest.notes if note]


def _never_answered(found: Findings) -> list[str]:
    """Labels that the recommended student never chooses though they occur in the test split."""
    student = found.candidates.get(found.recommended or "")
    if student is None or not student.confusion:
        return []
    chosen = [sum(row[i] for row in student.confusion) for i in range(len(found.held.labels))]
    missed = [
        f"{label} ({sum(row)} of {found.power.n_test} test inputs)"
        for label, row, count in zip(found.held.labels, student.confusion, chosen, strict=True)
        if sum(row) and not count
    ]
    return [f"The {student.name} never answers {', '.join(missed)}."] if missed else []


def _statistics(found: Findings) -> list[str]:
    power, alpha = found.power, found.power.alpha
    said = ["Intervals assume that the test inputs are independent draws."]
    seen, assumed = power.observed_discordance, power.assumed_discordance
    if found.held.gold is not None and seen is not None and seen > assumed:
        had = non_inferiority_power(power.n_test, power.margin, seen, alpha)
        if percent(had) != percent(power.power):
            said.append(
                f"Student and teacher differ in correctness on {percent(seen)} of the test inputs, "
                f"more than the {percent(assumed)} that the recipe assumed: the power was "
                f"{percent(had)}, not the planned {percent(power.power)}."
            )
    if power.underpowered:
        said.append(
            f"The test is underpowered at a margin of {points(power.margin)}: "
            f"{percent(power.power)}, below the {percent(found.recipe.certificate.power)} asked "
            "for."
        )
    if found.looks > 1:
        said.append(
            f"The test set was looked at {found.looks} times with different students: the chance "
            f"of at least one false certificate is up to {percent(min(1.0, found.looks * alpha))}."
        )
    if found.recommended and sum(c.role == "student" for c in found.candidates.values()) > 1:
        said.append(
            f"The recommended student ({found.recommended}) was chosen on the tune split, not on "
            "the test, so the verdict needs no correction for having tried several. The other "
            "comparisons are not corrected either: each errs by itself at its own level."
        )
    return said


def _machine(found: Findings) -> list[str]:
    said = [
        "Throughput and latency are of the machine that certified; the teacher's include the way "
        "to it."
    ]
    if found.recipe.teacher.kind == "embedded":
        said.append("The embedded teacher is a quantised model and shares this machine.")
    return said
