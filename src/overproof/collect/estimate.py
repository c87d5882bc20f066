"""What a collection will take, from a sample of its prompts: calls, tokens, money, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from overproof.clients.pricing import cost_usd
from overproof.config.teacher import PriceConfig
from overproof.records.exchange import Record, Usage
from overproof.stats.totals import population_total

__all__ = ["Caps", "Estimate", "Pace", "Range", "Sample", "cap_verdicts", "estimate"]


class Range(Record):
    """A figure with its interval at 95 %.

    ``estimate`` is ``None`` where only bounds are known, ``high`` where there is no upper one.
    """

    estimate: float | None = None
    low: float = 0.0
    high: float | None = None

    def scaled(self, factor: float) -> Range:
        """Every figure times ``factor``."""
        return Range(
            estimate=None if self.estimate is None else self.estimate * factor,
            low=self.low * factor,
            high=None if self.high is None else self.high * factor,
        )


class Sample(NamedTuple):
    """One sampled prompt: all the calls that it takes, together.

    ``output_tokens`` and ``seconds`` are ``None`` where it was not asked. Tokens of reasoning are
    part of the output. ``seconds`` is the time from sending to answer, summed over its calls.
    ``answers`` is how many it takes, where a call draws several.
    """

    input_tokens: float
    output_tokens: float | None = None
    seconds: float | None = None
    calls: float = 1
    reasoning_tokens: float = 0.0
    answers: float = 0.0


class Pace(NamedTuple):
    """What bounds the speed: calls in flight, and caps a minute."""

    concurrency: float = 1.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Caps(NamedTuple):
    """The caps of ``[budget]`` and what the run has used of them already."""

    max_calls: int | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    calls: int = 0
    usd: float = 0.0
    tokens: int = 0


class Estimate(Record):
    """What asking the remaining prompts will take.

    ``sampled`` prompts were counted in tokens, ``asked`` of them answered. Without answers, output
    and cost have bounds and no estimate. ``cost_usd`` is at the price that the recipe pays,
    ``full_usd`` and ``batch_usd`` say it for both roads, and all are ``None`` where the price is
    unknown. ``worst_tokens`` and ``worst_usd``: every answer is as long as it may be. ``seconds``
    is ``None`` for a batch API, which answers when it pleases.
    """

    prompts: int
    sampled: int
    asked: int
    calls: Range
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None = None
    full_usd: Range | None = None
    batch_usd: Range | None = None
    batch: bool = False
    worst_tokens: float = 0.0
    worst_usd: float | None = None
    seconds: Range | None = None


class _Sampled(NamedTuple):
    """The sample, those of it that were asked, and what is to be extrapolated to."""

    samples: Sequence[Sample]
    asked: Sequence[Sample]
    prompts: int
    apart: bool
    rng: np.random.Generator

    def all(self, figure: Callable[[Sample], float]) -> Range:
        """The sum of a figure that every sample has."""
        return self._sum(self.samples, figure, None)

    def of_asked(self, figure: Callable[[Sample], float], most: float | None = None) -> Range:
        """The sum of a figure that only asked samples have; ``most`` bounds one prompt's."""
        return self._sum(self.asked, figure, most)

    def _sum(
        self, of: Sequence[Sample], figure: Callable[[Sample], float], most: float | None
    ) -> Range:
        values = np.array([figure(sample) for sample in of], float)
        unseen = self.prompts if self.apart else max(self.prompts - len(of), 0)
        found = population_total(values, unseen, self.prompts, self.rng, most=most)
        return Range(**found._asdict()) if found else Range()


