"""The forecast of a collection: a sample of its prompts, counted and asked, and what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from overproof.clients.pricing import age_of_price, priced
from overproof.clients.protocol import Teacher
from overproof.clients.worst_case import TOKENS_AROUND_A_MESSAGE
from overproof.collect.estimate import Caps, Estimate, Pace, Sample, cap_verdicts, estimate
from overproof.collect.spending import Spending
from overproof.config.running import BaseRecipe
from overproof.errors import OverproofError
from overproof.records.exchange import Message, Outcome, Record, Request
from overproof.records.ledger import Ledger

__all__ = ["FREE", "SAMPLE", "Forecast", "Planned", "forecast", "is_known", "obstacles"]

FREE = ("embedded", "fake", "local")
"""Kinds of teacher that cost no money to ask."""
SAMPLE = 64
"""Prompts whose tokens are counted."""
ENOUGH = 16
"""Asked prompts below which an interval of skewed lengths may be too narrow."""
BYTES_A_TOKEN = 4.0
# Measured over tokenizers, prose has 3 to 5 bytes a token; code, digits and rare scripts fewer.
GUESS = (0.6, 2.0)


class Planned(NamedTuple):
    """A prompt to ask: the requests that it needs whatever is answered, and all its calls.

    ``answers`` is how many come of it, where a call draws several; each may be as long as
    ``max_tokens`` lets it.
    """

    requests: Sequence[Request]
    calls: float
    answers: float = 0.0


class Forecast(Record):
    """What a collection will take, and what its caps will do.

    ``cached`` is how many prompts the ledger answers already. ``answered`` of ``asked`` prompts
    got a valid answer; ``problem`` says of one what was wrong. ``price`` says where the price comes
    from and how old it is. ``verdicts`` are one line a cap.
    """

    estimate: Estimate
    cached: int = 0
    asked: int = 0
    answered: int = 0
    problem: str = ""
    counted: bool = True
    price: str = ""
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Probe(NamedTuple):
    samples: list[Sample]
    asked: int
    answered: int
    problem: str
    known: set[int]


def is_known(ledger: Ledger, planned: Planned) -> bool:
    """Whether the ledger holds every first answer of a prompt."""
    return all(ledger.lookup(request.key) is not None for request in planned.requests)


def obstacles(
    in_vain: str | None, budget: OverproofError | None, left: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why what is ``left`` to ask cannot be asked, and what does no harm where nothing is.

    Args:
        in_vain: what the teacher's ``check`` said.
        budget: why a cap cannot be kept.
        left: how much is to be asked; nothing where it is 0.

    Returns:
        Problems, and notes.
    """
    if in_vain and left:
        return (in_vain,), ()
    if budget and left:
        return (str(budget),), ()
    if in_vain:
        return (), (f"the ledger has every answer, so this does no harm: {in_vain}",)
    return (), ()


