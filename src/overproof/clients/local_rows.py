"""Requests on their way through local weights."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from overproof.clients.local_model import LocalModel
from overproof.records.exchange import Completion, Request, TokenLogprob

__all__ = ["Row", "row_of"]


@dataclass(eq=False)
class Row:
    """One request on its way.

    ``limit`` is how many tokens it may answer with. ``seed`` decides what is drawn, whatever else
    is in the batch. ``is_abandoned`` tells that nobody waits any more; ``deliver`` takes the
    answer. ``hear`` is told of the row after every token that does not end it.
    """

    request: Request
    prompt: list[int]
    limit: int
    seed: int
    is_abandoned: Callable[[], bool]
    deliver: Callable[[Completion], None]
    hear: Callable[[Row], None] | None = None
    is_done: bool = False
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray)

    def restart(self) -> None:
        """Forget what was generated so far."""
        self.tokens, self.logprobs, self.prompt_logprobs = [], [], []
        self.said = bytearray()


def row_of(
    model: LocalModel,
    request: Request,
    is_abandoned: Callable[[], bool],
    deliver: Callable[[Completion], None],
) -> Row:
    """A request made ready.

    Without a seed an answer is drawn anew each time. With one, samples of a prompt still differ.

    Raises:
        ValueError: a request that this model cannot answer; says why.
    """
    prompt, asked = model.chat.prompt_ids(request), request.parameters
    if unknown := sorted(asked.extra.keys() - {"chat_template_kwargs"}):
        raise ValueError(f"local weights know no parameter {unknown[0]!r}: take it out of the body")
    if not prompt:
        raise ValueError("the prompt has no token")
    limit = asked.max_tokens
    if model.context is not None:
        if len(prompt) >= model.context:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, which leaves no room for an answer in the "
                f"context of {model.context}: shorten it, or raise teacher.context_length if the "
                "model allows"
            )
        limit = min(limit, model.context - len(prompt))
    seed = secrets.randbits(63)
    if asked.seed is not None:
        digest = hashlib.sha256(f"{asked.seed}:{request.sample}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
    return Row(request, prompt, limit, seed, is_abandoned, deliver)