def estimate(
    samples: Sequence[Sample],
    prompts: int,
    *,
    max_tokens: int,
    price: PriceConfig,
    batch: bool = False,
    pace: Pace | None = None,
    apart: bool = False,
    slack: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> Estimate:
    """Extrapolate from sampled prompts to all.

    Args:
        samples: the sampled prompts, drawn at random; those asked carry output and seconds.
        prompts: how many are still to be asked.
        max_tokens: the most that one answer may have.
        price: in US dollars a million tokens. A cache is not counted on: it may only make it less.
        batch: whether a batch API is asked, at ``price.batch`` of the price.
        pace: what bounds the speed.
        apart: the samples are not among ``prompts``, as where their answers are kept already.
        slack: factors on the ends of the input tokens where they are not counted but guessed.
        seed: of the bootstrap; the same seed gives the same interval.
    """
    asked = [sample for sample in samples if sample.output_tokens is not None]
    sampled = _Sampled(samples, asked, prompts, apart, np.random.default_rng(seed))
    most_answers = max((_answers(sample) for sample in samples), default=1)
    sum_of = sampled.of_asked if len(asked) > 1 else sampled.all
    calls = sum_of(lambda sample: sample.calls)
    tokens_in = _stretched(sampled.all(lambda sample: sample.input_tokens), slack)
    most_out = _end(sum_of(_answers)) * max_tokens
    if asked:
        tokens_out = sampled.of_asked(_out, most_answers * max_tokens)
    else:
        tokens_out = Range(low=0.0, high=most_out)
    full = _money(sampled, tokens_out, price, slack)
    factor = _factor(price)
    worst = _cost(price, Sample(tokens_in.high or 0.0, most_out, calls=max(_end(calls), 1)))
    return Estimate(
        prompts=prompts,
        sampled=len(samples),
        asked=len(asked),
        calls=calls,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cost_usd=full.scaled(factor) if full and batch else full,
        full_usd=full,
        batch_usd=full.scaled(factor) if full else None,
        batch=batch,
        worst_tokens=(tokens_in.high or 0.0) + most_out,
        worst_usd=None if worst is None else worst * (factor if batch else 1.0),
        seconds=None if batch else _time(sampled, (calls, tokens_in, tokens_out), pace or Pace()),
    )


def _answers(sample: Sample) -> float:
    return max(sample.answers, sample.calls)


def _out(sample: Sample) -> float:
    return sample.output_tokens or 0.0


def _factor(price: PriceConfig) -> float:
    """What a batch API charges of ``price``."""
    unit = price.model_copy(update={"input": 1.0, "output": 1.0, "long": None})
    return (cost_usd(unit, Usage(input_tokens=10**6), batch=True) or 0.0) / (
        cost_usd(unit, Usage(input_tokens=10**6)) or 1.0
    )


def _cost(price: PriceConfig, sample: Sample) -> float | None:
    """The cost of a sample; whether a prompt is long is decided by the mean of its calls."""
    scale = 1000.0 / sample.calls  # usage counts whole tokens, and a call's share is none
    usage = Usage(
        input_tokens=round(sample.input_tokens * scale),
        output_tokens=round(_out(sample) * scale),
        reasoning_tokens=round(sample.reasoning_tokens * scale),
    )
    if price.long is not None:
        long = price.long.model_copy(update={"tokens": price.long.tokens * 1000})
        price = price.model_copy(update={"long": long})
    cost = cost_usd(price, usage)
    return None if cost is None else cost / scale


def _money(
    sampled: _Sampled, tokens_out: Range, price: PriceConfig, slack: tuple[float, float]
) -> Range | None:
    """US dollars: sample by sample where all were asked, else from input and output apart."""
    if price.input is None or price.output is None:
        return None

    def dollars(sample: Sample) -> float:
        return _cost(price, sample) or 0.0

    if len(sampled.asked) == len(sampled.samples) > 1 and slack == (1.0, 1.0):
        return sampled.of_asked(dollars)
    of_input = sampled.all(lambda each: dollars(each._replace(output_tokens=0.0)))
    of_input = _stretched(of_input, slack)
    dearest = price.output if price.long is None else max(price.output, price.long.output)
    of_output = tokens_out.scaled(dearest / 1e6)
    if sampled.asked:
        of_output = sampled.of_asked(lambda each: dollars(each) - dollars(_unanswered(each)))
    # Long prompts tend to have long answers, so the ends are added, not their squares: the
    # interval covers at least 95 %.
    return _added(of_input, of_output)


def _unanswered(sample: Sample) -> Sample:
    return sample._replace(output_tokens=0.0, reasoning_tokens=0.0)


def _time(sampled: _Sampled, sums: tuple[Range, Range, Range], pace: Pace) -> Range | None:
    """Seconds: what the answers take at this width, or the caps a minute where those are slower."""
    calls, tokens_in, tokens_out = sums
    timed = bool(sampled.asked) and all(each.seconds is not None for each in sampled.asked)
    parts: list[Range] = []
    if timed:
        busy = sampled.of_asked(lambda each: each.seconds or 0.0)
        parts.append(busy.scaled(1 / max(pace.concurrency, 1e-9)))
    if pace.requests_per_minute:
        parts.append(calls.scaled(60 / pace.requests_per_minute))
    if pace.tokens_per_minute:
        parts.append(_added(tokens_in, tokens_out).scaled(60 / pace.tokens_per_minute))
    if not parts:
        return None
    known = [part.estimate for part in parts if part.estimate is not None]
    ends = [part.high for part in parts if part.high is not None]
    return Range(
        # Without a timed answer a cap tells only that it cannot be faster.
        estimate=max(known) if timed and known else None,
        low=max(part.low for part in parts),
        high=max(ends) if timed and len(ends) == len(parts) else None,
    )


def cap_verdicts(made: Estimate, caps: Caps) -> list[str]:
    """What each cap of the budget will do, in words; none for a cap that is not set."""
    lines = []
    kinds: list[tuple[str, str, float | None, float, Range | None]] = [
        ("the cap of {:,.0f} calls", "calls", caps.max_calls, caps.calls, made.calls),
        ("the cap of ${:,.2f}", "money", caps.max_cost_usd, caps.usd, made.cost_usd),
        (
            "the cap of {:,.0f} tokens",
            "tokens",
            caps.max_tokens,
            caps.tokens,
            _added(made.input_tokens, made.output_tokens),
        ),
    ]
    for words, what, cap, used, needed in kinds:
        if cap is None or needed is None:
            continue
        name, left = words.format(cap), max(cap - used, 0.0)
        if needed.high is not None and needed.high <= left:
            lines.append(f"{name} is not reached")
        elif needed.estimate is None and needed.high is None:
            lines.append(f"whether {name} is reached cannot be told: nothing was sampled")
        elif needed.estimate is None:
            share = left / (needed.high or 1.0)
            lines.append(f"{name} may stop it after {share:.0%} of the {what} at the worst")
        elif needed.estimate <= left:
            lines.append(f"{name} may stop it just before the end: the interval passes it")
        else:
            most = min(left / needed.low, 1.0) if needed.low else 1.0
            least = left / needed.high if needed.high else 0.0
            ends = f" ({least:.0%} to {most:.0%})" if f"{least:.0%}" != f"{most:.0%}" else ""
            lines.append(f"{name} would stop it after about {left / needed.estimate:.0%}{ends}")
    return lines


def _added(one: Range, other: Range) -> Range:
    known = one.estimate is not None and other.estimate is not None
    ends = one.high is not None and other.high is not None
    return Range(
        estimate=(one.estimate or 0.0) + (other.estimate or 0.0) if known else None,
        low=one.low + other.low,
        high=(one.high or 0.0) + (other.high or 0.0) if ends else None,
    )


def _stretched(of: Range, slack: tuple[float, float]) -> Range:
    high = None if of.high is None else of.high * slack[1]
    return of.model_copy(update={"low": of.low * slack[0], "high": high})


def _end(of: Range) -> float:
    return of.high if of.high is not None else (of.estimate or 0.0)
