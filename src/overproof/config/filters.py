"""``[[filters]]``: what is dropped from a text dataset, in order, each with its reason."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.section import Section, Share

__all__ = [
    "BenchmarkFile",
    "Decontaminate",
    "ExactDuplicates",
    "FilterConfig",
    "JsonSchema",
    "Judge",
    "JudgeOutcome",
    "Language",
    "Length",
    "NearDuplicates",
    "Part",
    "ReasoningGym",
    "Refusals",
    "Regex",
    "Repetition",
    "SelfConsistency",
    "SemanticDuplicates",
    "UnitTests",
]

Part = Literal["prompt", "answer", "both"]
"""What duplicates are compared by. ``both``: the prompts and the answers must each be alike."""

Extract = Literal["auto", "boxed", "tags", "hashes", "whole"]
JudgeOutcome = Literal["win", "tie", "loss", "inconsistent", "unreadable", "unjudged"]


class FilterSection(Section):
    """What every filter has. ``name`` is how reports call it; its kind where unsaid."""

    name: str | None = Field(default=None, min_length=1)


class ExactDuplicates(FilterSection):
    """``kind = "exact"``: the same text, up to case and white space; the first is kept.

    With ``on = "prompt"``, all samples of the first of equal prompts are kept.
    """

    kind: Literal["exact"]
    on: Part = "both"


class NearDuplicates(FilterSection):
    """``kind = "near_duplicate"``: character 5-gram sets of Jaccard similarity ``threshold``.

    ``method``: ``exact`` finds every pair, ``lsh`` (MinHash) at least a share ``recall`` of the
    pairs at the threshold and more above it; ``auto`` is exact up to 2,000 examples. Neither drops
    a pair below the threshold.
    """

    kind: Literal["near_duplicate"]
    on: Part = "both"
    threshold: float = Field(default=0.8, ge=0.3, le=1)
    method: Literal["auto", "exact", "lsh"] = "auto"
    recall: float = Field(default=0.99, ge=0.5, le=0.9999)


class SemanticDuplicates(FilterSection):
    """``kind = "semantic_duplicate"``: sentence embeddings of cosine ``threshold`` or more.

    ``model`` is a directory or a name that ``overproof models list`` shows.
    """

    kind: Literal["semantic_duplicate"]
    on: Literal["prompt", "answer"] = "prompt"
    threshold: float = Field(default=0.95, ge=0.5, le=1)
    model: str = "all-MiniLM-L6-v2"
    device: str = "auto"


class Length(FilterSection):
    """``kind = "length"``: shorter than ``min`` or longer than ``max``.

    ``tokens`` are those of ``tokenizer`` (a ``tokenizer.json``, a directory with one, or a model's
    name), or without one those that the teacher's server counted for the answer.
    """

    kind: Literal["length"]
    on: Literal["prompt", "answer", "reasoning"] = "answer"
    unit: Literal["characters", "words", "tokens"] = "characters"
    min: int = Field(default=1, ge=0)
    max: int | None = Field(default=None, ge=1)
    tokenizer: str | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max: {self.max} is below min = {self.min}, so nothing could be kept")
        if self.tokenizer and self.unit != "tokens":
            raise ValueError("tokenizer: has no meaning without unit = 'tokens'")
        if self.unit == "tokens" and not self.tokenizer and self.on != "answer":
            raise ValueError(f"tokenizer: name one; a server counts no tokens of the {self.on}")
        return self


class Language(FilterSection):
    """``kind = "language"``: texts that are surely in none of ``allowed`` (ISO 639 codes).

    A text is dropped where the identifier names another language with ``min_confidence`` or more.
    One shorter than ``min_characters``, code blocks left aside, is kept: too short to tell.
    """

    kind: Literal["language"]
    allowed: tuple[str, ...] = Field(min_length=1)
    on: Literal["prompt", "answer"] = "answer"
    min_confidence: float = Field(default=0.8, ge=0.1, le=1)
    min_characters: int = Field(default=40, ge=1)

    @field_validator("allowed")
    @classmethod
    def _are_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if not re.fullmatch(r"[a-z]{2,3}", code):
                raise ValueError(f"{code!r} is no ISO 639 code; write 'en' for English")
        return codes


class Refusals(FilterSection):
    """``kind = "refusals"``: answers that begin by declining. ``phrases`` are further patterns.

    A phrase is a regular expression, tried without regard to case at the start of the answer and,
    for answers up to ``short`` characters, at the start of every sentence.
    """

    kind: Literal["refusals"]
    phrases: tuple[str, ...] = ()
    short: int = Field(default=300, ge=0)

    @field_validator("phrases")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return _are_patterns(patterns)


class Repetition(FilterSection):
    """``kind = "repetition"``: answers that go round in circles.

    Dropped where the end repeats one piece ``loops`` times or more over ``loop_characters``, where
    a share of the word 4-grams above ``repeated`` has occurred before (from 50 words on), or where
    zlib makes the answer more than ``compression`` times smaller (from 400 characters on).
    """

    kind: Literal["repetition"]
    loops: int = Field(default=4, ge=2)
    loop_characters: int = Field(default=80, ge=8)
    repeated: Share = 0.5
    compression: float = Field(default=8.0, ge=2)


class Regex(FilterSection):
    """``kind = "regex"``: texts without a match of each ``must``, or with one of a ``must_not``."""

    kind: Literal["regex"]
    on: Literal["prompt", "answer", "reasoning"] = "answer"
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    ignore_case: bool = False

    @field_validator("must", "must_not")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return _are_patterns(patterns)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.must and not self.must_not:
            raise ValueError("must: give a pattern in must or in must_not, else nothing is dropped")
        return self


class JsonSchema(FilterSection):
    """``kind = "json_schema"``: answers that are no JSON, or none of the file ``schema``."""

    kind: Literal["json_schema"]
    json_schema: str = Field(alias="schema", min_length=1)


class Extraction(FilterSection):
    r"""How a final answer is found in a text.

    ``auto`` takes the last of ``\boxed{...}``, ``<answer>...</answer>`` and ``#### ...`` that
    stands there, else the whole text; ``boxed``, ``tags`` and ``hashes`` take that form alone.
    ``pattern`` is a regular expression instead, of which the last match's first group counts.
    """

    extract: Extract = "auto"
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and re.compile(_are_patterns((pattern,))[0]).groups != 1:
            raise ValueError(f"{pattern!r} needs exactly one group: the answer, as in 'is (.+)'")
        return pattern


class ReasoningGym(Extraction):
    """``kind = "reasoning_gym"``: answers that the task's own scorer gives less than ``min_score``.

    ``on_missing`` says what becomes of prompts that are no task of reasoning-gym.
    """

    kind: Literal["reasoning_gym"]
    min_score: float = Field(default=1.0, gt=0, le=1)
    on_missing: Literal["keep", "drop", "fail"] = "keep"


class UnitTests(FilterSection):
    """``kind = "unit_tests"``: answers whose Python code fails its tests, run in a sandbox.

    ``tests`` names the column with the tests, or is ``reference``. ``entry_point`` names the column
    with the function's name, which ``check(candidate)`` of the tests is called with where they
    define it. ``preamble`` names a column with code to put before the answer's. ``isolation``:
    ``require`` refuses to run where network, files and processes cannot be walled off;
    ``best_effort`` runs all the same and says so.
    """

    kind: Literal["unit_tests"]
    tests: str = "test"
    entry_point: str = "entry_point"
    preamble: str | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    memory_mb: int = Field(default=512, ge=64)
    processes: int = Field(default=8, ge=1, le=256)
    isolation: Literal["require", "best_effort"] = "require"
    on_missing: Literal["keep", "drop", "fail"] = "fail"


class SelfConsistency(Extraction):
    """``kind = "self_consistency"``: samples that disagree with most samples of their prompt.

    The commonest answer wins with at least ``min_share`` of all samples of the prompt and no tie;
    where none does, all are dropped. ``keep = "first"`` keeps one of those that agree. A prompt
    with fewer than ``min_samples`` has no vote: ``on_few`` says what becomes of it.
    """

    kind: Literal["self_consistency"]
    min_share: float = Field(default=0.5, gt=0, le=1)
    min_samples: int = Field(default=3, ge=2)
    keep: Literal["all", "first"] = "all"
    on_few: Literal["keep", "drop"] = "drop"


class Judge(FilterSection):
    """``kind = "judge"``: a model compares answers, each pair in both orders.

    ``against``: the ``reference`` of the prompt, or the other ``samples`` of it, of which the best
    is kept. Only verdicts that both orders agree on count; ``keep`` lists the outcomes that keep
    an answer. ``model`` is the teacher's where unsaid. Verdicts that could not be had
    (``unreadable``, ``unjudged``) fail the run where they are more than ``max_unjudged`` of all
    (``on_unjudged = "fail"``), else and below that the answer is dropped; or it is kept.
    ``probes`` pairs are judged again, against themselves, and against answers to other prompts, to
    state the judge's noise; a judge that prefers answers to other prompts as often as not has
    judged nothing.
    """

    kind: Literal["judge"]
    against: Literal["reference", "samples"] = "reference"
    criteria: str = "correct, complete, and helpful to whoever asked"
    keep: tuple[JudgeOutcome, ...] = ("win", "tie")
    model: str | None = None
    max_tokens: int = Field(default=512, ge=8)
    temperature: float | None = Field(default=0.0, ge=0)
    probes: int = Field(default=20, ge=5, le=1000)
    on_unjudged: Literal["fail", "drop", "keep"] = "fail"
    max_unjudged: Share = 0.02

    @field_validator("keep")
    @classmethod
    def _keeps_verdicts(cls, keep: tuple[JudgeOutcome, ...]) -> tuple[JudgeOutcome, ...]:
        if "unjudged" in keep or "unreadable" in keep:
            raise ValueError("a verdict that could not be had keeps nothing; see on_unjudged")
        if not keep or {"win", "loss"} <= set(keep):
            raise ValueError("would keep nothing or everything; the usual is ['win', 'tie']")
        return keep


class BenchmarkFile(Section):
    """A benchmark to keep out: a table (its ``columns``), or a ``.txt`` with an item a line.

    Without ``columns``: those of the usual names, such as ``question``, ``prompt`` or ``text``.
    """

    path: str = Field(min_length=1)
    name: str | None = None
    columns: tuple[str, ...] = ()


class Decontaminate(FilterSection):
    """``kind = "decontaminate"``: whatever shares text with held-out pools or benchmark files.

    Dropped are examples whose prompt or answer shares ``words`` consecutive words with an item, or
    holds a whole item of ``shortest`` words or more, or has Jaccard similarity ``near_duplicate``
    with one. Word sequences that stand in more than ``boilerplate`` of all items, or of all
    prompts, are the wording of a template and count as nothing, and neither do those in the file
    ``ignore`` (one a line).
    """

    kind: Literal["decontaminate"]
    files: tuple[BenchmarkFile, ...] = ()
    words: int = Field(default=13, ge=5, le=50)
    shortest: int = Field(default=5, ge=3)
    near_duplicate: float = Field(default=0.8, ge=0.3, le=1)
    boilerplate: float = Field(default=0.5, gt=0, le=1)
    ignore: str | None = None

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.shortest > self.words:
            raise ValueError(f"shortest: is above words = {self.words}; use at most that")
        return self


def _are_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not pattern:
            raise ValueError("an empty pattern matches everything: leave it out")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{pattern!r} is no regular expression: {error}; write it in 'single quotes', "
                "where TOML leaves backslashes alone"
            ) from None
    return patterns


FilterConfig = Annotated[
    ExactDuplicates
    | NearDuplicates
    | SemanticDuplicates
    | Length
    | Language
    | Refusals
    | Repetition
    | Regex
    | JsonSchema
    | ReasoningGym
    | UnitTests
    | SelfConsistency
    | Judge
    | Decontaminate,
    Field(discriminator="kind"),
]
"""One entry of ``[[filters]]``, told by its ``kind``."""
