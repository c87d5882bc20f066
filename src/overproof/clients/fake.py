"""The fake teacher: deterministic, instant, and learnable. Its answers mean nothing.

Its label for a text is a sum of votes, one a word, by the word's hash: a linear rule on a bag of
words, so that a student trained on it can learn it. It answers along the tokens of its labels with
exact log-probs, so that whatever scores labels can be checked against the truth. Asked for more
than a label it answers in capital letters, with JSON that follows the schema, or by calling a tool;
see ``fake_text``.
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

from overproof.clients.fake_text import is_a_text, say
from overproof.clients.protocol import Capabilities, Meter
from overproof.records.exchange import (
    Completion,
    Outcome,
    Request,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Usage,
)

__all__ = ["FakeTeacher"]

END = "<|end|>"
OTHER = "…"
# Probability of a token that continues no label: the mass outside the labels is never zero.
OTHER_MASS = 0.02
SHARPNESS = 1.5
GIVEN_UP = Completion(
    outcome=Outcome.FAILED, error="given up before the answer came", uncertain_attempts=1
)

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
        self._answer = answer or self._by_rule
        self._labels = tuple(labels)
        self._capabilities = capabilities or Capabilities(
            top_logprobs=20,
            assistant_prefill=True,
            tokenize=True,
            seed=True,
            context_length=8192,
            structured=True,
            tools=True,
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

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request.

        Raises:
            BudgetError: ``meter`` has no room for it.
        """
        [completion] = await self._call([request], meter)
        return completion

    async def complete_many(
        self, requests: Sequence[Request], meter: Meter | None = None
    ) -> list[Completion]:
        """Answer requests that differ in ``sample`` alone, in one call.

        Raises:
            BudgetError: ``meter`` has no room for it.
            ValueError: more requests than ``capabilities.choices``.
        """
        if len(requests) > self._capabilities.choices:
            raise ValueError(f"{len(requests)} choices; it draws {self._capabilities.choices}")
        found = await self._call(requests, meter)
        return [one.model_copy(update={"choice": n}) for n, one in enumerate(found)]

    async def _call(self, requests: Sequence[Request], meter: Meter | None) -> list[Completion]:
        """One call; its usage stands with the first answer."""
        if meter is not None:
            await meter.before()
        self.calls += 1
        try:
            await asyncio.sleep(self._latency_s)
            found = [self._answer(request) for request in requests]
        except BaseException:
            if meter is not None:
                meter.after(GIVEN_UP, reached=True)
            raise
        if len(found) > 1:
            used = [one.usage or Usage() for one in found]
            whole = used[0].model_copy(
                update={"output_tokens": sum(usage.output_tokens for usage in used)}
            )
            shares = [whole, *[Usage()] * (len(found) - 1)]
            found = [
                one.model_copy(update={"usage": share})
                for one, share in zip(found, shares, strict=True)
            ]
        if meter is not None:
            meter.after(found[0], reached=True)
        return found

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Words with the space before them, and single other characters."""
        if not self._capabilities.tokenize:
            return None
        return [piece.encode() for piece in _PIECE.findall(text)]

    def labels_of(self, request: Request) -> tuple[str, ...]:
        """What it chooses among for this request."""
        return self._labels or _options(request) or ("A", "B")

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

    def _by_rule(self, request: Request) -> Completion:
        has_labels = bool(self._labels or _options(request))
        if is_a_text(request, has_labels=has_labels):
            return self._by_text(request)
        return self._by_words(request)

    def _by_text(self, request: Request) -> Completion:
        wanted = request.parameters
        try:
            said = say(request)
        except ValueError as error:
            return Completion(outcome=Outcome.MALFORMED, error=str(error), status=200)
        pieces = _PIECE.findall(said.text)
        finished = len(pieces) <= wanted.max_tokens
        tokens = [
            _token(piece, {piece: 1 - OTHER_MASS, OTHER: OTHER_MASS}, wanted.top_logprobs)
            for piece in pieces[: wanted.max_tokens]
        ]
        call = said.call if finished else None
        reason = "tool_calls" if call else "stop"
        return self._completion(
            request,
            tokens,
            text="" if said.call else "".join(pieces[: wanted.max_tokens]),
            finish_reason=reason if finished else "length",
            calls=(call,) if call else (),
        )

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
        return self._completion(
            request,
            tokens,
            text="".join(token.token for token in tokens if token.token != END),
            finish_reason="stop" if finished else "length",
        )

    def _completion(
        self,
        request: Request,
        tokens: list[TokenLogprob],
        *,
        text: str,
        finish_reason: str,
        calls: tuple[ToolCall, ...] = (),
    ) -> Completion:
        asked = request.parameters.top_logprobs is not None
        offered = asked and bool(self._capabilities.top_logprobs) and not calls
        prompt = sum(len(_PIECE.findall(m.content)) for m in request.messages)
        return Completion(
            outcome=Outcome.TRUNCATED if finish_reason == "length" else Outcome.ANSWERED,
            text=text,
            finish_reason=finish_reason,
            logprobs=tuple(tokens) if offered else None,
            usage=Usage(input_tokens=prompt, output_tokens=len(tokens)),
            model=self.model,
            system_fingerprint="fake",
            latency_s=self._latency_s,
            status=200,
            tool_calls=calls,
        )


def _options(request: Request) -> tuple[str, ...]:
    """The letters of the options that a request shows."""
    shown = (m.content for m in request.messages if m.role != "assistant")
    return tuple(dict.fromkeys(letter for text in shown for letter in _OPTION.findall(text)))


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
