"""The fake teacher: deterministic, instant, and learnable. Its answers mean nothing.

Its label for a text is a sum of votes, one a word, by the word's hash: a linear rule on a bag of
words, so that a student trained on it can learn it. It answers along the tokens of its labels with
exact log-probs, so that whatever scores labels can be checked against the truth.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from overproof.clients.protocol import Capabilities, Meter
from overproof.records.exchange import (
    Completion,
    Outcome,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)

__all__ = ["FakeTeacher"]

END = "<|end|>"
OTHER = "…"
# Probability of a token that continues no label: the mass outside the labels is never zero.
OTHER_MASS = 0.02
SHARPNESS = 1.5

_PIECE = re.compile(r" ?[^\W_]+|\s|[\W_]", re.UNICODE)
_OPTION = re.compile(r"^\s*([A-Z])[.):]\s", re.MULTILINE)
_WORD = re.compile(r"\w+", re.UNICODE)


class FakeTeacher:
    """A teacher for tests and for trying things out.

    Args:
        model: the name it reports.
        answer: replaces the built-in rule; called with each request.
        labels: what it chooses among; without any, the options ``A.``, ``B.`` ... that it finds in
            the request.
        capabilities: declared, and kept to: no log-probs are given beyond ``top_logprobs``.
        latency_s: seconds that each answer takes.
    """

    def __init__(
        self,
        model: str = "fake",
        answer: Callable[[Request], Completion] | None = None,
        *,
        labels: Sequence[str] = (),
        capabilities: Capabilities | None = None,
        latency_s: float = 0.0,
    ) -> None:
        self.model = model
        self.name = f"{model}@fake"
        self.calls = 0
        self._answer = answer or self._by_words
        self._labels = tuple(labels)
        self._capabilities = capabilities or Capabilities(
            top_logprobs=20, assistant_prefill=True, tokenize=True, seed=True, context_length=8192
        )
        self._latency_s = latency_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @property
    def capabilities(self) -> Capabilities:
        """As given."""
        return self._capabilities

    async def check(self) -> None:
        """It is always there."""
        return

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:  # noqa: ARG002
        """Answer one request."""
        self.calls += 1
        await asyncio.sleep(self._latency_s)
        return self._answer(request)

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Words with the space before them, and single other characters."""
        if not self._capabilities.tokenize:
            return None
        return [piece.encode() for piece in _PIECE.findall(text)]

    def labels_of(self, request: Request) -> tuple[str, ...]:
        """What it chooses among for this request."""
        if self._labels:
            return self._labels
        shown = (m.content for m in request.messages if m.role != "assistant")
        found = dict.fromkeys(letter for text in shown for letter in _OPTION.findall(text))
        return tuple(found) or ("A", "B")

    def distribution(self, request: Request) -> dict[str, float]:
        """The probability of each label: what its log-probs add up to, and sums to one."""
        labels = self.labels_of(request)
        asked = [m.content for m in request.messages if m.role == "user"]
        votes = dict.fromkeys(labels, 0.0)
        for word in _WORD.findall(asked[-1].casefold()) if asked else ():
            digest = hashlib.sha256(word.encode()).digest()
            votes[labels[int.from_bytes(digest[:8], "big") % len(labels)]] += SHARPNESS
        top = max(votes.values())
        weights = {label: math.exp(vote - top) for label, vote in votes.items()}
        return {label: weight / sum(weights.values()) for label, weight in weights.items()}

    def _by_words(self, request: Request) -> Completion:
        wanted = request.parameters
        paths = {
            tuple(_PIECE.findall(label)): probability
            for label, probability in self.distribution(request).items()
        }
        said = _already_said(request, paths)
        rng = random.Random(request.key)
        tokens: list[TokenLogprob] = []
        finished = False
        while len(tokens) < wanted.max_tokens and not finished:
            options = _next_pieces(paths, said)
            token = _pick(options, wanted.temperature, rng)
            tokens.append(_token(token, options, wanted.top_logprobs))
            finished = token in (END, OTHER)
            said = (*said, token)
        text = "".join(token.token for token in tokens if token.token != END)
        offered = bool(self._capabilities.top_logprobs) and wanted.top_logprobs is not None
        prompt = sum(len(_PIECE.findall(m.content)) for m in request.messages)
        return Completion(
            outcome=Outcome.ANSWERED if finished else Outcome.TRUNCATED,
            text=text,
            finish_reason="stop" if finished else "length",
            logprobs=tuple(tokens) if offered else None,
            usage=Usage(input_tokens=prompt, output_tokens=len(tokens)),
            model=self.model,
            system_fingerprint="fake",
            latency_s=self._latency_s,
            status=200,
        )


def _already_said(request: Request, paths: dict[tuple[str, ...], float]) -> tuple[str, ...]:
    """The start of a label that the prefill ends with, the longest there is."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "assistant":
        return ()
    starts = {path[:n] for path in paths for n in range(1, len(path) + 1)}
    fitting = [start for start in starts if last.content.endswith("".join(start))]
    return max(fitting, key=len, default=())


def _next_pieces(paths: dict[tuple[str, ...], float], said: tuple[str, ...]) -> dict[str, float]:
    """Probability of each next piece, given what was said: the labels' mass, marginalised."""
    mass: dict[str, float] = {}
    for path, probability in paths.items():
        if path[: len(said)] == said:
            piece = path[len(said)] if len(path) > len(said) else END
            mass[piece] = mass.get(piece, 0.0) + probability
    total = sum(mass.values())
    if not total:
        return {END: 1.0}
    options = {piece: (1 - OTHER_MASS) * value / total for piece, value in mass.items()}
    return options | {OTHER: OTHER_MASS}


def _pick(options: dict[str, float], temperature: float | None, rng: random.Random) -> str:
    if temperature == 0:
        return max(options, key=lambda piece: options[piece])
    power = 1.0 / (1.0 if temperature is None else temperature)
    weights = [probability**power for probability in options.values()]
    return rng.choices(list(options), weights)[0]


def _token(piece: str, options: dict[str, float], k: int | None) -> TokenLogprob:
    def data(token: str) -> tuple[int, ...] | None:
        return None if token == END else tuple(token.encode())

    ranked = sorted(options.items(), key=lambda item: -item[1])[: k or 0]
    return TokenLogprob(
        token=piece,
        logprob=math.log(options[piece]),
        data=data(piece),
        top=tuple(TopLogprob(token=t, logprob=math.log(p), data=data(t)) for t, p in ranked),
    )