async def forecast(
    recipe: BaseRecipe,
    teacher: Teacher,
    ledger: Ledger,
    prompts: Sequence[Planned],
    ask: Callable[[int], Awaitable[tuple[Sequence[str], bool, str]]],
    *,
    probe: int = 0,
    sample: int = SAMPLE,
    used: Callable[[], Spending] = Spending,
    askable: Sequence[int] | None = None,
) -> Forecast:
    """Count the tokens of some prompts, ask a few, and extrapolate.

    Args:
        recipe: for teacher, price, caps and seed.
        teacher: an open teacher.
        ledger: its answers are not asked again; the probe's are kept there.
        prompts: everything to be asked, in any order.
        ask: asks prompt ``i`` through the ledger and tells the keys of its requests, whether the
            answer is valid, and what was wrong otherwise.
        probe: how many prompts to ask. It is the caller who knows whether that costs money.
        sample: how many to count in tokens.
        used: tells what the run has spent of its caps, the probe included.
        askable: which prompts the probe may ask; all where unsaid. Held-out ones are no worse, but
            whoever reads what was asked should see none of them.

    Raises:
        OverproofError: the teacher or the budget stops the probe.
    """
    rng = np.random.default_rng(recipe.run.seed)
    order = [int(i) for i in rng.permutation(len(prompts))]
    allowed = set(range(len(prompts)) if askable is None else askable)
    to_ask = [i for i in order if i in allowed][: probe if probe > 1 else 0]
    fresh = [i for i in to_ask if not is_known(ledger, prompts[i])]
    probed = await _probe(ledger, to_ask, ask, recipe.teacher.concurrency)
    left = [i for i in order if i not in probed.known and not is_known(ledger, prompts[i])]
    counts, counted = await _count(teacher, prompts, left[:sample])
    samples = [
        _unasked(prompts[i], tokens, probed.samples)
        for i, tokens in zip(left, counts, strict=False)
    ]
    slack = (1.0, 1.0)
    if probed.samples:
        samples = await _calibrated(teacher, prompts, to_ask, probed.samples, samples)
        counted = True
    elif samples:
        slack = _slack(counted, counts, [prompts[i] for i in left])
    kind, budget = recipe.teacher, recipe.budget
    origin = priced(kind)
    made = estimate(
        [*probed.samples, *samples],
        len(left),
        max_tokens=max(
            (request.parameters.max_tokens for each in prompts for request in each.requests),
            default=0,
        ),
        price=origin.price,
        batch=kind.batch,
        pace=Pace(1.0, kind.requests_per_minute, kind.tokens_per_minute),
        apart=bool(probed.samples),
        slack=slack,
        seed=recipe.run.seed,
    )
    spent = used()
    caps = Caps(budget.max_calls, budget.max_cost_usd, budget.max_tokens,
                spent.calls, spent.usd, spent.tokens)  # fmt: skip
    return Forecast(
        estimate=made,
        cached=len(prompts) - len(left) - len(fresh),
        asked=probed.asked,
        answered=probed.answered,
        problem=probed.problem,
        counted=counted,
        price=age_of_price(origin, datetime.now(UTC).date()),
        verdicts=tuple(cap_verdicts(made, caps)) if left else (),
        notes=tuple(_notes(made, counted)),
    )


def _unasked(planned: Planned, tokens: float, asked: Sequence[Sample]) -> Sample:
    """A prompt that was counted alone; those that were asked tell how many calls it takes."""
    calls, answers = planned.calls, max(planned.answers, float(len(planned.requests)))
    if asked:
        calls = _mean([each.calls for each in asked])
        answers = _mean([each.answers for each in asked])
    return Sample(tokens * calls, calls=calls, answers=answers)


def _notes(made: Estimate, counted: bool) -> list[str]:
    notes = []
    if not counted and made.sampled:
        notes.append(
            f"the teacher does not tell its tokens: they are guessed at {BYTES_A_TOKEN:g} bytes "
            "each, and may be as few as 0.6 or as many as 2 times that"
        )
    lengths = made.output_tokens
    if 0 < made.asked < min(ENOUGH, made.prompts) and lengths.low != lengths.high:
        notes.append(
            f"only {made.asked} prompts were asked: the intervals of output, money and time may "
            f"be too narrow; ask {ENOUGH} or more"
        )
    if made.batch:
        notes.append("a batch API answers when it pleases, within a day: no time is predicted")
    return notes


