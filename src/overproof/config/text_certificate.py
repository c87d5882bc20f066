"""``[certificate]`` of a text task: how students that talk are measured and what would count."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from overproof.config.section import Section
from overproof.config.teacher import TeacherConfig

__all__ = ["JudgeConfig", "TextCertificateConfig"]


class JudgeConfig(Section):
    """``[certificate.judge]``: a model that compares two answers, each pair in both orders.

    ``teacher`` is the judge, configured as teachers are. ``repeats`` of the teacher's own answers
    against a second sample of it give the noise floor.
    """

    teacher: TeacherConfig
    instructions: str = ""
    repeats: int = Field(default=50, ge=0)
    max_tokens: int = Field(default=16, ge=1)


class TextCertificateConfig(Section):
    """``[certificate]``: fixed before anything is collected.

    ``scorer`` decides whether an answer is right: ``exact`` (after normalisation), ``numeric``
    (the last number), ``reasoning_gym`` (the task's own verifier), ``json`` (field-level F1 of an
    extraction; ``task.answer = "json"``), ``teacher`` (says what the teacher said; needs no
    reference). ``margin`` is the loss of score against the teacher that you would accept.
    ``perplexity`` also has the teacher read the student's text and the reverse, where both are
    local weights. ``baselines`` are measured beside the students: the untrained ``base``.
    ``answer_pattern`` is a regular expression with a group ``answer`` that takes the answer out of
    the text before it is scored. ``max_tokens`` is the students' limit, the task's where unsaid.
    ``headroom`` training prompts with a known answer are put to teacher and base by ``plan``.
    ``agreement`` is the level to which deferral is calibrated on the tune split.
    ``machine_usd_per_hour`` prices what runs here.
    """

    scorer: Literal["exact", "numeric", "reasoning_gym", "json", "teacher"] = "teacher"
    margin: float = Field(default=0.05, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    bootstrap: int = Field(default=2000, ge=200)
    answer_pattern: str | None = None
    tolerance: float = Field(default=1e-6, ge=0)
    baselines: tuple[Literal["base"], ...] = ("base",)
    perplexity: bool = True
    headroom: int = Field(default=32, ge=0)
    agreement: float | None = Field(default=None, gt=0, lt=1)
    max_tokens: int | None = Field(default=None, ge=1)
    machine_usd_per_hour: float | None = Field(default=None, ge=0)
    judge: JudgeConfig | None = None

    @model_validator(mode="after")
    def _pattern_has_its_group(self) -> Self:
        if self.answer_pattern is not None:
            import re

            try:
                found = re.compile(self.answer_pattern)
            except re.error as error:
                raise ValueError(f"answer_pattern: is no regular expression: {error}") from None
            if "answer" not in found.groupindex:
                raise ValueError("answer_pattern: needs a group (?P<answer>...)")
        return self
