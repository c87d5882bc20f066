"""``[[students]]`` of a text task: what is trained, from which base, by which method."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.section import Section, Share

__all__ = [
    "DenseKdConfig",
    "Divergence",
    "LmStudentConfig",
    "LmStudentsSection",
    "LoraConfig",
    "OnPolicyConfig",
    "PruneConfig",
    "SampledKdConfig",
    "SftConfig",
    "SparseKdConfig",
]

Divergence = Literal["forward_kl", "reverse_kl", "jensen_shannon", "skew_kl", "skew_reverse_kl"]


class LoraConfig(Section):
    """``lora``: train low-rank updates (arXiv 2106.09685) instead of every weight.

    ``targets`` are names of modules; ``all-linear`` is every linear layer but the output head.
    ``merge`` folds the update into the weights of the finished student; otherwise it stays an
    adapter.
    """

    rank: int = Field(default=64, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    dropout: Share = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    merge: bool = True

    @property
    def scale(self) -> float:
        """``alpha``, twice the rank where unsaid."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


class PruneConfig(Section):
    """``prune``: a base made of fewer layers of a larger model (Minitron, arXiv 2407.14679).

    ``layers`` is how many stay. ``keep`` names them; otherwise ``by`` chooses: ``spaced`` keeps the
    first, the last and evenly spaced ones between, ``importance`` those that change the hidden
    states of the training prompts most (1 - cosine similarity, ShortGPT, arXiv 2403.03853).
    """

    layers: int = Field(ge=1)
    keep: tuple[int, ...] | None = None
    by: Literal["spaced", "importance"] = "spaced"

    @model_validator(mode="after")
    def _as_many_as_said(self) -> Self:
        if self.keep is not None and len(set(self.keep)) != self.layers:
            raise ValueError(
                f"keep: names {len(set(self.keep))} layers, and layers = {self.layers}"
            )
        return self


class LmStudentConfig(Section):
    """What every method shares.

    ``base`` is a directory, a GGUF file, a name of ``overproof models list``, a hub name, or
    ``teacher`` for the weights of a teacher of kind ``local``. ``start`` names an earlier student
    of the recipe whose weights this one begins with, instead of ``base``. ``batch_tokens`` is the
    size of a step in tokens, prompts included, over all processes; it is cut into pieces of at
    most ``micro_tokens`` whose gradients are added up. ``max_tokens`` stops training after so many
    tokens, whatever ``epochs`` says. ``checkpoint_every`` is in steps.
    """

    name: str
    base: str = ""
    start: str | None = None
    prune: PruneConfig | None = None
    lora: LoraConfig | None = None
    epochs: float = Field(default=3.0, gt=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_length: int = Field(default=2048, ge=8)
    batch_tokens: int = Field(default=8192, ge=8)
    micro_tokens: int = Field(default=2048, ge=8)
    packing: bool = True
    learning_rate: float | None = Field(default=None, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.03
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=50, ge=1)
    processes: int = Field(default=1, ge=1)
    seed: int | None = None

    @field_validator("name")
    @classmethod
    def _is_a_directory_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError("takes letters, digits, '.', '_' and '-': a directory has this name")
        return name

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if bool(self.base) == (self.start is not None):
            raise ValueError(
                "needs either base (weights) or start (the name of an earlier student)"
            )
        if self.start is not None and self.prune is not None:
            raise ValueError("prune: prunes a base; a student that another one starts has its size")
        if self.micro_tokens > self.batch_tokens:
            raise ValueError("micro_tokens: is more than batch_tokens, the whole step")
        return self

    @property
    def rate(self) -> float:
        """The learning rate: 2e-4 for LoRA, 5e-5 for every weight, where unsaid."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-4 if self.lora else 5e-5


class SftConfig(LmStudentConfig):
    """``method = "sft"``: sequence-level KD (arXiv 1606.07947): SFT on the teacher's text."""

    method: Literal["sft"]


class SparseKdConfig(LmStudentConfig):
    """``method = "sparse_kd"``: KD from the ``top_logprobs`` that the teacher answered with.

    They are mapped onto the student's vocabulary by bytes; what they leave out is one bucket.
    The loss is ``(1 - ce_weight)`` of the divergence and ``ce_weight`` of cross-entropy on the
    teacher's text. ``top_k`` is how many are kept at most: all where unsaid.
    """

    method: Literal["sparse_kd"]
    divergence: Divergence = "forward_kl"
    top_k: int | None = Field(default=None, ge=1, le=200)
    ce_weight: Share = 0.5
    temperature: float = Field(default=1.0, gt=0)


class SampledKdConfig(LmStudentConfig):
    """``method = "sampled_kd"``: unbiased random-sampling KD (arXiv 2503.16870).

    ``draws`` tokens are drawn from the local teacher's distribution at every position, once.
    """

    method: Literal["sampled_kd"]
    draws: int = Field(default=32, ge=1, le=255)
    ce_weight: Share = 0.0


class DenseKdConfig(LmStudentConfig):
    """``method = "dense_kd"``: white-box KD from the local teacher's whole distribution.

    ``skew`` is the share of the other distribution that skew KL mixes in (arXiv 2402.03898), and
    the teacher's share in the mixture of Jensen-Shannon (``beta`` of GKD, arXiv 2306.13649).
    """

    method: Literal["dense_kd"]
    divergence: Divergence = "forward_kl"
    skew: float = Field(default=0.1, gt=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)
    ce_weight: Share = 0.0


class OnPolicyConfig(LmStudentConfig):
    """``method = "on_policy"``: the teacher scores what the student writes (arXiv 2306.13649).

    ``on_policy_share`` of the prompts of a step are answered by the student, the others have the
    teacher's text. ``scorer``: ``local`` has the teacher's weights here; ``server`` asks it for
    ``prompt_logprobs``; ``auto`` takes what there is.
    """

    method: Literal["on_policy"]
    divergence: Divergence = "reverse_kl"
    skew: float = Field(default=0.5, gt=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)
    on_policy_share: Share = 1.0
    prompts_per_step: int = Field(default=32, ge=1)
    steps: int = Field(default=100, ge=1)
    rollout_tokens: int = Field(default=256, ge=1)
    rollout_temperature: float = Field(default=1.0, gt=0)
    scorer: Literal["auto", "local", "server"] = "auto"
    top_k: int = Field(default=20, ge=1, le=200)

    @model_validator(mode="after")
    def _starts_from_sft(self) -> Self:
        if self.start is None:
            raise ValueError(
                "start: on-policy distillation begins with a student that can already answer; "
                'add one with method = "sft" before it and name it here'
            )
        return self


AnyLmStudent = Annotated[
    SftConfig | SparseKdConfig | SampledKdConfig | DenseKdConfig | OnPolicyConfig,
    Field(discriminator="method"),
]
LmStudentsSection = tuple[AnyLmStudent, ...]