async def _probe(
    ledger: Ledger,
    to_ask: Sequence[int],
    ask: Callable[[int], Awaitable[tuple[Sequence[str], bool, str]]],
    width: int,
) -> _Probe:
    """Ask prompts, the first alone to warm the teacher up, then all at once."""
    if not to_ask:
        return _Probe([], 0, 0, "", set())
    slots = asyncio.Semaphore(width)

    async def one(i: int) -> tuple[Sequence[str], bool, str]:
        async with slots:
            return await ask(i)

    said = [await ask(to_ask[0])]
    before = _answers(ledger)
    started = time.perf_counter()
    said += await asyncio.gather(*(one(i) for i in to_ask[1:]))
    elapsed = time.perf_counter() - started
    made = _answers(ledger) - before
    raw = [_sample_of(ledger, keys) for keys, _, _ in said]
    busy = sum(each.seconds or 0.0 for each in raw[1:] if each is not None)
    calls = sum(each.calls for each in raw[1:] if each is not None)
    samples = []
    for each in raw:
        if each is None or each.output_tokens is None:
            continue
        share = (each.seconds or 0.0) / busy if busy else each.calls / max(calls, 1)
        # Shares of the time that all took together: how wide the teacher works is part of it.
        seconds = elapsed * share if made else None
        samples.append(each._replace(seconds=seconds))
    if samples and raw[0] is not None and len(samples) > 1:
        samples[0] = samples[0]._replace(seconds=_mean([s.seconds or 0.0 for s in samples[1:]]))
        if not made:
            samples[0] = samples[0]._replace(seconds=None)
    wrong = next((problem for _, valid, problem in said if not valid), "")
    return _Probe(samples, len(said), sum(valid for _, valid, _ in said), wrong, set(to_ask))


def _answers(ledger: Ledger) -> int:
    return len(ledger)


def _sample_of(ledger: Ledger, keys: Sequence[str]) -> Sample | None:
    """What a prompt's answers took, ``None`` where the ledger has none of them."""
    tokens_in = tokens_out = thought = seconds = 0.0
    calls, answers, counted = 0, 0, True
    for key in keys:
        entries = ledger.recorded(key)
        exchange = ledger.lookup(key) or (entries[-1].exchange if entries else None)
        if exchange is None or exchange.completion.outcome is Outcome.FAILED:
            continue
        completion = exchange.completion
        answers += 1
        calls += completion.choice == 0
        seconds += completion.latency_s if completion.choice == 0 else 0.0
        if completion.usage is None:
            counted = False
            continue
        tokens_in += completion.usage.input_tokens
        tokens_out += completion.usage.output_tokens
        thought += completion.usage.reasoning_tokens
    if not calls:
        return None
    return Sample(tokens_in, tokens_out if counted else None, seconds, calls, thought, answers)


async def _calibrated(
    teacher: Teacher,
    prompts: Sequence[Planned],
    asked: Sequence[int],
    known: Sequence[Sample],
    guessed: list[Sample],
) -> list[Sample]:
    """Token counts brought into line with what the server counted: a template adds its own."""
    counts, _ = await _count(teacher, prompts, asked)
    per_call = sum(each.input_tokens for each in known) / max(sum(s.calls for s in known), 1)
    mean = _mean(counts)
    ratio = per_call / mean if mean and per_call else 1.0
    return [each._replace(input_tokens=each.input_tokens * ratio) for each in guessed]


async def _count(
    teacher: Teacher, prompts: Sequence[Planned], chosen: Sequence[int]
) -> tuple[list[float], bool]:
    """Tokens a call of each chosen prompt, and whether the teacher's tokenizer counted them."""
    counts, counted = [], True
    for i in chosen:
        text = "\n".join(_text(message) for message in prompts[i].requests[0].messages)
        pieces = await teacher.tokenize(text) if counted else None
        counted = pieces is not None
        size = len(text.encode(errors="replace"))
        counts.append(float(len(pieces)) if pieces is not None else size / BYTES_A_TOKEN)
    return counts, counted


def _text(message: Message) -> str:
    calls = "\n".join(f"{call.name} {call.arguments}" for call in message.tool_calls)
    return f"{message.content}\n{calls}" if calls else message.content


def _slack(
    counted: bool, counts: Sequence[float], prompts: Sequence[Planned]
) -> tuple[float, float]:
    """How far the counts may be off: a template's own tokens are not seen from here."""
    if not counted:
        return GUESS
    mean = _mean(counts) or 1.0
    messages = max((len(each.requests[0].messages) for each in prompts), default=1)
    return 1.0, (mean + TOKENS_AROUND_A_MESSAGE * messages) / mean


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
