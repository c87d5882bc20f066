"""The recipe: what to distil, from whom, into what, and what would count as success.

Read from TOML by ``overproof.config.load``. Every field has the vetted default; a nonsense
combination is refused here with the alternative named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from overproof.config.keys import check_variable, hidden, literal_secret, looks_like_a_key

__all__ = [
    "BudgetConfig",
    "CertificateConfig",
    "DataConfig",
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

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A section of a recipe: frozen, and unknown keys are errors."""

    # A misplaced key must not be repeated by the error that refuses it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RunConfig(Section):
    """``[run]``: the run's name, its directory (relative to the recipe) and its seed."""

    name: str = Field(min_length=1)
    dir: str
    seed: int = 0
    demo: bool = False


class PriceConfig(Section):
    """``[teacher.price]``: US dollars a million tokens; a price left out is unknown."""

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)


class TermsConfig(Section):
    """``[teacher.terms]``: may this teacher's outputs train a model?

    ``training`` is ``allowed`` or ``attested`` (the user holds a right: say which in
    ``attestation``; both are written into the ledger and the model card), or ``unknown``.
    """

    licence: str = "unknown"
    training: Literal["allowed", "attested", "unknown"] = "unknown"
    attestation: str = ""
    url: str = ""

    @model_validator(mode="after")
    def _attestation_is_said(self) -> Self:
        if self.training == "attested" and not self.attestation:
            raise ValueError("training = 'attested' needs an attestation: say which right you hold")
        return self


def _named_instead(what: str, name: str) -> str:
    return hidden(
        f"{what} looks like a secret: write {name} = 'env:VARIABLE' and put the value into that "
        "environment variable"
    )


class TeacherConfig(Section):
    """``[teacher]``: who is asked, and how.

    ``kind``: ``embedded`` (llama.cpp started by overproof; ``model`` is a name that
    ``overproof models list`` shows, or a path to a GGUF file), ``openai`` (any OpenAI-compatible
    ``base_url``), ``ledger`` (no teacher: only answers imported or collected before), or ``fake``
    (a deterministic stand-in for trying things out; its answers mean nothing).
    ``headers``, ``query`` and ``body`` values of the form ``env:NAME`` are read from the
    environment; ``api_key_env`` is the name of the key's variable. A secret itself is refused.
    """

    kind: Literal["embedded", "openai", "ledger", "fake"]
    model: str = Field(min_length=1)
    base_url: str | None = None
    path: str = "/chat/completions"
    api_key_env: str | None = None
    api_key_header: str = "Authorization"
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] = Field(default_factory=dict)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    supports_temperature: bool = True
    supports_seed: bool = True
    supports_prefill: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=200)
    context_length: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=8, ge=1, le=1024)
    timeout_s: float = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=6, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, ge=1)
    price: PriceConfig = PriceConfig()
    terms: TermsConfig = TermsConfig()

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        if name is not None:
            check_variable(name)
        return name

    @field_validator("headers")
    @classmethod
    def _no_secret_header(cls, headers: dict[str, str]) -> dict[str, str]:
        secret = ("auth", "cookie", "key", "password", "secret", "token")
        for name, value in headers.items():
            if any(word in name.lower() for word in secret) and not value.startswith("env:"):
                raise ValueError(_named_instead(f"header {name}", name))
        return headers

    @field_validator("headers", "query", "body")
    @classmethod
    def _no_literal_secrets(cls, values: dict[str, Any]) -> dict[str, Any]:
        if (place := literal_secret(values)) is not None:
            raise ValueError(_named_instead(place, place.split(".")[-1]))
        return values

    @field_validator("base_url")
    @classmethod
    def _no_secret_in_url(cls, url: str | None) -> str | None:
        if url and "@" in url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("holds a user or password: name the key's variable in api_key_env")
        return url

    @field_validator("base_url", "path")
    @classmethod
    def _no_query_in_url(cls, url: str | None) -> str | None:
        if url and ("?" in url or "#" in url):
            raise ValueError(
                "holds a query string: write its parameters into [teacher.query], a secret one as "
                "'env:VARIABLE'"
            )
        return url

    @field_validator("model", "base_url", "path", "api_key_header")
    @classmethod
    def _is_no_key(cls, text: str | None) -> str | None:
        if text and looks_like_a_key(text):
            raise ValueError(
                "holds what looks like an API key: put the key into an environment variable and "
                "name that variable in api_key_env"
            )
        return text

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        if self.kind == "openai" and not self.base_url:
            raise ValueError("kind = 'openai' needs base_url, such as 'https://HOST/v1'")
        if self.kind != "openai" and self.base_url:
            raise ValueError(f"base_url has no meaning for kind = '{self.kind}'; use 'openai'")
        return self


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


class BudgetConfig(Section):
    """``[budget]``: caps that stop collecting; ``max_failed`` is a share of the requests."""

    max_calls: int | None = Field(default=None, ge=1)
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_failed: Share = 0.02


class Recipe(Section):
    """A whole recipe."""

    run: RunConfig
    teacher: TeacherConfig
    data: DataConfig
    task: TaskConfig
    students: StudentsConfig = StudentsConfig()
    certificate: CertificateConfig = CertificateConfig()
    budget: BudgetConfig = BudgetConfig()

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
