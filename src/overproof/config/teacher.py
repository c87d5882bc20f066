"""``[teacher]``: who is asked, how, at what price and under which terms."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.keys import check_variable, hidden, literal_secret, looks_like_a_key
from overproof.config.section import Section

__all__ = ["LongPrice", "PriceConfig", "TeacherConfig", "TermsConfig"]


class LongPrice(Section):
    """What all tokens of a call cost whose prompt has more than ``tokens`` input tokens.

    Prices left out stand to ``input`` and ``output`` as the shorter prompt's stand to its own.
    """

    tokens: int = Field(ge=1)
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class PriceConfig(Section):
    """``[teacher.price]``: US dollars a million tokens; a price left out is unknown.

    Without prices of their own, cached input and cache writes cost what input does, and reasoning
    what output does. ``batch`` is the factor on all of them for a batch API, 0.5 where unsaid.
    ``long`` is for providers that charge more for long prompts.
    """

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    reasoning: float | None = Field(default=None, ge=0)
    batch: float | None = Field(default=None, gt=0, le=1)
    long: LongPrice | None = None


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
        if self.training == "attested" and not self.attestation.strip():
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
    ``base_url``), ``anthropic`` (the Messages API), ``local`` (Hugging Face weights run here:
    ``model`` is a directory, a GGUF file or a hub name), ``ledger`` (no teacher: only answers
    imported or collected before), or ``fake`` (a deterministic stand-in for trying things out; its
    answers mean nothing).

    ``concurrency`` caps the requests in flight; ``pacing = "adaptive"`` starts there, falls by
    half where the server is overloaded, and climbs back. ``stream`` reads answers as they are
    written, so that ``stall_s`` seconds without a token count as a failure. ``choices`` is the
    largest ``n`` of one call. ``structured`` says how a JSON Schema is handed over. ``batch`` sends
    everything through the provider's batch API, ``batch_size`` requests a batch at most.
    ``headers``, ``query`` and ``body`` values of the form ``env:NAME`` are read from the
    environment; ``api_key_env`` is the name of the key's variable. A secret itself is refused.
    """

    kind: Literal["embedded", "openai", "anthropic", "local", "ledger", "fake"]
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
    tokens_per_minute: float | None = Field(default=None, gt=0)
    pacing: Literal["adaptive", "fixed"] = "adaptive"
    stream: bool = False
    stall_s: float = Field(default=30.0, gt=0)
    choices: int = Field(default=1, ge=1, le=128)
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    supports_tools: bool = True
    batch: bool = False
    batch_size: int = Field(default=10_000, ge=1, le=100_000)
    batch_poll_s: float = Field(default=30.0, gt=0)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
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
        if self.kind not in ("openai", "anthropic") and self.base_url:
            raise ValueError(f"base_url has no meaning for kind = '{self.kind}'; use 'openai'")
        if self.batch and self.kind not in ("openai", "anthropic"):
            raise ValueError(f"batch: a teacher of kind '{self.kind}' has no batch API")
        if self.batch and self.stream:
            raise ValueError("batch: a batch is not streamed; take stream out")
        return self

    @property
    def workers(self) -> int:
        """Inputs worked on at a time: enough to fill every slot while others wait to be retried."""
        return self.batch_size if self.batch else max(64, 16 * self.concurrency)

    @property
    def width(self) -> int:
        """Requests sent but not committed at a time, or a batch."""
        return self.batch_size if self.batch else 2 * self.concurrency
