"""``[[synthesize]]``: prompts made where the user has few, one strategy an entry."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.section import Section

__all__ = [
    "STYLES",
    "AskingSection",
    "Documents",
    "Evolve",
    "Expand",
    "GymTask",
    "Paraphrase",
    "ReasoningGym",
    "SeededSection",
    "StrategySection",
    "SynthesizeConfig",
]

STYLES = (
    "plain and short",
    "detailed, with the background that a careful person gives",
    "casual, as to a friend",
    "formal, as in a letter",
    "as a question",
    "as an instruction",
    "terse, as typed into a search box",
    "with its parts in another order",
)


class StrategySection(Section):
    """What every strategy has.

    ``count`` new prompts are wanted. One that is too like a seed, an earlier one or a held-out
    prompt is dropped: by the ``exact`` text; by the Jaccard similarity of character 5-grams
    (``shingles``, from ``near_duplicate`` = 0.8 on); or by the cosine similarity of ``embedder``'s
    vectors (``embedding``, from 0.95 on). Asking ends early once the last ``patience`` answers
    brought fewer than ``floor`` new prompts each.
    """

    count: int = Field(default=100, ge=1)
    diversity: Literal["shingles", "embedding", "exact"] = "shingles"
    near_duplicate: float | None = Field(default=None, gt=0.0, le=1.0)
    embedder: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    patience: int = Field(default=20, ge=1)
    floor: float = Field(default=0.1, ge=0.0)

    near_by_default: ClassVar[dict[str, float]] = {"shingles": 0.8, "embedding": 0.95, "exact": 1.0}

    @model_validator(mode="after")
    def _threshold_has_a_measure(self) -> Self:
        if self.near_duplicate is not None and self.diversity == "exact":
            raise ValueError(
                "near_duplicate: has no meaning with diversity = 'exact'; use 'shingles'"
            )
        return self

    @property
    def threshold(self) -> float:
        """Similarity from which a prompt is too like another."""
        return self.near_duplicate or self.near_by_default[self.diversity]


class AskingSection(StrategySection):
    """A strategy that asks the teacher, for up to ``per_request`` prompts a request.

    Answers longer than ``max_chars`` a prompt are dropped.
    """

    per_request: int = Field(default=4, ge=1, le=50)
    max_tokens: int = Field(default=1024, ge=16)
    temperature: float | None = Field(default=0.7, ge=0.0, le=2.0)
    max_chars: int = Field(default=4000, ge=20)


class SeededSection(AskingSection):
    """A strategy that starts from seeds.

    ``from`` is ``data`` for the training prompts, or ``all`` for these and what the entries above
    have made.
    """

    seeds_from: Literal["data", "all"] = Field(default="data", alias="from")

    @field_validator("temperature")
    @classmethod
    def _answers_differ(cls, temperature: float | None) -> float | None:
        if temperature == 0.0:
            raise ValueError(
                "0 gives one answer however often it is asked; 0.7 is usual, and left out it is 0.7"
            )
        return temperature


class Paraphrase(SeededSection):
    """``kind = "paraphrase"``: the seeds said in other words.

    ``styles`` are the manners of speaking, drawn anew for every seed. With ``keep_reference`` a
    seed's known right answer goes with its paraphrases. A paraphrase means what its seed means, so
    that embeddings take it for a repeat only from 0.98 on.
    """

    near_by_default: ClassVar[dict[str, float]] = {"shingles": 0.8, "embedding": 0.98, "exact": 1.0}

    kind: Literal["paraphrase"]
    styles: tuple[str, ...] = Field(default=STYLES, min_length=1)
    keep_reference: bool = True

    @field_validator("styles")
    @classmethod
    def _styles_are_said(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        if not all(style.strip() for style in styles):
            raise ValueError("holds an empty style: say it in words, such as 'short and casual'")
        return styles


class Expand(SeededSection):
    """``kind = "expand"``: new prompts of the seeds' kind (Self-Instruct, arXiv 2212.10560).

    Each request shows ``examples`` prompts, up to ``generated`` of them earlier new ones. A new
    prompt whose ROUGE-L with any other reaches ``rouge_l`` is dropped (the paper's 0.7).
    """

    kind: Literal["expand"]
    per_request: int = Field(default=8, ge=1, le=50)
    examples: int = Field(default=8, ge=1, le=50)
    generated: int = Field(default=2, ge=0)
    rouge_l: float = Field(default=0.7, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _a_seed_is_shown(self) -> Self:
        if self.generated >= self.examples:
            raise ValueError(
                f"generated: {self.generated} of {self.examples} examples leave no seed to learn "
                f"from; use at most {self.examples - 1}"
            )
        return self


class Evolve(SeededSection):
    """``kind = "evolve"``: prompts made harder step by step (Evol-Instruct, arXiv 2304.12244).

    Each request rewrites one prompt, a seed or an earlier rewrite, in ``per_request`` of the
    paper's ways: a constraint more, deeper, more concrete, more steps, or a rarer sibling.
    """

    kind: Literal["evolve"]
    per_request: int = Field(default=2, ge=1, le=5)


class Documents(AskingSection):
    """``kind = "documents"``: questions that passages of documents answer.

    ``files`` are names or patterns (``notes/*.md``) of ``.txt``, ``.md``, ``.csv``, ``.tsv``,
    ``.jsonl`` or ``.parquet`` files, of which ``column`` is read. Paragraphs are joined, and cut at
    the ends of sentences, into passages of up to ``chunk`` characters; one shorter than
    ``min_chunk`` is left out. With ``context`` the passage is part of the prompt. The
    answer written with a question is kept as its reference. With ``evidence`` the teacher quotes
    the words that answer it, and a pair whose quotation is not in the passage is dropped.
    """

    kind: Literal["documents"]
    files: tuple[str, ...] = Field(min_length=1)
    column: str = Field(default="text", min_length=1)
    encoding: str = "utf-8"
    chunk: int = Field(default=1500, ge=100)
    min_chunk: int = Field(default=80, ge=1)
    context: bool = False
    evidence: bool = True

    @field_validator("files", mode="before")
    @classmethod
    def _one_file_is_a_list(cls, files: Any) -> Any:
        return (files,) if isinstance(files, str) else files

    @model_validator(mode="after")
    def _passages_can_be_cut(self) -> Self:
        if self.min_chunk > self.chunk:
            raise ValueError(
                f"min_chunk: {self.min_chunk} is above chunk = {self.chunk}; lower it, or leave "
                "it out"
            )
        return self


class GymTask(Section):
    """One generator of reasoning-gym: its share of the prompts and its own settings."""

    weight: float = Field(default=1.0, gt=0.0)
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("config")
    @classmethod
    def _seed_is_ours(cls, config: dict[str, Any]) -> dict[str, Any]:
        for key, instead in (("seed", "seed"), ("size", "count")):
            if key in config:
                raise ValueError(f"{key} is set by {instead} of the [[synthesize]] entry")
        return config


class ReasoningGym(StrategySection):
    """``kind = "reasoning_gym"``: tasks with a verifier (arXiv 2505.24760).

    ``tasks`` names generators: a list, or a table of their weights or ``{ weight, config }``.
    Tasks of one generator are much alike by design, so only exact repeats are dropped unless
    ``diversity`` says more. One that takes longer than ``timeout_s`` is given up.
    """

    kind: Literal["reasoning_gym"]
    tasks: dict[str, GymTask] = Field(min_length=1)
    seed: int | None = Field(default=None, ge=0)
    diversity: Literal["shingles", "embedding", "exact"] = "exact"
    timeout_s: float = Field(default=30.0, gt=0)

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks_in_short(cls, tasks: Any) -> Any:
        if isinstance(tasks, str):
            tasks = [tasks]
        if isinstance(tasks, list | tuple):
            if not all(isinstance(name, str) for name in tasks):
                raise ValueError("is a list of names, or a table of names with their weights")
            if len(set(tasks)) < len(tasks):
                raise ValueError("names a task twice; give it a weight: tasks = { NAME = 2.0 }")
            return {name: {} for name in tasks}
        if isinstance(tasks, dict):
            return {
                name: {"weight": value}
                if isinstance(value, int | float) and not isinstance(value, bool)
                else value
                for name, value in tasks.items()
            }
        return tasks


SynthesizeConfig = Annotated[
    Paraphrase | Expand | Evolve | Documents | ReasoningGym, Field(discriminator="kind")
]
"""One entry of ``[[synthesize]]``; ``kind`` says which."""
