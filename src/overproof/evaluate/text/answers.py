"""Letting local weights answer held-out prompts, at temperature 0 and with log-probs."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from overproof.clients.connect import connect
from overproof.clients.local_model import source_of
from overproof.clients.protocol import Teacher
from overproof.config.teacher import TeacherConfig
from overproof.config.text_recipe import TextRecipe
from overproof.evaluate.text.rows import HeldOutRow
from overproof.evaluate.text.store import AnswerFile, Given
from overproof.evaluate.text.weight_files import weights_sha256
from overproof.records.certificate import Speed
from overproof.records.exchange import Completion, Outcome, Parameters, Request
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.lm_student import LmStudentCard

__all__ = [
    "Weights",
    "ask_weights",
    "in_parallel",
    "plain_answer",
    "requests_for",
    "speed_of",
    "weights_at",
    "weights_of",
]

T = TypeVar("T")
U = TypeVar("U")
CONCURRENCY = 16


@dataclass(frozen=True)
class Weights:
    """Weights that can be asked: how, and the hash of the files that their answers depend on."""

    config: TeacherConfig
    sha256: str


def weights_of(recipe: TextRecipe, directory: Path, card: LmStudentCard) -> Weights:
    """A finished student's: its own, or its adapter's."""
    adapter = directory / "adapter"
    return weights_at(recipe, str(adapter if card.adapter and adapter.is_dir() else directory))


def weights_at(recipe: TextRecipe, model: str) -> Weights:
    """Weights in a directory or a GGUF file, or of a name that ``overproof models`` knows.

    Raises:
        ModelError: there are none.
    """
    source, teacher = source_of(model), recipe.teacher
    local = teacher.kind == "local"
    config = TeacherConfig(
        kind="local",
        model=model,
        concurrency=CONCURRENCY,
        device=teacher.device if local else "auto",
        dtype=teacher.dtype if local else "auto",
        threads=teacher.threads if local else None,
        body={k: v for k, v in teacher.body.items() if k == "chat_template_kwargs"},
    )
    place = Path(source.place)
    if source.file is not None:
        return Weights(config, file_sha256(place / source.file))
    if not place.is_dir():  # a name on the hub: its revision says what it is
        return Weights(config, content_hash([source.place, source.revision]))
    return Weights(config, weights_sha256(place))


def requests_for(recipe: TextRecipe, rows: Sequence[HeldOutRow], model: str) -> list[Request]:
    """What is put to a student: the chat that the teacher saw, at temperature 0."""
    task = recipe.task
    limit = recipe.certificate.max_tokens or task.max_tokens
    return [
        Request(
            model=model,
            messages=row.messages,
            parameters=Parameters(
                max_tokens=limit,
                temperature=0.0,
                top_logprobs=0,
                stop=task.stop,
                tools=row.tools,
            ),
        )
        for row in rows
    ]


def plain_answer(request: Request, completion: Completion) -> Given:
    """A completion as it is kept; its weights and its time are filled in by ``ask_weights``."""
    told = completion.logprobs
    return Given(
        key=request.key,
        weights="",
        outcome=completion.outcome,
        text=completion.text,
        calls=completion.tool_calls,
        logprobs=None if told is None else tuple(each.logprob for each in told),
        output_tokens=completion.usage.output_tokens if completion.usage else None,
        latency_s=completion.latency_s,
        error=completion.error,
    )


async def ask_weights(
    weights: Weights,
    requests: Sequence[Request],
    path: Path,
    reduce: Callable[[Request, Completion], Given] = plain_answer,
    open_teacher: Callable[[TeacherConfig], Teacher] | None = None,
) -> list[Given]:
    """Answers to all requests, in order; those in the file are not asked for again.

    What failed is returned and not kept, so that a further run asks again.

    Args:
        weights: who is asked.
        requests: what; the model's name in them is replaced by the teacher's own.
        path: the file of answers.
        reduce: makes what is kept of a completion.
        open_teacher: makes a teacher of a configuration; ``connect`` where unsaid.

    Raises:
        RunError: the file cannot be written; what is in it stays.
        DataError: a line of the file is no answer.
        OverproofError: the weights cannot be loaded, or the computation broke.
    """
    with AnswerFile(path, weights.sha256) as file:
        missing = [request for request in requests if file.get(request.key) is None]
        failed: dict[str, Given] = {}
        if missing:
            session, begun = secrets.token_hex(4), time.monotonic
            async with (open_teacher or connect)(weights.config) as teacher:
                start = begun()

                async def one(request: Request) -> None:
                    named = request.model_copy(update={"model": teacher.model})
                    completion = await teacher.complete(named)
                    times = {"session": session, "finished_s": round(begun() - start, 4)}
                    given = reduce(request, completion).model_copy(
                        update={"weights": weights.sha256, **times}
                    )
                    if given.outcome is Outcome.FAILED:
                        failed[given.key] = given
                    else:
                        file.add(given)

                await in_parallel(missing, one, len(missing))
        found = [file.get(request.key) or failed.get(request.key) for request in requests]
    return [given for given in found if given is not None]


async def in_parallel(items: Iterable[T], work: Callable[[T], Awaitable[U]], width: int) -> list[U]:
    """``work`` on all items, at most ``width`` at a time; the first error ends the others."""
    turns = asyncio.Semaphore(max(1, width))

    async def one(item: T) -> U:
        async with turns:
            return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def speed_of(answers: Sequence[Given]) -> Speed:
    """Throughput and latency from the answers' own times, also over several sessions.

    The time to load the weights is not counted; latencies are those within a batch.
    """
    timed = [given for given in answers if given.outcome is not Outcome.FAILED]
    if not timed:
        return Speed(how="not measured: nothing was answered")
    ends: dict[str, float] = {}
    for given in timed:
        ends[given.session] = max(ends.get(given.session, 0.0), given.finished_s)
    busy = sum(ends.values())
    p50, p95 = np.quantile([given.latency_s for given in timed], [0.5, 0.95])
    return Speed(
        requests_per_second=len(timed) / busy if busy > 0 else None,
        latency_p50_s=float(p50),
        latency_p95_s=float(p95),
        n=len(timed),
        how=(
            f"transformers on this machine: {len(timed):,} test prompts, {CONCURRENCY} at a time, "
            "loading not counted; latency is that of a whole batch"
        ),
    )
