"""One model's perplexity of another's answers: how likely it would have been to say that.

The chat is read with the answer as its last message, and only the answer's tokens count, in the
reader's own tokens: exp(-sum log p / sum tokens) over all prompts. A low perplexity of a student's
text says that the teacher might have written it; loops have a low one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overproof.clients.protocol import Teacher
from overproof.config.teacher import TeacherConfig
from overproof.evaluate.text.answers import Weights, ask_weights
from overproof.evaluate.text.store import Given
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
)
from overproof.stats.intervals import Estimate, bootstrap_rows

__all__ = ["answer_logprobs", "perplexity", "read_answers", "reading_request"]

UNLIKE = "the chat template does not keep the answer as it is, so its tokens cannot be told"
NO_BYTES = "the tokenizer does not tell the bytes of its tokens"


def reading_request(messages: Sequence[Message], text: str) -> Request:
    """The request that has a model read ``text`` as the answer to a chat."""
    answer = Message(role="assistant", content=text)
    return Request(
        model="reader",
        messages=(*messages, answer),
        parameters=Parameters(max_tokens=1, temperature=0.0, prompt_logprobs=0),
    )


def answer_logprobs(tokens: Sequence[TokenLogprob | None], text: str) -> tuple[float, ...]:
    """The log-probs of the tokens at the end of a prompt that spell ``text``.

    A token that begins before the text and ends within it counts.

    Raises:
        ValueError: the prompt does not end with the text, or the tokens' bytes are unknown.
    """
    wanted = text.encode()
    said, found = b"", []
    for token in reversed(tokens):
        if len(said) >= len(wanted):
            break
        if token is None:
            raise ValueError(UNLIKE)  # before the first token there is nothing
        if token.data is None:
            raise ValueError(NO_BYTES)
        said = bytes(token.data) + said
        found.append(token.logprob)
    if not said.endswith(wanted):
        raise ValueError(UNLIKE)
    return tuple(reversed(found))


def _kept(request: Request, completion: Completion) -> Given:
    """What is kept of a reading: the log-probs of the answer's tokens, or why there are none."""
    text, error, logprobs = request.messages[-1].content, completion.error, None
    outcome = completion.outcome
    if completion.prompt_logprobs is not None:
        try:
            logprobs = answer_logprobs(completion.prompt_logprobs, text)
            outcome = Outcome.ANSWERED  # whatever the one token after it was
        except ValueError as problem:
            outcome, error = Outcome.FAILED, str(problem)
    return Given(
        key=request.key,
        weights="",
        outcome=outcome,
        logprobs=logprobs,
        latency_s=completion.latency_s,
        error=error,
    )


async def read_answers(
    reader: Weights,
    texts: Sequence[tuple[tuple[Message, ...], str]],
    path: Path,
    open_teacher: Callable[[TeacherConfig], Teacher] | None = None,
) -> list[Given]:
    """What ``reader`` makes of answers to chats; those that say nothing are left out.

    Args:
        reader: the weights that read.
        texts: chats, each with an answer.
        path: the file where readings are kept.
        open_teacher: makes a teacher of a configuration; ``connect`` where unsaid.

    Raises:
        OverproofError: as ``ask_weights``.
    """
    requests = [reading_request(messages, text) for messages, text in texts if text]
    return await ask_weights(reader, requests, path, _kept, open_teacher)


def perplexity(
    readings: Sequence[Given], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate | None:
    """Perplexity over all answers that were read, with a BCa bootstrap interval by prompt.

    Returns:
        ``None`` where fewer than two answers were read.
    """
    read = [given.logprobs for given in readings if given.logprobs]
    if len(read) < 2:
        return None
    sums = np.array([sum(logprobs) for logprobs in read])
    counts = np.array([len(logprobs) for logprobs in read], dtype=np.float64)

    def statistic(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        mean: npt.NDArray[np.float64] = -sums[rows].sum(-1) / counts[rows].sum(-1)
        return mean

    # Of the mean negative log-prob: its logarithm has the better-behaved distribution.
    found = bootstrap_rows(
        statistic, len(read), resamples=resamples, seed=seed, confidence=confidence
    )
    point, low, high = (float(np.exp(end)) for end in (found.estimate, found.low, found.high))
    return Estimate(point, low, high, confidence, f"{found.method}, by prompt", len(read))
