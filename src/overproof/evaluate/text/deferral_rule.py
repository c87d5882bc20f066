"""``RUN/deferral.json``: when each student of a run passes a request on, and what that rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from overproof.errors import RunError, StudentError
from overproof.evaluate.text.deferral import DEFAULT_SCORE, ConfidenceScore
from overproof.evaluate.text.weight_files import has_weights, weights_sha256
from overproof.records.exchange import Record
from overproof.records.files import write_atomically
from overproof.records.text_certificate import DeferralCurve

__all__ = ["DeferralRule", "record_rule", "rule_of", "rule_of_curve", "student_sha256"]

FILE = "deferral.json"


class DeferralRule(Record):
    """The threshold of one student.

    It answers where its confidence (``score``) is above ``threshold``. ``stated`` is the agreement
    with ``teacher`` that was calibrated on ``n_tune`` prompts of the tune split, whose answers
    ``backend`` computed at ``temperature`` with at most ``max_tokens``, up to the first of the
    texts ``stop``; ``student_sha256`` are the weights that it holds for.
    """

    student: str
    student_sha256: str
    teacher: str
    score: ConfidenceScore = DEFAULT_SCORE
    threshold: float = Field(ge=0, le=1)
    stated: float = Field(gt=0, lt=1)
    n_tune: int = Field(ge=1)
    backend: str = "transformers"
    temperature: float | None = 0.0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def promise(self) -> str:
        """What is promised, in words."""
        if self.threshold >= 1:
            return (
                f"no threshold is promised an agreement of {self.stated:g} by {self.n_tune} "
                "tune prompts: everything is passed on"
            )
        return (
            f"agrees with {self.teacher} on at least {self.stated:.4g} of requests like the tune "
            f"prompts, on average over tune splits of {self.n_tune} (conformal risk control)"
        )


class _File(Record):
    kind: str = "deferral"
    students: Mapping[str, DeferralRule] = Field(default_factory=dict)


def rule_of_curve(
    curve: DeferralCurve,
    directory: Path,
    teacher: str,
    *,
    temperature: float | None = 0.0,
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
    backend: str = "transformers",
) -> DeferralRule:
    """The rule that a curve's threshold makes.

    Args:
        curve: with a ``confidence_score`` that is a ``ConfidenceScore``.
        directory: the student's.
        teacher: the teacher's model.
        temperature: that the tune answers were drawn at.
        max_tokens: their limit.
        stop: the texts that they ended before.
        backend: what computed them.
    """
    return DeferralRule.model_validate(
        {
            "student": curve.student,
            "student_sha256": student_sha256(directory),
            "teacher": teacher,
            "score": curve.confidence_score,
            "threshold": curve.threshold,
            "stated": curve.stated,
            "n_tune": curve.n_tune,
            "backend": backend,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "stop": tuple(stop),
        }
    )


def record_rule(run_dir: Path, rule: DeferralRule) -> Path:
    """Write the rule of one student into ``RUN/deferral.json``, beside those of the others.

    Raises:
        RunError: there is such a file, and it is another.
    """
    path = run_dir / FILE
    rules = dict(_read(path).students) if path.exists() else {}
    rules[rule.student] = rule
    text = _File(students=rules).model_dump(mode="json")
    write_atomically(path, json.dumps(text, indent=2, ensure_ascii=False) + "\n")
    return path


def rule_of(directory: Path) -> DeferralRule:
    """The rule of the student in ``directory``, which is ``RUN/students/NAME``.

    Raises:
        StudentError: nothing was calibrated for it, or for other weights than it has now.
        RunError: the file cannot be read.
    """
    directory = directory.resolve()
    path = directory.parent.parent / FILE
    way_out = "set certificate.agreement in the recipe (0.95, say) and run `overproof certify`"
    if not path.is_file():
        raise StudentError(
            str(directory), f"has no calibrated threshold (no {path.name} in its run)", way_out
        )
    rules = _read(path).students
    rule = rules.get(directory.name)
    if rule is None:
        there = ", ".join(rules) or "nobody"
        raise StudentError(
            str(path), f"holds no threshold for {directory.name!r}, only for: {there}", way_out
        )
    if rule.student_sha256 != student_sha256(directory):
        raise StudentError(
            str(directory),
            "was trained again since its threshold was calibrated, which holds for other weights",
            "run `overproof certify` again",
        )
    return rule


def student_sha256(directory: Path) -> str:
    """Hash of what decides a student's answers; see ``weights_sha256``.

    Raises:
        StudentError: there are no weights.
    """
    if not has_weights(directory):
        raise StudentError(str(directory), "holds no weights (*.safetensors)", "train it again")
    return weights_sha256(directory)


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            str(path), f"cannot be read: {reason}", "run `overproof certify` again"
        ) from error
