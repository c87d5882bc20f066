"""The recipe: what to distil, from whom, into what, and what would count as success.

Read from TOML by ``overproof.config.load``. Every field has the vetted default; a nonsense
combination is refused here with the alternative named.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.running import BaseRecipe, BudgetConfig, DriftConfig, RunConfig
from overproof.config.section import Section, Share
from overproof.config.teacher import PriceConfig, TeacherConfig, TermsConfig

__all__ = [
    "BudgetConfig",
    "CertificateConfig",
    "DataConfig",
    "DriftConfig",
    "EncoderConfig",
    "PriceConfig",
    "ProbeConfig",
    "Recipe",
    "RunConfig",
    "StudentsConfig",
    "TaskConfig",
    "TeacherConfig",
    "TermsConfig",
]


class DataConfig(Section):
    """``[data]``: the inputs. CSV, TSV, JSONL or Parquet, told by the file's ending.

    Split by content hash into four frozen pools of the sizes given (``train`` is what is left, up
    to its size). ``gold`` names the column of true labels: used to certify and, for the few
    ``examples``, shown in the prompt; hidden from training. ``gold_map`` renames its values.
    ``test_file`` takes the test pool from a file of its own.
    """

    file: str
    test_file: str | None = None
    input: str = "text"
    gold: str | None = None
    gold_map: dict[str, str] = Field(default_factory=dict)
    encoding: str = "utf-8"
    train: int = Field(default=2000, ge=1)
    tune: int = Field(default=300, ge=1)
    test: int = Field(default=1400, ge=1)
    examples: int = Field(default=0, ge=0)
    near_duplicate: float = Field(default=0.8, gt=0.0, le=1.0)


class TaskConfig(Section):
    """``[task]``: a label task.

    ``labels`` maps each label to the words that stand for it in the prompt (a list of labels
    stands for itself). ``system`` and ``prompt`` are sandboxed Jinja2 templates over ``input``,
    ``labels`` and ``options``. ``rendering``: ``letters`` (A, B, C ...), ``words`` (whole labels,
    scored along a trie of their tokens), or ``auto``: letters where each is one token of the
    teacher's, else words. ``follow``: whether only ``ambiguous`` beginnings of an answer are asked
    to go on, or ``all``: exact for labels of several tokens too, at more calls. ``samples`` are
    the votes where the teacher has no log-probs. ``repeats`` inputs of the training and of the
    test pool are asked a second time. ``prior`` is what the mean answer over the training inputs is
    corrected to: ``uniform``, the label shares of the ``examples`` pool (whose gold the prompt may
    show anyway), a table of shares, or ``none``.
    """

    kind: Literal["label"] = "label"
    labels: dict[str, str]
    system: str = ""
    prompt: str = "{{ input }}"
    examples_per_label: int = Field(default=0, ge=0)
    rendering: Literal["auto", "letters", "words"] = "auto"
    follow: Literal["ambiguous", "all"] = "ambiguous"
    top_logprobs: int = Field(default=20, ge=0, le=200)
    samples: int = Field(default=5, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=16, ge=1)
    repeats: int = Field(default=100, ge=0)
    prior: Literal["uniform", "examples", "none"] | dict[str, float] = "uniform"

    @field_validator("labels", mode="before")
    @classmethod
    def _list_of_labels(cls, labels: Any) -> Any:
        if isinstance(labels, list):
            if len(set(labels)) != len(labels):
                raise ValueError("a label is named twice")
            return {label: label for label in labels}
        return labels

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("labels: a label task needs at least two")
        if any(not name.strip() or not word.strip() for name, word in self.labels.items()):
            raise ValueError("labels: a label is empty")
        words = [word.strip().casefold() for word in self.labels.values()]
        if len(set(words)) != len(words):
            raise ValueError("labels: two labels are shown by the same words")
        if isinstance(self.prior, dict):
            if set(self.prior) != set(self.labels):
                raise ValueError("prior: name every label exactly once, with its share")
            if min(self.prior.values()) <= 0 or abs(sum(self.prior.values()) - 1) > 1e-6:
                raise ValueError("prior: shares must be above zero and sum to one")
        return self


class EncoderConfig(Section):
    """``[students.encoder]``: an encoder fine-tuned on soft labels.

    ``base`` is a name of ``overproof models list``, a local directory, or a hub name.
    """

    base: str = "all-MiniLM-L6-v2"
    epochs: int = Field(default=6, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup: Share = 0.1
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int = Field(default=128, ge=8, le=8192)
    patience: int = Field(default=2, ge=1)
    learning_curve: tuple[Share, ...] = (0.25, 0.5)


class ProbeConfig(Section):
    """``[students.probe]``: a linear probe on frozen embeddings, the cheap baseline."""

    base: str = "all-MiniLM-L6-v2"
    l2: tuple[float, ...] = Field(default=(1e-4, 1e-3, 1e-2, 1e-1), min_length=1)
    max_length: int = Field(default=128, ge=8, le=8192)
    learning_curve: tuple[Share, ...] = (0.1, 0.25, 0.5, 0.75)
    repeats: int = Field(default=5, ge=1)


class StudentsConfig(Section):
    """``[students]``: both are always trained and compared with a majority baseline."""

    encoder: EncoderConfig = EncoderConfig()
    probe: ProbeConfig = ProbeConfig()
    machine_usd_per_hour: float | None = Field(default=None, ge=0)


class CertificateConfig(Section):
    """``[certificate]``: fixed before anything is collected.

    ``margin`` is the loss against the teacher (in ``metric``) that you would accept.
    """

    margin: float = Field(default=0.02, gt=0, lt=1)
    metric: Literal["accuracy"] = "accuracy"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0, lt=1)
    discordance: float = Field(default=0.2, gt=0, le=1)
    bootstrap: int = Field(default=2000, ge=200)


class Recipe(BaseRecipe):
    """A whole recipe of a label task."""

    data: DataConfig
    task: TaskConfig
    students: StudentsConfig = StudentsConfig()
    certificate: CertificateConfig = CertificateConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.task.examples_per_label and not self.data.gold:
            raise ValueError(
                "task.examples_per_label needs data.gold: an example is shown with its true label"
            )
        if self.task.examples_per_label and not self.data.examples:
            raise ValueError(
                "task.examples_per_label needs data.examples: the size of the pool that examples "
                "are drawn from"
            )
        if self.data.file == "ledger" and (self.data.gold or self.data.test_file):
            raise ValueError(
                "data.file = 'ledger' has no gold: put inputs and gold into a file and name that "
                "as data.file (the answers still come from the ledger), or take data.gold out"
            )
        if self.task.prior == "examples" and not (self.data.gold and self.data.examples):
            raise ValueError(
                "task.prior = 'examples' needs data.gold and data.examples: the pool whose label "
                "shares are taken"
            )
        unknown = sorted(set(self.data.gold_map.values()) - set(self.task.labels))
        if unknown:
            raise ValueError(f"data.gold_map maps to {unknown[0]!r}, which task.labels lacks")
        return self
